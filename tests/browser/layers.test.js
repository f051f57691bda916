// Sub streams on the wall: small tiles get the camera's smaller stream, an enlarged one the main stream, over the same
// connection; and what is found by the camera's test in Administration.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, camera, clip, colour, freePort, frames, gatehouse, moreFrames, near, openPage, tileState, until } from "./support.js";

const GREEN = [32, 160, 64];
const AMBER = [224, 160, 48];

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

const section = (id, main, sub) => `[[camera]]\nid = "${id}"\nurl = "${main}"\nsub_url = "${sub}"\nidle_timeout = "0s"\n`;

/** The width of the picture that a tile shows. */
const width = (page, id) => page.locator(`gh-camera-tile[data-camera="${id}"]`).evaluate(({ video }) => video.videoWidth);

test("a wall of 16 shows sub streams; an enlarged tile gets the main stream, and gives it back", async () => {
  const main = await camera(await freePort());
  const sub = await camera(await freePort(), "--clip", clip("green.h264"), "--no-audio");
  const names = Array.from({ length: 16 }, (_, number) => `c${number}`);
  const server = await gatehouse(names.map((name) => section(name, main.url, sub.url)).join(""));
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await page.getByRole("button", { name: "16 tiles" }).click();
  for (const name of names) await tileState(page, name, "live");
  for (const name of names) {
    await moreFrames(page, name, 10);
    assert.equal(await width(page, name), 320, name);
    assert.ok(near(await colour(page, name, 0.1, 0.1), GREEN), name);
  }
  const heights = async () => (await server.cameras()).map(({ sub, video }) => [sub.state, sub.video.height, video.height]);
  assert.deepEqual(await heights(), names.map(() => ["live", 180, 180]), "no main stream has been pulled");

  const tile = page.locator('gh-camera-tile[data-camera="c5"]');
  const peer = await tile.evaluateHandle(({ player }) => player.session.peer);
  // A picture that disappears for a moment would have no width.
  await tile.evaluate(({ video }) => {
    globalThis.widths = new Set();
    const look = () => {
      globalThis.widths.add(video.videoWidth);
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    video.addEventListener("emptied", () => globalThis.widths.add("emptied"));
  });
  await tile.focus();
  await page.keyboard.press("Enter");
  await until("the main stream", async () => (await width(page, "c5")) === 1280);
  await until("its picture", async () => near(await colour(page, "c5", 0.09, 0.16), AMBER));
  await until("the others are not pulled", async () => (await server.cameras()).filter(({ viewers }) => viewers > 0).length === 1);
  await moreFrames(page, "c5", 25);
  await page.keyboard.press("Escape");
  await until("the sub stream again", async () => (await width(page, "c5")) === 320);
  await moreFrames(page, "c5", 25);
  assert.ok(await tile.evaluate(({ player }, peer) => player.session.peer === peer, peer), "it is the same connection");
  assert.deepEqual((await page.evaluate(() => [...globalThis.widths])).sort(), [1280, 320], "there was a picture all the time");
  for (const name of names) await tileState(page, name, "live");
  check();
  await close();
  await server.stop();
  await Promise.all([main.stop(), sub.stop()]);
});

test("the sound of the main stream is heard although the sub stream has none", async () => {
  const main = await camera(await freePort());
  const sub = await camera(await freePort(), "--clip", clip("green.h264"), "--no-audio");
  const server = await gatehouse(section("c", main.url, sub.url));
  const { page, close, check } = await openPage(chromium, server, { viewport: { width: 400, height: 300 } });
  await page.goto(server.url);
  await tileState(page, "c", "live");
  assert.equal(await width(page, "c"), 320);
  await page.setViewportSize({ width: 1280, height: 800 });
  await until("the main stream", async () => (await width(page, "c")) === 1280);
  const tile = page.locator('gh-camera-tile[data-camera="c"]');
  await until("it is known that there is sound", async () => (await server.cameras())[0].audio?.playable);
  await tile.focus();
  await until("the button", () => tile.getByRole("button", { name: "Sound on" }).isEnabled());
  await page.keyboard.press("m");
  await until("there is sound", () =>
    tile.evaluate(async ({ player }) => {
      const report = await player.session?.peer?.getStats();
      return [...(report?.values() ?? [])].some((entry) => entry.type === "inbound-rtp" && entry.kind === "audio" && entry.totalAudioEnergy > 0);
    }),
  );
  assert.ok((await frames(page, "c")) > 0);
  check();
  await close();
  await server.stop();
  await Promise.all([main.stop(), sub.stop()]);
});
