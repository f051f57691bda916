// The camera wall in Chromium, with real streams.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  browser, camera, cameraToml, clip, colour, freePort, frames, gatehouse, mediaProtocol, moreFrames, near, openPage, rtcStats, tileState, until,
} from "./support.js";

const AMBER = [224, 160, 48];
const COLOURS = { red: [208, 32, 32], green: [32, 160, 64], blue: [32, 64, 192], yellow: [208, 176, 32] };

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

describe("the simulated camera", () => {
  let server;
  before(async () => {
    server = await gatehouse();
  });
  after(() => server.stop());

  test("shows video within a second, in the right colours, and keeps playing", async () => {
    const { page, close, check } = await openPage(chromium, server);
    // The server, the browser's media stack and the camera are warm: only the time to the first frame is measured.
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    await page.reload();
    const first = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const look = () => {
            const tile = document.querySelector("gh-camera-tile");
            if (!tile?.player) return requestAnimationFrame(look);
            const start = performance.now();
            tile.video.requestVideoFrameCallback(() => resolve(performance.now() - start));
          };
          look();
        }),
    );
    assert.ok(first < 1000, `first frame after ${first} ms`);
    await moreFrames(page, "demo", 50);
    const found = await colour(page, "demo", 0.09, 0.16);
    assert.ok(near(found, AMBER), `the amber patch is ${found}`);
    const pair = await rtcStats(page, "demo", "candidate-pair");
    assert.ok(pair.currentRoundTripTime < 1);
    check();
    await close();
  });

  test("plays audio when its sound is switched on", async () => {
    const { page, close, check } = await openPage(chromium, server);
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    const video = page.locator("gh-camera-tile video");
    assert.equal(await video.evaluate((element) => element.muted), true);
    await page.locator("gh-camera-tile").focus();
    await page.keyboard.press("m");
    assert.equal(await video.evaluate((element) => element.muted), false);
    await until("audio that is not silent", async () => {
      const audio = await rtcStats(page, "demo", "inbound-rtp", "audio");
      return audio && audio.totalAudioEnergy > 0 && audio.packetsReceived > 50;
    });
    check();
    await close();
  });

  test("shows statistics on request", async () => {
    const { page, close, check } = await openPage(chromium, server);
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    await page.locator("gh-camera-tile").focus();
    await page.keyboard.press("s");
    const line = page.locator(".tile-stats");
    await until("a line of statistics", async () => /1280×720 · 2\d fps · \d+ kbit\/s · loss 0\.0 %/.test(await line.innerText()));
    check();
    await close();
  });

  test("is watched only while its tile is visible", async () => {
    const { page, close, check } = await openPage(chromium, server);
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    const viewers = async () => (await server.cameras())[0].viewers;
    await until("one viewer", async () => (await viewers()) === 1);
    const hide = (hidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await hide(true);
    await until("no viewer", async () => (await viewers()) === 0);
    await hide(false);
    await tileState(page, "demo", "live");
    await moreFrames(page, "demo", 10);
    await page.goto("about:blank");
    await until("no viewer is left", async () => (await viewers()) === 0);
    check();
    await close();
  });

  test("is received over TCP if UDP is blocked", async () => {
    const { page, close, check, rewriteAnswers } = await openPage(chromium, server);
    await rewriteAnswers((answer) => answer.replace(/a=candidate:.* udp .*\r\n/g, ""));
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    await moreFrames(page, "demo", 50);
    assert.equal(await mediaProtocol(page, "demo"), "tcp");
    check();
    await close();
  });

  test("can be watched with a third-party player", async () => {
    const { page, close, check } = await openPage(chromium, server);
    await page.goto(server.url);
    const size = await page.evaluate(async () => {
      const { WhepPlayer } = await import("/js/whep-player.js");
      const video = document.createElement("video");
      video.muted = true;
      const states = [];
      const player = new WhepPlayer(video, `${location.origin}/whep/camera/demo`);
      player.addEventListener("state", () => states.push(player.state));
      player.start();
      await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
      while (player.state !== "playing") await new Promise((resolve) => setTimeout(resolve, 20));
      player.stop();
      return { width: video.videoWidth, states };
    });
    assert.deepEqual(size, { width: 1280, states: ["connecting", "playing", "idle"] });
    check();
    await close();
  });
});

test("four cameras at once, each with its own colour", async () => {
  const cameras = await Promise.all(
    Object.keys(COLOURS).map(async (name) => camera(await freePort(), "--clip", clip(`${name}.h264`))),
  );
  const names = Object.keys(COLOURS);
  const server = await gatehouse(names.map((name, i) => cameraToml(name, cameras[i].url)).join(""));
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  for (const name of names) await tileState(page, name, "live");
  for (const name of names) {
    await moreFrames(page, name, 25);
    const found = await colour(page, name, 0.1, 0.1);
    assert.ok(near(found, COLOURS[name]), `${name} is ${found}`);
  }
  // One tile at a time: the others are disconnected.
  await page.getByRole("button", { name: "1 tiles" }).click();
  await until("only one is watched", async () => (await server.cameras()).reduce((sum, { viewers }) => sum + viewers, 0) === 1);
  await page.getByRole("button", { name: "Next page" }).click();
  await tileState(page, "green", "live");
  assert.ok(near(await colour(page, "green", 0.1, 0.1), COLOURS.green));
  // The choice of layout is stored.
  await page.reload();
  await tileState(page, "red", "live");
  assert.equal(await page.locator("gh-camera-tile").count(), 1);
  // Enlarge by keyboard, and go back.
  await page.getByRole("button", { name: "4 tiles" }).click();
  await tileState(page, "blue", "live");
  await page.locator('gh-camera-tile[data-camera="blue"]').focus();
  await page.keyboard.press("Enter");
  await until("one tile is left", async () => (await page.locator("gh-camera-tile").count()) === 1);
  assert.ok((await frames(page, "blue")) > 0, "it keeps playing without reconnecting");
  await page.keyboard.press("Escape");
  await until("all are back", async () => (await page.locator("gh-camera-tile").count()) === 4);
  check();
  await close();
  await server.stop();
  await Promise.all(cameras.map((running) => running.stop()));
});

test("a camera that restarts recovers without a reload", async () => {
  const port = await freePort();
  const first = await camera(port, "--clip", clip("red.h264"));
  const server = await gatehouse(cameraToml("c", first.url));
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await tileState(page, "c", "live");
  assert.ok(near(await colour(page, "c", 0.1, 0.1), COLOURS.red));
  const peer = await page.locator("gh-camera-tile").evaluateHandle((tile) => tile.player.session.peer);
  await first.stop();
  await tileState(page, "c", "retrying");
  const second = await camera(port, "--clip", clip("slices-aud.h264"));
  await tileState(page, "c", "live");
  await until("the new video", async () => near(await colour(page, "c", 0.1, 0.1), COLOURS.green));
  await moreFrames(page, "c", 25);
  const same = await page.locator("gh-camera-tile").evaluate((tile, peer) => tile.player.session.peer === peer, peer);
  assert.ok(same, "the connection survived the restart of the camera");
  check();
  await close();
  await server.stop();
  await second.stop();
});

test("cameras that cannot be shown say why, in both languages, and are not retried", async () => {
  const bFrames = await camera(await freePort(), "--clip", clip("b-frames.h264"));
  const locked = await camera(await freePort(), "--login", "user:right");
  const server = await gatehouse(
    cameraToml("b", bFrames.url) + cameraToml("locked", locked.url, 'username = "user"\npassword = "wrong"'),
  );
  const { page, close, check } = await openPage(chromium, server);
  let posts = 0;
  page.on("request", (request) => {
    if (request.method() === "POST" && request.url().endsWith("/whep/camera/b")) posts += 1;
  });
  await page.goto(server.url);
  await tileState(page, "b", "blocked");
  await page.getByText("Set its H.264 profile to Baseline").waitFor();
  await page.getByText("refuses the user name or password").waitFor();
  await page.getByRole("button", { name: "切换到中文" }).click();
  await page.getByText("请将 H.264 档次设为 Baseline").waitFor();
  await page.getByText("摄像头拒绝了用户名或密码").waitFor();
  assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
  await page.reload();
  await page.getByText("请将 H.264 档次设为 Baseline").waitFor();
  assert.ok(posts <= 4, `${posts} offers: a camera that cannot be shown is not retried continuously`);
  // The browser itself logs refused offers.
  check(/Failed to load resource/);
  await close();
  await server.stop();
  await Promise.all([bFrames.stop(), locked.stop()]);
});

/** Records every notice that the tile shows from now on. */
const recordNotices = (page) =>
  page.evaluate(() => {
    const tile = document.querySelector("gh-camera-tile");
    window.notices = [];
    const note = () => window.notices.push(tile.querySelector(".tile-notice")?.textContent ?? "");
    new MutationObserver(note).observe(tile, { childList: true, subtree: true, characterData: true });
  });

const notices = async (page) => (await page.evaluate(() => window.notices)).join("\n");

test("a server that restarts says so at once, and the picture is back without a touch", async () => {
  const server = await gatehouse();
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await tileState(page, "demo", "live");
  await recordNotices(page);
  await server.halt();
  await page.locator("gh-camera-tile", { hasText: "The server is restarting." }).waitFor();
  await page.getByRole("alert").waitFor();
  const again = await gatehouse("", { port: server.port, folder: server.folder });
  await tileState(page, "demo", "live");
  await moreFrames(page, "demo", 10);
  assert.doesNotMatch(await notices(page), /firewall|Waiting for the camera|interrupted/);
  check(/Failed to load resource|ERR_CONNECTION|WebSocket/);
  await close();
  await again.stop();
});

test("a path that dies silently, as for a laptop that slept, is not taken for a firewall", async () => {
  const server = await gatehouse();
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await tileState(page, "demo", "live");
  await recordNotices(page);
  server.signal("SIGSTOP");
  await page.locator('gh-camera-tile:not([data-state="live"])').waitFor();
  // It notices by itself that nothing arrives, and connects again.
  await page.locator('gh-camera-tile[data-state="connecting"]').waitFor();
  server.signal("SIGCONT");
  await tileState(page, "demo", "live");
  await moreFrames(page, "demo", 10);
  assert.doesNotMatch(await notices(page), /firewall/);
  check(/Failed to load resource|ERR_|WebSocket/);
  await close();
  await server.stop();
});
