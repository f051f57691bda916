// Calls between people in real browsers: ringing, answering, all kinds of endings, media by both routes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { accept, call, fakeBrowser, hears, incoming, loudest, over, person, press, seeAndHear, seesGreen, silent, talking, there } from "./people.js";
import { PASSWORD, gatehouse, openPage, until } from "./support.js";

/** Console errors that are expected when a socket is cut, a page is left or a stream has ended. */
const expected = /Failed to load resource|WebSocket connection/;

describe("between people", () => {
  let server;
  let first;
  let second;
  before(async () => {
    server = await gatehouse();
    for (const name of ["anna", "bert", "carl"]) server.addUser(name);
    [first, second] = await Promise.all([fakeBrowser(), fakeBrowser()]);
  });
  after(async () => {
    await Promise.all([first.close(), second.close()]);
    await server.stop();
  });

  /** Two people, each in their own browser, with no state left over from the previous test. */
  async function two(t, options = {}) {
    const [anna, bert] = await Promise.all([person(first, server, "anna"), person(second, server, "bert", options)]);
    const close = () => Promise.all([anna.close(), bert.close()]);
    t.after(close);
    return { anna, bert, a: anna.page, b: bert.page };
  }

  test("a call rings, is accepted, both see and hear each other, and hang up", async (t) => {
    const { anna, bert, a, b } = await two(t, { path: "/" });
    await call(a, "bert");
    await a.locator("[data-calling]").getByText("It rings…").waitFor();
    await incoming(b);
    assert.match(await b.title(), /anna is calling|Gatehouse/);
    await until("the title announces the call", async () => /anna is calling/.test(await b.title()));
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await seeAndHear(a, b);
    await a.locator("[data-route-shown]").getByText("direct").waitFor();
    await a.locator('[data-person="bert"][data-state="in_call"]').waitFor({ state: "attached" });
    await a.locator("[data-hangup]").click();
    await Promise.all([silent(a), silent(b)]);
    await over(b, "hangup");
    assert.equal(await b.evaluate(() => document.querySelectorAll(".call").length), 0);
    await a.goto(`${server.url}/people#history`);
    await a.locator("[data-past]").first().getByText(/called · with picture · 0:/).waitFor();
    anna.check(expected);
    bert.check(expected);
  });

  test("mute: the level falls on the other side; the camera goes off and on", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await seeAndHear(a, b);
    await a.locator("[data-tool=mute]").click();
    await b.locator(".call-note").getByText("The other side is muted").waitFor();
    await until("nothing is heard", async () => (await loudest(b, 2_500)) < 0.001);
    await a.locator("[data-tool=mute]").click();
    await hears(b);
    await a.locator("[data-tool=camera]").click();
    await b.locator(".call-faceless").waitFor();
    assert.equal(await a.evaluate(() => globalThis.desk.calls.current.local.camera), null, "the camera is released");
    await a.locator("[data-tool=camera]").click();
    await b.locator(".call-faceless").waitFor({ state: "detached" });
    await seesGreen(b, ".call-face video");
    await a.locator("[data-hangup]").click();
    // Before the pages close: the next test calls the same people.
    await silent(b);
  });

  test("a screen is shared in addition to the camera", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await a.locator("[data-tool=screen]").click();
    await b.locator(".call-stage.sharing").waitFor();
    await until("the screen is seen", () => b.locator(".call-board video").evaluate((video) => video.videoWidth > 0 && video.getVideoPlaybackQuality().totalVideoFrames > 3));
    await seesGreen(b, ".call-face video");
    await a.locator("[data-tool=screen]").click();
    await b.locator(".call-stage:not(.sharing)").waitFor();
    await a.locator("[data-hangup]").click();
    // Before the pages close: the next test calls the same people.
    await silent(b);
  });

  test("rings on two devices and stops on one when the other answers", async (t) => {
    const { a, b } = await two(t);
    const tablet = await person(first, server, "bert", { path: "/account" });
    await call(a, "bert");
    await Promise.all([incoming(b), incoming(tablet.page)]);
    await accept(tablet.page);
    await b.locator("[data-incoming]").waitFor({ state: "detached" });
    await Promise.all([talking(a), talking(tablet.page)]);
    assert.equal(await b.locator(".call").count(), 0);
    await tablet.page.locator("[data-hangup]").click();
    await silent(a);
    await tablet.close();
  });

  test("rejected with a message, cancelled, missed with a badge, called back", async (t) => {
    const { a, b } = await two(t);
    await press(a, "bert", "call-sound");
    await incoming(b);
    await b.getByRole("button", { name: "With a word…" }).click();
    await b.locator("[name=message]").fill("nicht jetzt / 现在不行");
    await b.keyboard.press("Enter");
    await over(a, "rejected");
    await a.getByText("现在不行").waitFor();
    await a.getByRole("button", { name: "Call again" }).click();
    await incoming(b);
    await a.locator("[data-cancel]").click();
    await b.locator("[data-incoming]").waitFor({ state: "detached" });
    await b.locator("[data-missed]").getByText("1").waitFor();
    await b.getByRole("link", { name: /Calls/ }).click();
    const missed = b.locator('[data-past][data-missed="true"]').first();
    await missed.getByText("missed").waitFor();
    await b.locator("nav.tabs [data-missed]").waitFor({ state: "detached" });
    await missed.getByRole("button", { name: "Call back" }).click();
    await incoming(a);
    await accept(a);
    await Promise.all([talking(a), talking(b)]);
    await a.locator("[data-hangup]").click();
    // Before the pages close: the next test calls the same people.
    await silent(b);
  });

  test("somebody who comes online does not move the row that is pointed at", async (t) => {
    const { a, b } = await two(t);
    const rows = () => a.locator("[data-person]").evaluateAll((rows) => rows.map(({ dataset }) => dataset.person));
    await a.locator('[data-person="bert"] [data-call-video]').hover();
    assert.deepEqual(await rows(), ["bert", "admin", "carl"]);
    const admin = await person(first, server, "admin");
    await a.locator('[data-person="admin"][data-state="free"]').waitFor();
    assert.deepEqual(await rows(), ["bert", "admin", "carl"], "held while the pointer is there");
    await a.mouse.down();
    await a.mouse.up();
    await incoming(b);
    await a.locator("[data-cancel]").click();
    await b.locator("[data-incoming]").waitFor({ state: "detached" });
    const row = await a.locator('[data-person="bert"]').elementHandle();
    await a.mouse.move(5, 5);
    await until("the order is by name again", async () => (await rows()).join() === "admin,bert,carl");
    assert.equal(await row.evaluate(({ dataset }) => dataset.person), "bert", "the row has moved as a whole");
    await admin.close();
  });

  test("busy, do not disturb, offline", async (t) => {
    const { a, b } = await two(t);
    const carl = await person(first, server, "carl");
    const admin = await person(first, server, "admin");
    // The previous test has called the same people.
    await a.locator('[data-person="bert"][data-state="free"]').waitFor();
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    // A second call waits; the third is refused as busy.
    await call(carl.page, "bert");
    await carl.page.locator("[data-calling]").getByText("In another call").waitFor();
    await b.locator("[data-incoming]").getByText("while you are in a call").waitFor();
    await call(admin.page, "bert");
    await over(admin.page, "callee_busy");
    // Put the first on hold, talk to the second, and switch back.
    await b.getByRole("button", { name: "Hold and accept" }).click();
    await talking(carl.page);
    await a.getByText("The other side has put the call on hold").waitFor();
    await seeAndHear(carl.page, b);
    await b.locator(".call-note").getByRole("button", { name: "Take up again" }).click();
    await carl.page.getByText("The other side has put the call on hold").waitFor();
    await seeAndHear(a, b);
    await b.locator("[data-hangup]").click();
    await silent(a);
    await carl.page.locator("[data-hangup]").click();
    await b.locator("#dnd").check();
    await a.locator('[data-person="bert"][data-state="dnd"]').waitFor();
    await call(a, "bert");
    await over(a, "callee_dnd");
    await b.locator("#dnd").uncheck();
    await a.locator('[data-person="bert"][data-state="free"]').waitFor();
    await bye(b);
    await until("he is shown as offline", async () => (await a.locator('[data-person="bert"]').getAttribute("data-state")) === "offline");
    assert.equal(await a.locator('[data-person="bert"] [data-call-video]').isDisabled(), true);
    await carl.close();
    await admin.close();
  });

  /** Logs out in the page. */
  async function bye(page) {
    await page.goto(`${server.url}/account`);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL("**/login");
  }

  test("simultaneous calls to each other become one", async (t) => {
    const { a, b } = await two(t);
    await Promise.all([a, b].map((page) => page.evaluate(() => void globalThis.desk.calls.invite(globalThis.desk.me.name === "anna" ? "bert" : "anna", true))));
    await Promise.all([talking(a), talking(b)]);
    await seeAndHear(a, b);
    assert.deepEqual(await Promise.all([a, b].map((page) => page.evaluate(() => globalThis.desk.calls.calls.size))), [1, 1]);
    await a.locator("[data-hangup]").click();
    await silent(b);
  });

  test("without a direct connection the call goes through the server automatically", async (t) => {
    const { anna, bert, a, b } = await two(t);
    // As behind a firewall: no candidate of the other browser is usable. The server's candidates are in its answers.
    for (const page of [a, b]) await page.evaluate(() => { RTCPeerConnection.prototype.addIceCandidate = async () => {}; });
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a, "server"), talking(b, "server")]);
    await seeAndHear(a, b);
    await a.locator("[data-route-shown]").getByText("via server").waitFor();
    await a.locator("[data-tool=mute]").click();
    await until("nothing is heard", async () => (await loudest(b, 2_500)) < 0.001);
    await a.locator("[data-tool=screen]").click();
    await until("the screen is seen", () => b.locator(".call-board video").evaluate((video) => video.videoWidth > 0 && video.getVideoPlaybackQuality().totalVideoFrames > 3));
    // The other page is reloaded: it rejoins by the same route.
    b.once("dialog", (dialog) => dialog.accept());
    await b.reload();
    await b.locator("[data-rejoin]").click();
    await talking(b, "server");
    await seesGreen(b, ".call-face video");
    await a.locator("[data-hangup]").click();
    await silent(b);
    await until("nothing is left on the server", async () => (await server.api("GET", "/api/cameras")).cameras.every(({ viewers }) => viewers === 0));
    anna.check(expected);
    bert.check(expected);
  });

  test("a call whose direct connection is lost for good continues through the server", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await seeAndHear(a, b);
    await a.evaluate(() => {
      const { link } = globalThis.desk.calls.current;
      link.peer.close();
      link.closed = true;
    });
    await Promise.all([talking(a, "server"), talking(b, "server")]);
    await seeAndHear(a, b);
    await b.locator("[data-hangup]").click();
    await silent(a);
  });

  test("unplugging a microphone is not treated as a lost connection", async (t) => {
    const { a, b } = await two(t);
    await press(a, "bert", "call-sound");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await hears(b);
    await b.evaluate(() => {
      const { calls } = globalThis.desk;
      globalThis.states = new Set();
      calls.addEventListener("change", () => globalThis.states.add(calls.current?.state));
    });
    await a.evaluate(() => {
      // The next microphone is slow to open.
      navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
      const { audio } = globalThis.desk.calls.current.local;
      audio.stop();
      audio.dispatchEvent(new Event("ended"));
    });
    await b.locator(".call-note").getByText("The other side is muted").waitFor();
    const looks = () => b.evaluate(() => globalThis.desk.calls.current.looks);
    const before = await looks();
    await until("the check for a lost connection has run long enough", async () => (await looks()) > before + 12);
    assert.deepEqual(await b.evaluate(() => [...globalThis.states]), ["connected"]);
    await a.locator("[data-hangup]").click();
    await silent(b);
  });

  test("losing the signaling connection in mid-call does not end it, and missed frames arrive", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await seeAndHear(a, b);
    const id = await b.locator(".call").getAttribute("data-call");
    await b.evaluate(() => {
      globalThis.frames = globalThis.desk.people;
      globalThis.desk.line.socket.close(4999);
    });
    // While the connection is down: bert must learn later what anna does now.
    await a.locator("[data-tool=mute]").click();
    await b.locator(".call-note").getByText("The other side is muted").waitFor();
    await there(b);
    assert.equal(await b.evaluate(() => globalThis.frames === globalThis.desk.people), true, "resumed, not a new session");
    assert.equal(await b.locator(".call").getAttribute("data-call"), id);
    await talking(b);
    await a.locator("[data-tool=mute]").click();
    await hears(b);
    await a.locator("[data-hangup]").click();
    await silent(b);
  });

  test("a page that is reloaded offers to rejoin", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    for (const page of [a, b]) {
      page.once("dialog", (dialog) => dialog.accept());
      await page.reload();
      await page.locator("[data-rejoin]").click();
      await Promise.all([talking(a), talking(b)]);
      await seeAndHear(a, b);
    }
    await a.locator("[data-hangup]").click();
    await silent(b);
  });

  test("a call is answered over an open dialog", async (t) => {
    const { a, b } = await two(t);
    await b.getByRole("button", { name: "Camera and microphone" }).click();
    await until("the preview is shown", () => b.locator(".check-mirror video").evaluate((video) => video.videoWidth > 0));
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await b.keyboard.press("Escape");
    await b.locator("dialog").waitFor({ state: "detached" });
    await seesGreen(b, ".call-face video");
    await b.locator("[data-hangup]").click();
    await silent(a);
  });

  test("a held call is not lost when the other one ends", async (t) => {
    const { a, b } = await two(t);
    const carl = await person(first, server, "carl");
    t.after(carl.close);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    await call(carl.page, "bert");
    await b.getByRole("button", { name: "Hold and accept" }).click();
    await talking(carl.page);
    await carl.page.locator("[data-hangup]").click();
    await b.locator(".call-faceless").getByText("You have put the call on hold").waitFor();
    await b.locator("[data-tool=hold]").click();
    await seeAndHear(a, b);
    await b.locator("[data-hangup]").click();
    await silent(a);
  });

  test("a second call that does not come about takes the first one off hold", async (t) => {
    const { a, b } = await two(t);
    await call(a, "bert");
    await incoming(b);
    await accept(b);
    await Promise.all([talking(a), talking(b)]);
    server.addUser("emma");
    await a.locator('[data-person="emma"]').waitFor({ state: "attached" });
    await a.evaluate(() => globalThis.desk.calls.invite("emma", true));
    await over(a, "callee_offline");
    assert.equal(await a.evaluate(() => globalThis.desk.calls.current.held.here), false);
    await until("the other side is told", () => b.evaluate(() => !globalThis.desk.calls.current.held.there));
    await seeAndHear(a, b);
    await a.locator("[data-hangup]").click();
    await silent(b);
  });

  test("an intercom accepts automatically, and shows it", async (t) => {
    const { a, b } = await two(t);
    await b.goto(`${server.url}/account`);
    await b.locator("#reach select").last().selectOption("user:anna");
    await b.locator("#reach .notice.good").waitFor();
    await there(b);
    await call(a, "bert");
    await Promise.all([talking(a), talking(b)]);
    await b.locator("[data-auto]").getByText("anna").waitFor();
    await seeAndHear(a, b);
    await a.locator("[data-hangup]").click();
    await silent(b);
    await b.locator("#reach .chip button").last().click();
    await b.locator("#reach .notice.good").waitFor();
  });

  test("devices that the browser denies: the page says what is wrong and what helps", async () => {
    const denied = await fakeBrowser(["--deny-permission-prompts"]);
    const table = [
      ["NotAllowedError", "media_blocked", "Click the icon at the left of the address"],
      ["NotFoundError", "media_none", "Plug one in"],
      ["NotReadableError", "media_busy", "Another program may be using it"],
    ];
    const opened = await openPage(denied, server, { user: "anna" });
    await opened.page.addInitScript(() => {
      navigator.mediaDevices.getUserMedia = async () => {
        throw new DOMException("x", globalThis.problem ?? "NotFoundError");
      };
    });
    await opened.page.goto(`${server.url}/people`);
    for (const [name, code, words] of table) {
      await opened.page.evaluate((name) => { globalThis.problem = name; }, name);
      await opened.page.getByRole("button", { name: "Camera and microphone" }).click();
      await opened.page.locator(`[data-problem=${code}]`).getByText(words).waitFor();
      await opened.page.keyboard.press("Escape");
    }
    opened.check();
    await denied.close();
  });

  test("the device check before the first call shows and measures, and it rings only afterwards", async () => {
    const bert = await person(second, server, "bert");
    const anna = await openPage(first, server, { user: "anna" });
    await anna.page.goto(`${server.url}/people`);
    await there(anna.page);
    await call(anna.page, "bert");
    await until("the preview is shown", () => anna.page.locator(".check-mirror video").evaluate((video) => video.videoWidth > 0));
    await until("the level meter moves", async () => (await anna.page.locator("[data-level]").evaluate((meter) => meter.value)) > 0.01);
    assert.equal(await bert.page.locator("[data-incoming]").count(), 0);
    await anna.page.locator("[data-go]").click();
    await incoming(bert.page);
    await bert.page.locator("[data-reject]").click();
    await over(anna.page, "rejected");
    await anna.close();
    await bert.close();
  });
});

test("a direct call goes on while the server is restarted", async () => {
  let server = await gatehouse();
  for (const name of ["anna", "bert"]) server.addUser(name);
  const chromium = await fakeBrowser();
  const [anna, bert] = await Promise.all(["anna", "bert"].map((name) => person(chromium, server, name)));
  await call(anna.page, "bert");
  await incoming(bert.page);
  await accept(bert.page);
  await Promise.all([talking(anna.page), talking(bert.page)]);
  await server.halt();
  server = await gatehouse("", { port: server.port, folder: server.folder });
  for (const { page } of [anna, bert]) {
    await page.waitForFunction(() => globalThis.desk.connected && globalThis.desk.calls.current?.restoring === false);
  }
  await seeAndHear(anna.page, bert.page);
  await anna.page.locator("[data-hangup]").click();
  await Promise.all([silent(anna.page), silent(bert.page)]);
  await over(bert.page, "hangup");
  await chromium.close();
  await server.stop();
});

test("calls that always go through the server", async () => {
  const server = await gatehouse('[calls]\nmedia = "server"\n');
  for (const name of ["anna", "bert"]) server.user(["add", name, "--role", "member"], `${PASSWORD}\n`);
  const chromium = await fakeBrowser();
  const [anna, bert] = await Promise.all(["anna", "bert"].map((name) => person(chromium, server, name)));
  await press(anna.page, "bert", "call-sound");
  await incoming(bert.page);
  await accept(bert.page);
  await Promise.all([talking(anna.page, "server"), talking(bert.page, "server")]);
  await hears(anna.page);
  await hears(bert.page);
  assert.equal(await bert.page.evaluate(() => globalThis.desk.calls.current.local.camera), null, "audio only");
  // Video can be added to a call that began with audio only.
  await anna.page.locator("[data-tool=camera]").click();
  await seesGreen(bert.page, ".call-face video");
  await chromium.close();
  await server.stop();
});
