// Players and publishers of others, and ours on other people's pages, in Chromium and Firefox.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { publish, shapes, watchPlainly, watchWithPlayer } from "./players.js";
import { fakeBrowser } from "./people.js";
import { camera, cameraToml, clip, firefox, freePort, gatehouse, openPage, until } from "./support.js";

/** A page of another origin, on the same machine. */
async function otherSite() {
  const site = createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end("<!doctype html><title>other</title><body></body>");
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  return { url: `http://localhost:${site.address().port}/`, stop: () => new Promise((resolve) => site.close(resolve)) };
}

/** GStreamer's RTSP server, whose `/opus` has sound in Opus. */
async function gstreamer() {
  const child = spawn("/usr/bin/python3", [clip("gstreamer_server.py"), clip("slices-aud.h264")], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(`${data}`.trim()));
    child.once("exit", (code) => reject(new Error(`GStreamer ended with ${code}`)));
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return {
    url: `rtsp://127.0.0.1:${port}/opus`,
    stop: () => {
      child.kill();
      return ended;
    },
  };
}

/** Browsers differ in how they convert the colours of a canvas. */
const isGreen = ([red, green, blue]) => green > 100 && red < 60 && blue < 60;

/** H.264 by FFmpeg's libraries, which Firefox does not use by itself where it takes the graphics card for blocked. */
const H264 = { "media.webrtc.hw.h264.enabled": true, "gfx.blacklist.webrtc.hw.acceleration.h264": 1 };

describe("players", () => {
  let server, site, demo, quiet, opus, chromium, fox;
  /** What a function of `players.js` needs to reach a stream. */
  const target = (stream, token = server.token) => ({ base: server.url, token, stream });

  before(async () => {
    const ports = [await freePort(), await freePort()];
    [demo, quiet, opus, site] = await Promise.all([camera(ports[0]), camera(ports[1], "--no-audio"), gstreamer(), otherSite()]);
    const streams = ["chromium", "firefox"].map((id) => cameraToml(id, "whip:")).join("");
    const cameras = Object.entries({ demo, quiet, opus }).map(([id, { url }]) => cameraToml(id, url));
    server = await gatehouse([...cameras, streams].join(""), { anyMedia: true });
    [chromium, fox] = await Promise.all([fakeBrowser(), firefox(H264)]);
  });
  after(async () => {
    await Promise.all([chromium?.close(), fox?.close()]);
    await server?.stop();
    await Promise.all([demo?.stop(), quiet?.stop(), opus?.stop(), site?.stop()]);
  });

  /** A page of another origin, in either browser. */
  const page = async (where) => {
    const opened = where === "chromium" ? (await openPage(chromium)).page : await fox.newPage();
    await opened.goto(site.url);
    return opened;
  };

  for (const where of ["chromium", "firefox"]) {
    test(`${where} publishes; both browsers see and hear it`, async () => {
      const publishing = await page(where);
      await publishing.evaluate(publish, target(where));
      for (const viewer of ["chromium", "firefox"]) {
        const watching = await page(viewer);
        const { states, colour } = await watching.evaluate(watchWithPlayer, target(where));
        assert.deepEqual(states, ["connecting", "playing", "idle"], `${viewer} watches ${where}`);
        assert.ok(isGreen(colour), `${viewer} shows ${colour}`);
        const plain = { policy: "max-bundle", sections: ["audio", "video"], needs: ["audio", "video"] };
        assert.deepEqual(await watching.evaluate(watchPlainly, { ...target(where), ...plain }), { fine: true }, viewer);
        await watching.close();
      }
      await publishing.close();
    });

    test(`our player and its modules run on a page of another origin: ${where}`, async () => {
      const opened = await page(where);
      const { states, width } = await opened.evaluate(watchWithPlayer, target("demo"));
      assert.deepEqual([states, width], [["connecting", "playing", "idle"], 1280]);
      await opened.close();
    });

    test(`an invalid token is an answer, not a network error: ${where}`, async () => {
      const opened = await page(where);
      const { states, code } = await opened.evaluate(watchWithPlayer, target("demo", "ght_invalid"));
      assert.deepEqual([states, code], [["connecting", "blocked"], "unauthorized"]);
      await opened.close();
    });
  }

  const asked = [
    ["chromium", "demo", true],
    ["chromium", "quiet", false],
    ["chromium", "opus", true],
    ["firefox", "demo", true],
    ["firefox", "quiet", false],
    ["firefox", "opus", true],
  ];
  for (const [where, stream, sound] of asked) {
    test(`every way to ask for a camera: ${stream} in ${where}`, async () => {
      const opened = await page(where);
      for (const policy of ["max-bundle", "balanced", "max-compat"]) {
        const watching = shapes({ sound }).map(async (shape) => {
          const result = await opened.evaluate(watchPlainly, { ...target(stream), policy, ...shape });
          assert.deepEqual(result, { fine: true }, `${policy} ${JSON.stringify(shape)}`);
        });
        await Promise.all(watching);
      }
      await opened.close();
    });
  }

  test("VP8 alone is refused with a reason", async () => {
    const opened = await page("chromium");
    const player = { policy: "max-bundle", sections: ["video"], only: "VP8", needs: ["video"] };
    const result = await opened.evaluate(watchPlainly, { ...target("demo"), ...player });
    assert.deepEqual(result, { refused: 422, code: "no_common_codec" });
    await opened.close();
  });

  test("Firefox without H.264 is told what helps", async (t) => {
    const plain = await firefox();
    t.after(() => plain.close());
    const opened = await plain.newPage();
    await opened.goto(`${server.url}/login`);
    const hasH264 = await opened.evaluate(() => RTCRtpReceiver.getCapabilities("video").codecs.some(({ mimeType }) => /h264/i.test(mimeType)));
    if (hasH264) return t.skip("this Firefox has it");
    await opened.setCookie({ ...(await server.logIn()), domain: "localhost", path: "/" });
    await opened.goto(server.url);
    await until("the advice", () => opened.evaluate(() => document.querySelector('[data-camera="demo"] .tile-notice')?.textContent.includes("OpenH264")));
  });
});
