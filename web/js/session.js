// The page's line to the server: this tab's name, and what to do when the login has ended.
import { goToLogin, whoAmI } from "./api.js";
import { onNetworkDoubt } from "./network.js";
import { SignalingClient } from "./signaling-client.js";

/** The server's word for a login that has ended. */
const LOGIN_ENDED = 4401;
/** Failed tries after which it is asked whether the login is still good. */
const DOUBT = 2;

/** This tab's name for itself: the same after a reload, another in another tab. */
function device() {
  const fresh = () => `tab-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  try {
    const known = sessionStorage.getItem("gatehouse.device") ?? fresh();
    sessionStorage.setItem("gatehouse.device", known);
    return known;
  } catch {
    return fresh();
  }
}

/** What people call this device: browser and system. */
function label() {
  const agent = navigator.userAgent;
  const names = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]];
  const find = (/** @type {string[][]} */ list) => list.find(([mark]) => agent.includes(mark ?? ""))?.[1];
  return [find(names), find(systems)].filter(Boolean).join(" · ");
}

/**
 * Keeps the line open as long as the page lives, or until `stop` is called.
 * @param {{ welcome?: (body: any) => void, event?: (frame: any) => void, state?: (state: string) => void }} tell
 */
export function openLine(tell = {}) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ws`;
  const fresh = () => new SignalingClient(address, { device: device(), label: label() });
  const session = {
    line: fresh(),
    /** Whether the end of the login is this page's own doing. */
    leaving: false,
    stop: () => session.line.stop(),
  };
  const begin = () => {
    const { line } = session;
    const detail = (/** @type {Event} */ event) => (event instanceof CustomEvent ? event.detail : undefined);
    line.addEventListener("welcome", (event) => tell.welcome?.(detail(event)));
    line.addEventListener("event", (event) => tell.event?.(detail(event)));
    line.addEventListener("end", (event) => {
      if (detail(event) === LOGIN_ENDED) return session.leaving || goToLogin("ended");
      // A copy of this tab has taken its name: this one takes another.
      try {
        sessionStorage.removeItem("gatehouse.device");
      } catch {
        // Without storage each page has a name of its own anyway.
      }
      session.line = fresh();
      begin();
    });
    line.addEventListener("state", async () => {
      tell.state?.(line.state);
      // A socket that is refused does not say why.
      if (line.state !== "waiting" || line.backoff.failures < DOUBT) return;
      const me = await whoAmI().catch(() => undefined);
      if (me === null) goToLogin("ended");
    });
    line.start();
  };
  // What is told refers to what is returned: not before.
  queueMicrotask(begin);
  const check = () => session.line.check();
  onNetworkDoubt(check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
  window.addEventListener("pagehide", () => session.line.stop());
  window.addEventListener("pageshow", (event) => event.persisted && session.line.start());
  return session;
}
