// webrtc-streamer's own JavaScript client, unmodified from npm, against our server: its pages are the site's.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { browser, camera, cameraToml, freePort, gatehouse, until } from "./support.js";

const PAGES = fileURLToPath(new URL("node_modules/webrtc-streamer/html", import.meta.url));

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

const PAGE = '<!doctype html><video id="v" muted autoplay playsinline></video><script src="/webrtcstreamer.js"></script>';

/** A page that somebody has written for the old system. */
async function oldPage(site) {
  const context = await chromium.newContext();
  await context.route(`${site}/old.html`, (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
  const page = await context.newPage();
  await page.goto(`${site}/old.html`);
  return { page, close: () => context.close() };
}

/** The size of a video, once it has decoded that many frames. */
const picture = (video, count) =>
  until(`${count} frames`, async () => {
    const seen = await video.evaluate((element) => ({ frames: element.getVideoPlaybackQuality().totalVideoFrames, width: element.videoWidth }));
    return seen.frames >= count && seen;
  });

test("webrtcstreamer.js and its element play a camera, and hang up", async () => {
  const source = await camera(await freePort());
  const port = await freePort();
  const mode = `[compat.webrtc_streamer]\nenabled = true\nlisten = ["127.0.0.1:${port}"]\ntls = false\npages = "${PAGES}"\ncameras = ["c"]\n`;
  const server = await gatehouse(cameraToml("c", source.url, 'name = "门口 1"\nidle_timeout = "0s"') + mode);
  const site = `http://127.0.0.1:${port}`;

  const { page, close } = await oldPage(site);
  const began = await page.evaluate(async () => {
    const [{ video, audio }] = await (await fetch("/api/getMediaList")).json();
    window.old = new window.WebRtcStreamer("v", location.origin);
    window.old.connect(video, audio, "rtptransport=tcp&timeout=60");
    return video;
  });
  assert.equal(began, "门口 1");
  const seen = await picture(page.locator("#v"), 20);
  assert.equal(seen.width, 1280);
  const tracks = await page.locator("#v").evaluate((element) => element.srcObject.getTracks().map(({ kind }) => kind).sort());
  assert.deepEqual(tracks, ["audio", "video"], "one stream has both");
  const peers = await (await fetch(`${site}/api/getPeerConnectionList`)).json();
  assert.equal(peers.length, 1);
  assert.equal(Object.values(peers[0])[0].url, "门口 1");
  await page.evaluate(() => window.old.disconnect());
  await until("it has hung up", async () => (await (await fetch(`${site}/api/getPeerConnectionList`)).json()).length === 0);
  await until("the camera is let go", async () => (await server.cameras())[0].state === "idle");

  // The element, embedded by another page; it names the camera by its address.
  await page.evaluate(async (url) => {
    document.body.innerHTML = "";
    await import("/webrtc-streamer-element.js").catch(() => {});
    const element = document.createElement("webrtc-streamer");
    element.setAttribute("webrtcurl", location.origin);
    element.setAttribute("url", JSON.stringify({ video: url }));
    document.body.append(element);
  }, source.url);
  await picture(page.locator("webrtc-streamer video"), 10);
  // Administration disconnects it.
  const list = await server.api("GET", "/api/admin/compat");
  assert.deepEqual(list.clients.map(({ mode, room }) => [mode, room]), [["webrtc_streamer", "门口 1"]]);
  await server.api("DELETE", `/api/admin/compat/clients/${list.clients[0].id}`);
  await until("it is disconnected", async () => (await server.cameras())[0].viewers === 0);
  await until("it is off the list", async () => (await server.api("GET", "/api/admin/compat")).clients.length === 0);
  await close();
  await server.stop();
  await source.stop();
});
