// The page's signaling connection: this tab's device id, and what to do when the login has ended.
import { goToLogin, whoAmI } from "./api.js";
import { onNetworkDoubt } from "./network.js";
import { SignalingClient } from "./signaling-client.js";

/** The server's close code for a login that has ended. */
const LOGIN_ENDED = 4401;
/** After this many failed attempts to connect, check whether the login is still valid. */
const DOUBT = 2;

/** This tab's device id: kept across reloads, different in every tab. */
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

/** A readable name for this device: browser and system. */
function label() {
  const agent = navigator.userAgent;
  const names = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]];
  const find = (/** @type {string[][]} */ list) => list.find(([mark]) => agent.includes(mark ?? ""))?.[1];
  return [find(names), find(systems)].filter(Boolean).join(" · ");
}

/**
 * Keeps the connection open while the page is open, or until `stop` is called.
 * @param {{ welcome?: (body: any) => void, event?: (frame: any) => void, state?: (state: string) => void }} tell
 */
export function openLine(tell = {}) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ws`;
  const fresh = () => new SignalingClient(address, { device: device(), label: label() });
  const session = {
    line: fresh(),
    /** Whether this page itself is logging out. */
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
      // A duplicate of this tab has taken over its device id: take a new one.
      try {
        sessionStorage.removeItem("gatehouse.device");
      } catch {
        // Without storage each page has its own id anyway.
      }
      session.line = fresh();
      begin();
    });
    line.addEventListener("state", async () => {
      tell.state?.(line.state);
      // The browser does not say why a WebSocket was refused.
      if (line.state !== "waiting" || line.failures < DOUBT) return;
      const me = await whoAmI().catch(() => undefined);
      if (me === null) goToLogin("ended");
    });
    line.start();
  };
  // The callbacks use the returned session, so connect only after returning it.
  queueMicrotask(begin);
  const check = () => session.line.check();
  onNetworkDoubt(check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
  window.addEventListener("pagehide", () => session.line.stop());
  window.addEventListener("pageshow", (event) => event.persisted && session.line.start());
  return session;
}
