// A camera with a "smart codec": 40 s from key frame to key frame. Who joins late gets the picture from the cache.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { browser, camera, cameraToml, freePort, gatehouse, moreFrames, openPage, rtcStats, tileState, until } from "./support.js";

let chromium;
let folder;
before(async () => {
  chromium = await browser();
  folder = mkdtempSync(join(tmpdir(), "gatehouse-gop-"));
});
after(async () => {
  await chromium.close();
  rmSync(folder, { recursive: true });
});

/** 40 s with one key frame. */
function clip() {
  const file = join(folder, "long.h264");
  const picture = "testsrc=size=640x360:rate=15:duration=40";
  const codec = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "1000", "-keyint_min", "1000", "-sc_threshold", "0"];
  const made = spawnSync("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", picture, ...codec, "-f", "h264", file], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  return file;
}

test("the picture of a GOP of 40 s, joined late", async () => {
  const source = await camera(await freePort(), "--clip", clip(), "--fps", "15");
  const server = await gatehouse(cameraToml("c", source.url, "on_demand = false"));
  await until("it has been live for some seconds", async () => {
    const [{ state, since }] = await server.cameras();
    return state === "live" && Date.now() - since > 5_000;
  });
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(server.url);
  await tileState(page, "c", "live");
  await moreFrames(page, "c", 30);
  const video = await rtcStats(page, "c", "inbound-rtp", "video");
  assert.equal(video.keyFramesDecoded, 1, "from the cache");
  const [{ video: seen }] = await server.cameras();
  assert.equal(seen.gop_frames, null, "no second key frame has come");
  // All frames since the key frame have been decoded: it is live, not behind.
  assert.ok(video.framesDecoded > 75, `${video.framesDecoded} frames`);
  check();
  await close();
  await server.stop();
  await source.stop();
});
