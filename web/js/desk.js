// Everything between people that works on every page: the signaling connection, presence, calls, being watched. One per
// page; `openDesk` creates it and puts its dialogs on the page.
import { api } from "./api.js";
import { Calls } from "./calls.js";
import { DeskView } from "./desk-view.js";
import { Notices } from "./notices.js";
import { People } from "./people.js";
import { openLine } from "./session.js";
import { Watched } from "./watched.js";

/** @typedef {import("./api.js").Me} Me */

/**
 * Events: `people` when presence changes; `watch` for frames about watching others; `fresh` when a new signaling
 * session has started and the server no longer knows this page's state; `missed` when the number of missed calls may
 * have changed; `change` when the overlay must be redrawn.
 */
export class Desk extends EventTarget {
  /** @param {Me} me */
  constructor(me) {
    super();
    this.me = me;
    this.people = new People(me.name);
    /** @type {{ ice_servers: RTCIceServer[], media: "auto" | "peer" | "server" }} */
    this.config = { ice_servers: [], media: "auto" };
    this.dnd = false;
    this.missed = 0;
    this.connected = false;
    const notices = new Notices(me);
    const session = openLine({
      welcome: (body) => this.#welcome(body),
      event: (frame) => this.#event(frame),
      state: (state) => this.#state(state),
      blocked: (blocked) => notices.setBlocked(blocked),
    });
    this.session = session;
    this.calls = new Calls(this);
    this.watched = new Watched(this);
    for (const part of [this.calls, this.watched]) part.addEventListener("change", () => this.#tell("change"));
    this.calls.addEventListener("missed", () => this.countMissed());
    // Leaving the page ends its calls: have the browser ask first.
    window.addEventListener("beforeunload", (event) => {
      if (this.calls.calls.size > 0) event.preventDefault();
    });
    window.addEventListener("pagehide", () => {
      for (const call of this.calls.calls.values()) call.end();
    });
  }

  /** The current line: it is replaced when a copy of this tab has taken over its device name. */
  get line() {
    return this.session.line;
  }

  /** @param {string} name */
  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  /** @param {any} body */
  #welcome(body) {
    this.config = body.config;
    this.dnd = body.dnd;
    this.calls.welcome(body);
    this.watched.welcome(body);
    this.#tell("people");
    this.#tell("fresh");
    this.countMissed();
  }

  /** @param {{ type: string, body: any }} frame */
  #event(frame) {
    const { type, body } = frame;
    if (type === "people") this.people.set(body);
    if (type === "presence") this.people.update(body.people);
    if (type === "people" || type === "presence") this.#tell("people");
    else if (type?.startsWith("call.")) this.calls.event(type, body);
    else if (type === "watch.granted" || type === "watch.ended") this.dispatchEvent(new CustomEvent("watch", { detail: frame }));
    else if (type?.startsWith("watch")) this.watched.event(type, body);
  }

  /** @param {string} state */
  #state(state) {
    this.connected = state === "open";
    this.#tell("change");
  }

  async countMissed() {
    try {
      this.missed = (await api("GET", "/api/calls?missed=true")).missed;
      this.#tell("missed");
      this.#tell("change");
    } catch {
      // The count is updated next time.
    }
  }

  /** @param {boolean} dnd */
  async setDnd(dnd) {
    this.dnd = dnd;
    this.#tell("change");
    await this.line.request("presence.set", { dnd }).catch(() => {});
  }

  /** Ends everything before a logout. The server closes the line together with the login, so it will not be resumed. */
  leave() {
    for (const call of this.calls.calls.values()) this.calls.hangUp(call);
    this.watched.stop();
    this.session.leaving = true;
  }
}

/** @param {Me} me */
export function openDesk(me) {
  const desk = new Desk(me);
  // For debugging in the browser's console.
  Object.assign(globalThis, { desk });
  new DeskView(desk);
  return desk;
}
