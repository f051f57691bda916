// Watching a person's camera in real browsers: consent requested, given, refused, withdrawn; one upload for all
// watchers; people on the wall; streams published by programs such as OBS.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { carried, fakeBrowser, person, press, seesGreen, there } from "./people.js";
import { gatehouse, openPage, until } from "./support.js";

const expected = /Failed to load resource|WebSocket connection/;
const stage = ".watch-stage video";

describe("with consent", () => {
  let server;
  let first;
  let second;
  before(async () => {
    server = await gatehouse();
    for (const name of ["anna", "bert", "carl"]) server.addUser(name);
    server.addUser("dora", "dispatcher");
    [first, second] = await Promise.all([fakeBrowser(), fakeBrowser()]);
  });
  after(async () => {
    await Promise.all([first.close(), second.close()]);
    await server.stop();
  });

  async function two(t, options = {}) {
    const [anna, bert] = await Promise.all([person(first, server, "anna"), person(second, server, "bert", options)]);
    t.after(() => Promise.all([anna.close(), bert.close()]));
    return { anna, bert, a: anna.page, b: bert.page };
  }

  const watching = (page) => page.locator('.watch-stage[data-watch="playing"]').waitFor();
  const ended = (page, code) => page.locator(`.watch-stage [data-code="${code}"]`).waitFor();
  const notice = (page) => page.locator("[data-watched]");
  const cameraIsOff = (page) => until("the camera is released", () => page.evaluate(() => globalThis.desk.watched.stream === null));

  test("asked, allowed, seen, and stopped by the person", async (t) => {
    const { anna, bert, a, b } = await two(t, { path: "/" });
    await press(a, "bert", "watch");
    await a.getByText("bert is being asked…").waitFor();
    await b.locator('[data-question="anna"]').getByText("anna wants to watch your camera").waitFor();
    assert.equal(await b.evaluate(() => globalThis.desk.watched.live), false, "the camera is off before the answer");
    await b.locator("[data-allow]").click();
    await watching(a);
    await seesGreen(a, stage);
    await notice(b).getByText("being watched by anna").waitFor();
    await b.locator("[data-stop]").click();
    const start = Date.now();
    await cameraIsOff(b);
    await ended(a, "stopped");
    assert.ok(Date.now() - start < 1_000, "within a second");
    await notice(b).waitFor({ state: "detached" });
    const { entries } = await server.api("GET", "/api/admin/log?action=watch");
    const entry = entries.find(({ target }) => target === "user/bert/camera");
    assert.equal(entry.actor, "anna");
    await until("the end is in the log", async () => {
      const { entries } = await server.api("GET", "/api/admin/log?action=watch");
      return entries.find(({ id }) => id === entry.id).until;
    });
    anna.check(expected);
    bert.check(expected);
  });

  test("refused; and asked again", async (t) => {
    const { a, b } = await two(t);
    await press(a, "bert", "watch");
    await b.locator("[data-refuse]").click();
    await ended(a, "refused");
    // Not at once: the page says how long to wait.
    const again = a.getByRole("button", { name: "Ask again" });
    await again.click();
    await a.getByText(/You can ask again in \d+ s/).waitFor();
    await until("it is asked again", async () => {
      if (await again.isVisible()) await again.click();
      return b.locator("[data-allow]").isVisible();
    });
    await b.locator("[data-allow]").click();
    await watching(a);
    // Closing the window stops watching: the camera is released some seconds later.
    await a.keyboard.press("Escape");
    await notice(b).waitFor({ state: "detached" });
    await cameraIsOff(b);
  });

  test("two watchers, one upload; the remaining one keeps the video", async (t) => {
    const { a, b } = await two(t);
    const carl = await person(first, server, "carl");
    t.after(carl.close);
    for (const page of [a, carl.page]) {
      await press(page, "bert", "watch");
      await b.locator("[data-allow]").click();
      await watching(page);
    }
    await Promise.all([seesGreen(a, stage), seesGreen(carl.page, stage)]);
    await notice(b).getByText("anna, carl").waitFor();
    const pages = [a, b, carl.page];
    const before = await Promise.all(pages.map(carried));
    await until("enough has been sent", async () => (await carried(b)).sent - before[1].sent > 120_000);
    const now = await Promise.all(pages.map(carried));
    assert.equal(now[1].outgoing, 1, "one upload");
    const sent = now[1].sent - before[1].sent;
    const received = now[0].received - before[0].received + now[2].received - before[2].received;
    assert.ok(received > 1.4 * sent && received < 2.4 * sent, `${sent} up, ${received} down`);
    await a.keyboard.press("Escape");
    await notice(b).getByText("by carl").waitFor();
    await seesGreen(carl.page, stage);
  });

  test("a rule instead of a question; removing it ends the session at once", async (t) => {
    const { b } = await two(t, { path: "/account" });
    const dora = await person(first, server, "dora");
    t.after(dora.close);
    // The first save is slow, and the second one must not be lost because of it.
    const slow = new Promise((resolve) => setTimeout(resolve, 400));
    await b.route("**/api/me/preferences", async (route) => {
      await slow;
      await route.continue();
    });
    await b.locator("#reach select").first().selectOption("role:dispatcher");
    await b.locator("#reach [name=others]").selectOption("never");
    await b.locator("#reach .notice.good").waitFor();
    await press(dora.page, "bert", "watch");
    await watching(dora.page);
    await seesGreen(dora.page, stage);
    await notice(b).getByText("dora").waitFor();
    await b.locator("#reach .chip button").first().click();
    await ended(dora.page, "withdrawn");
    await dora.page.getByRole("button", { name: "Ask again" }).click();
    await ended(dora.page, "watch_never");
    await cameraIsOff(b);
    await b.locator("#reach [name=others]").selectOption("ask");
    await b.locator("#reach .notice.good").waitFor();
  });

  test("a person on the wall next to the cameras; video recovers after a reload on either side", async (t) => {
    const { a, b } = await two(t);
    await press(a, "bert", "watch");
    await b.locator("[data-allow]").click();
    await watching(a);
    await a.getByRole("button", { name: "Put on the wall" }).click();
    await a.goto(server.url);
    const tile = 'gh-person-tile[data-person="bert"]';
    await a.locator(`${tile}[data-state="playing"]`).waitFor();
    await seesGreen(a, `${tile} video`);
    await a.locator('gh-camera-tile[data-camera="demo"][data-state="live"]').waitFor();
    // The person's page is reloaded: consent remains valid, nobody is asked again.
    await b.reload();
    await there(b);
    await notice(b).waitFor();
    await until("video is back", () => b.evaluate(() => globalThis.desk.watched.publisher?.state === "live"));
    await seesGreen(a, `${tile} video`);
    assert.equal(await b.locator("[data-question]").count(), 0);
    await a.locator(tile).hover();
    await a.locator(tile).getByRole("button", { name: "Take off the wall" }).click();
    await a.locator(tile).waitFor({ state: "detached" });
    await cameraIsOff(b);
  });

  test("a logout of the person ends the session within a second", async (t) => {
    const { a, b } = await two(t, { path: "/account" });
    await press(a, "bert", "watch");
    await b.locator("[data-allow]").click();
    await watching(a);
    const start = Date.now();
    await b.getByRole("button", { name: "Log out" }).click();
    await ended(a, "lost");
    assert.ok(Date.now() - start < 2_000, `${Date.now() - start} ms`);
  });

  test("watchers are told that a device has no camera", async (t) => {
    const { a, b } = await two(t);
    await b.evaluate(() => {
      navigator.mediaDevices.getUserMedia = async () => {
        throw new DOMException("x", "NotFoundError");
      };
    });
    await press(a, "bert", "watch");
    await b.locator("[data-allow]").click();
    await ended(a, "camera_failed");
    await notice(b).waitFor({ state: "detached" });
  });

  test("a publisher that disappears is detected, and recovers automatically", async (t) => {
    const third = await fakeBrowser();
    const anna = await person(first, server, "anna");
    t.after(anna.close);
    const carl = await person(third, server, "carl");
    await press(anna.page, "carl", "watch");
    await carl.page.locator("[data-allow]").click();
    await watching(anna.page);
    // The connection is cut without notice, as when a battery is removed.
    await carl.page.evaluate(() => {
      const { watched } = globalThis.desk;
      watched.publisher.peer.onconnectionstatechange = null;
      watched.publisher.location = "";
      watched.publisher.peer.close();
    });
    await anna.page.locator('.watch-stage[data-watch="connecting"]').waitFor();
    await carl.page.reload();
    await watching(anna.page);
    await seesGreen(anna.page, stage);
    await third.close();
    await anna.page.locator(".watch-stage [data-code], .watch-stage[data-watch=connecting]").first().waitFor();
  });
});

test("a stream published by a program is on the wall like a camera", async () => {
  const server = await gatehouse('[[camera]]\nid = "stage"\nname = "Stage"\nurl = "whip:"\n');
  const chromium = await fakeBrowser();
  const { page, close } = await openPage(chromium, server);
  await page.goto(server.url);
  const tile = page.locator('gh-camera-tile[data-camera="stage"]');
  await tile.getByText("Nobody publishes this stream at the moment.").waitFor();
  const publishing = await openPage(chromium, server);
  await publishing.page.goto(server.url);
  await publishing.page.evaluate(async (token) => {
    const { WhipPublisher } = await import("/js/whip-publisher.js");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: true });
    globalThis.publisher = new WhipPublisher("/whip/camera/stage", { token });
    for (const track of stream.getTracks()) globalThis.publisher.setTrack(track.kind, track);
    globalThis.publisher.start();
  }, server.token);
  await page.locator('gh-camera-tile[data-camera="stage"][data-state="live"]').waitFor();
  await seesGreen(page, 'gh-camera-tile[data-camera="stage"] video');
  // The network changes: an ICE restart by PATCH, and video continues.
  const restarted = publishing.page.waitForResponse((response) => response.request().method() === "PATCH");
  await publishing.page.evaluate(() => globalThis.publisher.restart());
  assert.equal((await restarted).status(), 200);
  await seesGreen(page, 'gh-camera-tile[data-camera="stage"] video');
  // A GOP that is too long to be replayed: when a viewer joins, the publisher is asked for a key frame.
  const sent = () =>
    publishing.page.evaluate(async () => {
      const report = await globalThis.publisher.peer.getStats();
      return [...report.values()].find((entry) => entry.type === "outbound-rtp" && entry.kind === "video");
    });
  await publishing.page.evaluate(() => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [640, 360];
    const context = canvas.getContext("2d");
    const noise = context.createImageData(320, 360);
    setInterval(() => {
      context.fillStyle = "#008000";
      context.fillRect(0, 0, 640, 360);
      for (let index = 0; index < noise.data.length; index++) noise.data[index] = index % 4 === 3 ? 255 : Math.random() * 255;
      context.putImageData(noise, 320, 0);
    }, 50);
    const [track] = canvas.captureStream().getVideoTracks();
    // Otherwise the encoder changes the resolution on a slow machine, and with it begins a new GOP.
    track.contentHint = "detail";
    globalThis.publisher.setTrack("video", track);
  });
  // What the encoder has sent since its last key frame.
  let gop = { keyFrames: -1, start: 0 };
  const before = await until("the GOP is long", async () => {
    const entry = await sent();
    if (entry.keyFramesEncoded !== gop.keyFrames) gop = { keyFrames: entry.keyFramesEncoded, start: entry.bytesSent };
    return entry.bytesSent - gop.start > 800_000 && entry;
  });
  const late = await openPage(chromium, server);
  await late.page.goto(server.url);
  await seesGreen(late.page, 'gh-camera-tile[data-camera="stage"] video');
  const after = await sent();
  assert.ok(after.pliCount > before.pliCount, `${before.pliCount} requests for key frames before, ${after.pliCount} after`);
  assert.ok(after.keyFramesEncoded > before.keyFramesEncoded);
  await late.close();
  await publishing.page.evaluate(() => globalThis.publisher.stop());
  await tile.getByText("Nobody publishes this stream at the moment.").waitFor();
  await publishing.close();
  await close();
  await chromium.close();
  await server.stop();
});
