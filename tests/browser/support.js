// Shared by the browser tests: servers and cameras as processes, pages that must not log errors, waiting.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

const here = dirname(fileURLToPath(import.meta.url));
const program = process.env.GATEHOUSE_BIN ?? join(here, "../../target/debug/gatehouse");

/** Only something broken takes longer. */
export const LIMIT = Number(process.env.GATEHOUSE_TEST_LIMIT ?? 30_000);

/** The path of a file in `tests/cameras`. */
export const clip = (name) => join(here, "../cameras", name);

/** A port that is currently free. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Processes that a failed test has left behind. They do not keep the tests from ending, and end with them. */
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** What Chromium says when a page is left while it opens its socket. */
const LEFT = /WebSocket is closed before the connection is established/;

/** Starts the program and waits for a line on its standard output. */
async function start(args, line, environment = {}) {
  const env = { ...process.env, GATEHOUSE_CONFIG: "", ...environment };
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env });
  let output = "";
  await new Promise((resolve, reject) => {
    const take = (data) => {
      output += data;
      if (line.test(output)) resolve();
    };
    child.stdout.on("data", take);
    child.stderr.on("data", (data) => (output += data));
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}:\n${output}`)));
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  children.add(child);
  ended.then(() => children.delete(child));
  for (const part of [child, child.stdout, child.stderr]) part.unref();
  return {
    output: () => output,
    signal: (name) => child.kill(name),
    stop: async () => {
      child.ref();
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** Runs a command of the program and waits for it to end. */
export const command = (args, input = "") => {
  const done = spawnSync(program, args, { input, encoding: "utf8", env: { ...process.env, GATEHOUSE_CONFIG: "" } });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.trim();
};

/** A simulated camera in its own process. */
export async function camera(port, ...args) {
  const running = await start(["demo-camera", "--listen", `127.0.0.1:${port}`, ...args], /camera running at/);
  return { ...running, url: `rtsp://127.0.0.1:${port}/demo` };
}

/** A `[[camera]]` section of a configuration. */
export const cameraToml = (id, url, more = "") => `[[camera]]\nid = "${id}"\nurl = "${url}"\n${more}\n`;

/** Everybody's password. */
export const PASSWORD = "violet-41-kettle";

/**
 * A server with this configuration. With `first`, it is like a first start: with a random password. With
 * `anyMedia`, it receives media of this machine on all addresses, which is the default: Firefox uses none of loopback.
 */
export async function gatehouse(toml = "", { first = false, port = 0, host = "", anyMedia = false, folder = mkdtempSync(join(tmpdir(), "gatehouse-")) } = {}) {
  port ||= await freePort();
  const args = ["--listen", `${host || "127.0.0.1"}:${port}`, "--data", join(folder, "data")];
  if (toml) {
    writeFileSync(join(folder, "gatehouse.toml"), toml);
    args.push("--config", join(folder, "gatehouse.toml"));
  }
  const environment = { ...(anyMedia ? {} : { GATEHOUSE_MEDIA_LISTEN: host || "127.0.0.1" }), ...(first ? {} : { GATEHOUSE_ADMIN_PASSWORD: PASSWORD }) };
  const running = await start(args, /is running[^]*simulated one|is running[^]*SHA-256 fingerprint is\n.*\n/, environment);
  const url = `http://${host || "localhost"}:${port}`;
  const data = join(folder, "data");
  const server = {
    url,
    port,
    data,
    output: running.output,
    /** Runs `gatehouse user …`. */
    user: (args, input) => command(["user", "--data", data, ...args], input),
    /** The cookie of a login. */
    logIn: async (name = "admin", password = PASSWORD) => {
      const headers = { "Content-Type": "application/json", Origin: url };
      const response = await fetch(`${url}/api/login`, { method: "POST", headers, body: JSON.stringify({ name, password }) });
      assert.equal(response.status, 200, `${name} logs in`);
      const [pair] = response.headers.get("set-cookie").split(";");
      const place = pair.indexOf("=");
      return { name: pair.slice(0, place), value: pair.slice(place + 1) };
    },
    /** Calls the API as an admin. */
    api: async (method, path, body) => {
      const headers = { Authorization: `Bearer ${server.token}`, "Content-Type": "application/json" };
      const response = await fetch(url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
      const text = await response.text();
      assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
      return text ? JSON.parse(text) : null;
    },
    cameras: async () => (await server.api("GET", "/api/cameras")).cameras,
    /** Adds a user who can log in at once. */
    addUser: (name, role = "member") => server.user(["add", name, "--role", role], `${PASSWORD}\n`),
    signal: running.signal,
    /** Ends the process and keeps its data. */
    halt: running.stop,
    folder,
    stop: async () => {
      await running.stop();
      rmSync(folder, { recursive: true });
    },
  };
  if (!first) server.token = server.user(["token", "admin", "--scope", "watch", "--scope", "manage", "--scope", "share", "--scope", "publish"]);
  return server;
}

/** The path of Chromium. */
export const chromiumProgram = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Starts a browser, usually one per test file. */
export const browser = ({ args = [], env = {}, program = chromiumProgram } = {}) =>
  chromium.launch({
    env: { ...process.env, ...env },
    executablePath: program,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
      ...args,
    ],
  });

/** Starts Firefox, with preferences in addition to its defaults. Playwright cannot drive the one of a distribution. */
export const firefox = (extraPrefsFirefox = {}) =>
  puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    extraPrefsFirefox: {
      "media.autoplay.default": 0,
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "intl.accept_languages": "en-US",
      // A page that publishes draws its picture with a timer, also while another tab is in front.
      "dom.min_background_timeout_value": 10,
      "dom.min_background_timeout_value_without_budget_throttling": 10,
      "dom.timeout.enable_budget_timer_throttling": false,
      ...extraPrefsFirefox,
    },
  });

/**
 * A page whose console errors are recorded; `check` fails if there was one. If `server` is given, it is logged in there
 * as the admin or as `user`.
 */
export async function openPage(chromium, server = null, { user = "admin", ...options } = {}) {
  const context = await chromium.newContext({ locale: "en-US", viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(LIMIT);
  if (server && user) await context.addCookies([{ ...(await server.logIn(user)), url: server.url, httpOnly: true, sameSite: "Lax" }]);
  const page = await context.newPage();
  // Chromium reports late that the interfaces of a new network namespace have come up, and drops what it was loading.
  const go = page.goto.bind(page);
  page.goto = (url, options) =>
    go(url, options).catch((error) => {
      if (/ERR_NETWORK_CHANGED/.test(String(error))) return go(url, options);
      throw error;
    });
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if ((message.type() === "error" || message.type() === "warning") && !LEFT.test(message.text())) errors.push(message.text());
  });
  return {
    page,
    /** Changes SDP answers before the page gets them. @param {(answer: string) => string} change */
    rewriteAnswers: (change) =>
      page.route("**/whep/**", async (route) => {
        try {
          const response = await route.fetch();
          await route.fulfill({ response, body: change(await response.text()) });
        } catch {
          // The server or the page is gone, so the request fails, too.
          await route.abort().catch(() => {});
        }
      }),
    close: async () => {
      await page.unrouteAll({ behavior: "ignoreErrors" });
      await context.close();
    },
    /** @param {RegExp} [allowed] errors that are part of the test, such as failed requests */
    check: (allowed) => assert.deepEqual(errors.filter((text) => !allowed?.test(text)), []),
  };
}

/** Polls until `look` returns something true. */
export async function until(what, look) {
  const start = Date.now();
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() - start > LIMIT) throw new Error(`${what}: not within ${LIMIT} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until a tile shows a state. */
export const tileState = (page, camera, state) =>
  page.locator(`gh-camera-tile[data-camera="${camera}"][data-state="${state}"]`).waitFor();

/** The number of frames that a tile's video has shown. */
export const frames = (page, camera) =>
  page.locator(`gh-camera-tile[data-camera="${camera}"]`).evaluate((tile) => tile.video.getVideoPlaybackQuality().totalVideoFrames);

/** Waits until a tile has shown `count` more frames. */
export async function moreFrames(page, camera, count) {
  const before = await frames(page, camera);
  await until(`${count} more frames of ${camera}`, async () => (await frames(page, camera)) >= before + count);
}

/** The colour of a tile's video at a position, given as fractions of its size. */
export const colour = (page, camera, x, y) =>
  page.locator(`gh-camera-tile[data-camera="${camera}"]`).evaluate(
    (tile, [x, y]) => {
      const canvas = document.createElement("canvas");
      const { videoWidth, videoHeight } = tile.video;
      [canvas.width, canvas.height] = [videoWidth, videoHeight];
      const context = canvas.getContext("2d");
      context.drawImage(tile.video, 0, 0);
      return [...context.getImageData(videoWidth * x, videoHeight * y, 1, 1).data.slice(0, 3)];
    },
    [x, y],
  );

/** Whether two colours are equal, within the accuracy of a video codec. */
export function near(found, wanted) {
  return found.every((value, index) => Math.abs(value - wanted[index]) <= 24);
}

/** The transport protocol of the media: `udp` or `tcp`. */
export const mediaProtocol = (page, camera) =>
  page.locator(`gh-camera-tile[data-camera="${camera}"]`).evaluate(async (tile) => {
    const report = await tile.player.session.peer.getStats();
    const transport = [...report.values()].find((entry) => entry.type === "transport");
    return report.get(report.get(transport.selectedCandidatePairId).localCandidateId).protocol;
  });

/** The first statistics entry of one type (and kind) of a tile's peer connection. */
export const rtcStats = (page, camera, type, kind) =>
  page.locator(`gh-camera-tile[data-camera="${camera}"]`).evaluate(
    async (tile, [type, kind]) => {
      const report = await tile.player?.session?.peer?.getStats();
      return [...(report?.values() ?? [])].find((entry) => entry.type === type && (!kind || entry.kind === kind)) ?? null;
    },
    [type, kind],
  );
