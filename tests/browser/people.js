// Shared by the tests of calls and watching: browsers with a fake camera and microphone, and checks of what is seen and
// heard.
import { browser, openPage, until } from "./support.js";

const FLAGS = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--allow-loopback-in-peer-connection",
  "--auto-select-desktop-capture-source=Entire screen",
];

/** A browser with a green camera and a beeping microphone that can connect to others on this machine. */
export const fakeBrowser = (more = [], options = {}) => browser({ args: [...FLAGS, ...more], ...options });

/** The people's pages that are open. */
const open = new Set();

/** A person's page, with the device check done. */
export async function person(chromium, server, user, { path = "/people", ...options } = {}) {
  const opened = await openPage(chromium, server, { user, ...options });
  await opened.page.addInitScript(() => {
    localStorage.setItem("gatehouse.checked-devices", "1");
    // All peer connections of the page, for their statistics.
    const peers = (globalThis.peers = []);
    globalThis.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        peers.push(this);
      }
    };
  });
  await opened.page.goto(server.url + path);
  await there(opened.page);
  const one = { ...opened, user };
  open.add(one);
  opened.page.once("close", () => open.delete(one));
  return one;
}

/** Waits until a page's signaling connection is open and it knows who is online. */
export const there = (page) => page.waitForFunction(() => globalThis.desk?.people.known && globalThis.desk.connected);

/** Clicks a button next to a person's name. */
export const press = (page, name, button) => page.locator(`[data-person="${name}"] [data-${button}]:enabled`).click();

/** Starts a video call in the page. */
export const call = (page, name) => press(page, name, "call-video");

/** Waits until a page rings; a failure shows what each person's page says. */
export const incoming = async (page) => {
  try {
    await page.locator("[data-incoming]").waitFor();
  } catch (error) {
    throw new Error(`${error.message}\n${await situation()}`);
  }
};

/** What each open page says about calls. */
async function situation() {
  const pages = await Promise.all([...open].map(async ({ user, page }) => {
    const said = await page.evaluate(() => ({
      connected: globalThis.desk?.connected,
      outgoing: globalThis.desk?.calls.outgoing,
      calls: [...(globalThis.desk?.calls.calls.keys() ?? [])],
      shown: document.querySelector(".desk")?.innerText,
      dialog: document.querySelector("dialog")?.innerText,
      people: [...document.querySelectorAll("[data-person]")].map(({ dataset }) => `${dataset.person}: ${dataset.state}`),
    }));
    return `${user}: ${JSON.stringify(said)}`;
  }));
  return pages.join("\n");
}
export const accept = (page) => page.locator("[data-accept]").click();

/** Waits until a page is in a call that is connected by this route. */
export const talking = (page, route = "peer") =>
  page.locator(`.call[data-state="connected"][data-route="${route}"]`).waitFor();

/** Waits until no call is shown. */
export const silent = (page) => page.locator(".call").waitFor({ state: "detached" });

/** Waits for the summary of a call that ended for this reason. */
export const over = (page, code) => page.locator(`[data-over="${code}"]`).waitFor();

/** Waits until an element shows new frames, and that they are green. */
export async function seesGreen(page, selector) {
  await until(`${selector} shows the other's camera`, () =>
    page.locator(selector).evaluate(async (video) => {
      if (video.videoWidth === 0) return false;
      const before = video.getVideoPlaybackQuality().totalVideoFrames;
      await new Promise((resolve) => setTimeout(resolve, 150));
      if (video.getVideoPlaybackQuality().totalVideoFrames === before) return false;
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      const context = canvas.getContext("2d");
      context.drawImage(video, 0, 0);
      const [red, green, blue] = context.getImageData(video.videoWidth * 0.2, video.videoHeight * 0.5, 1, 1).data;
      return green > 90 && red < 90 && blue < 90;
    }),
  );
}

/** The highest audio level of the other side within some time. */
export const loudest = (page, ms) =>
  page.evaluate(async (ms) => {
    const audio = globalThis.desk.calls.current.receiving?.getReceivers().find(({ track }) => track.kind === "audio");
    const end = Date.now() + ms;
    let loudest = 0;
    while (Date.now() < end) {
      for (const entry of (await audio?.getStats())?.values() ?? []) loudest = Math.max(loudest, entry.audioLevel ?? 0);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return loudest;
  }, ms);

/** Waits until the other side is heard. */
export const hears = (page) => until("the other side is heard", async () => (await loudest(page, 300)) > 0.01);

/** Both see and hear each other. */
export async function seeAndHear(...pages) {
  await Promise.all(pages.map(async (page) => {
    await seesGreen(page, ".call-face video");
    await hears(page);
  }));
}

/** Video statistics of all connections of a page: bytes sent and received, and the number of outgoing streams. */
export const carried = (page) =>
  page.evaluate(async () => {
    const sums = { sent: 0, received: 0, outgoing: 0 };
    for (const peer of globalThis.peers) {
      if (peer.connectionState === "closed") continue;
      for (const entry of (await peer.getStats()).values()) {
        if (entry.kind !== "video") continue;
        if (entry.type === "outbound-rtp") {
          sums.sent += entry.bytesSent;
          sums.outgoing += 1;
        }
        if (entry.type === "inbound-rtp") sums.received += entry.bytesReceived;
      }
    }
    return sums;
  });
