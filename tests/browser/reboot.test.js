// A camera that restarts while somebody looks at its tile: nobody touches anything, and the picture is back soon after
// the camera answers again. REBOOT is how long it is away, in seconds.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, camera, cameraToml, freePort, frames, gatehouse, moreFrames, openPage, tileState } from "./support.js";

const REBOOT = Number(process.env.REBOOT ?? 20);

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

test("the picture of a camera that has restarted comes back by itself, at once", async (context) => {
  const port = await freePort();
  const source = await camera(port);
  const server = await gatehouse(cameraToml("c", source.url));
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await tileState(page, "c", "live");
  await moreFrames(page, "c", 10);
  await source.stop();
  await tileState(page, "c", "retrying");
  // Long enough for a back-off to grow.
  await new Promise((resolve) => setTimeout(resolve, REBOOT * 1000));
  const before = await frames(page, "c");
  const again = await camera(port);
  const answering = Date.now();
  await page.waitForFunction(
    ([id, count]) => document.querySelector(`gh-camera-tile[data-camera="${id}"]`).video.getVideoPlaybackQuality().totalVideoFrames > count,
    ["c", before],
    { polling: 20 },
  );
  const seconds = (Date.now() - answering) / 1000;
  context.diagnostic(`back ${seconds} s after the camera answers, away for ${REBOOT} s`);
  // A back-off without anybody who waits would be at 8 s and more by now.
  assert.ok(seconds < 5, `${seconds} s`);
  await tileState(page, "c", "live");
  check();
  await close();
  await server.stop();
  await again.stop();
});
