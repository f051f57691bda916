// The page's signaling connection: this tab's device name, and what to do when the login has ended.
import { ApiError, api, goToLogin, whoAmI } from "./api.js";
import { at } from "./base.js";
import { onNetworkDoubt } from "./network.js";
import { SignalingClient } from "./signaling-client.js";

/** The server's close code for a login that has ended. */
const LOGIN_ENDED = 4401;
/** Failed attempts after which it checks whether the login is still valid. */
const DOUBT = 2;
/** After this time without a connection it checks whether WebSockets get through at all. */
const FIRST_LIMIT = 2_000;

/** This tab's device name: it survives a reload and is different in each tab. */
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

/** A readable name of this device: browser and system. */
function label() {
  const agent = navigator.userAgent;
  const names = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]];
  const find = (/** @type {string[][]} */ list) => list.find(([mark]) => agent.includes(mark ?? ""))?.[1];
  return [find(names), find(systems)].filter(Boolean).join(" · ");
}

/**
 * Keeps the connection open as long as the page exists, or until `stop` is called.
 * @param {object} tell
 * @param {(body: any) => void} [tell.welcome]
 * @param {(frame: any) => void} [tell.event]
 * @param {(state: string) => void} [tell.state]
 * @param {(blocked: boolean) => void} [tell.blocked] whether something in between does not pass on WebSockets
 */
export function openLine(tell = {}) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${at("/api/ws")}`;
  const fresh = () => new SignalingClient(address, { device: device(), label: label() });
  const session = {
    line: fresh(),
    /** Whether this page itself is ending the login. */
    leaving: false,
    stop: () => session.line.stop(),
  };
  let opened = false;
  // A refused WebSocket does not tell why. The server answers a plain request with this code: it can be reached.
  const examine = async () => {
    const error = await api("GET", "/api/ws").catch((error) => error);
    if (!opened) tell.blocked?.(error instanceof ApiError && error.code === "websocket");
  };
  const begin = () => {
    const { line } = session;
    const detail = (/** @type {Event} */ event) => (event instanceof CustomEvent ? event.detail : undefined);
    line.addEventListener("welcome", (event) => {
      opened = true;
      tell.blocked?.(false);
      tell.welcome?.(detail(event));
    });
    line.addEventListener("event", (event) => tell.event?.(detail(event)));
    line.addEventListener("end", (event) => {
      if (detail(event) === LOGIN_ENDED) return session.leaving || goToLogin("ended");
      // A copy of this tab has taken over its name: use a new one.
      try {
        sessionStorage.removeItem("gatehouse.device");
      } catch {
        // Without storage every page gets its own name anyway.
      }
      session.line = fresh();
      begin();
    });
    line.addEventListener("state", async () => {
      tell.state?.(line.state);
      if (line.state === "waiting" && !opened) examine();
      // It may be the login.
      if (line.state !== "waiting" || line.backoff.failures < DOUBT) return;
      const me = await whoAmI().catch(() => undefined);
      if (me === null) goToLogin("ended");
    });
    line.start();
  };
  // The callbacks use the return value: do not call them before it is there.
  queueMicrotask(begin);
  setTimeout(() => opened || session.line.state === "idle" || examine(), FIRST_LIMIT);
  const check = () => session.line.check();
  onNetworkDoubt(check);
  document.addEventListener("visibilitychange", () => document.hidden || check());
  window.addEventListener("pagehide", () => session.line.stop());
  window.addEventListener("pageshow", (event) => event.persisted && session.line.start());
  return session;
}
