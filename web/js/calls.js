// The calls of this page: which ones ring, which one is active, which ones are held. Media is in `call`, the UI in
// `call-view`. Start at `Calls.event`.
import { Call } from "./call.js";
import { t } from "./i18n.js";
import { play } from "./tones.js";

/** @typedef {{ id: number, from: string, display: string, video: boolean, waiting: boolean, auto: boolean }} Incoming */
/** @typedef {{ id: number, to: string, display: string, video: boolean, waiting: boolean }} Outgoing */
/** @typedef {{ peer: string, display: string, video: boolean, code: string, message: string }} Ended */
/** @typedef {{ id: number, peer: string, display: string, video: boolean, polite: boolean, held: boolean }} Rejoinable */

/**
 * Events: `change`; `missed` when a call was missed.
 */
export class Calls extends EventTarget {
  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    super();
    this.desk = desk;
    /** @type {Map<number, Incoming>} */
    this.incoming = new Map();
    /** @type {Outgoing | null} */
    this.outgoing = null;
    /** All calls accepted on this page. @type {Map<number, Call>} */
    this.calls = new Map();
    /** The active call. @type {Call | null} */
    this.current = null;
    /** The last call, until its summary is dismissed. @type {Ended | null} */
    this.over = null;
    /** Calls of this tab from before it was reloaded. @type {Rejoinable[]} */
    this.rejoinable = [];
    this.hush = () => {};
    /** The tone that is playing, or empty. */
    this.sounding = "";
    /** @type {Notification[]} */
    this.notifications = [];
    this.title = "";
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.blinking = undefined;
  }

  #changed() {
    this.#ring();
    this.dispatchEvent(new Event("change"));
  }

  /** Takes the server's snapshot of a new session. @param {any} welcome */
  welcome(welcome) {
    this.incoming.clear();
    this.rejoinable = [];
    const ids = new Set();
    for (const call of welcome.calls) {
      ids.add(call.call);
      const { call: id, peer, display, video, outgoing, polite, state, held } = call;
      if (state !== "ringing") {
        if (!this.calls.has(id)) this.rejoinable.push({ id, peer, display, video, polite, held });
      } else if (outgoing) {
        this.outgoing = { id, to: peer, display, video, waiting: false };
      } else {
        this.incoming.set(id, { id, from: peer, display, video, waiting: false, auto: false });
      }
    }
    if (this.outgoing && !ids.has(this.outgoing.id)) this.outgoing = null;
    // Calls that the server no longer knows ended while the connection was down.
    for (const id of this.calls.keys()) if (!ids.has(id)) this.#ended({ call: id, reason: "lost", message: "", missed: false });
    this.#changed();
  }

  /** @param {string} type @param {any} body */
  event(type, body) {
    const call = this.calls.get(body.call);
    if (type === "call.incoming") this.#called(body);
    else if (type === "call.accepted") this.#accepted(body);
    else if (type === "call.signal") call?.signal(body.payload);
    else if (type === "call.held") call?.heldThere(body.held);
    else if (type === "call.ended") this.#ended(body);
    else if (type === "call.missed") this.dispatchEvent(new Event("missed"));
  }

  /** @param {any} body */
  #called({ call: id, from, display, video, waiting, auto }) {
    this.incoming.set(id, { id, from, display, video, waiting, auto });
    if (auto) {
      play("notice");
      this.accept(id, { video });
      return;
    }
    this.#notify(display, video, id);
    this.#changed();
  }

  /** Both the caller and the device that accepted receive this. @param {any} body */
  #accepted({ call: id, peer, display, video, polite }) {
    const wanted = this.incoming.get(id)?.video ?? this.outgoing?.video ?? video;
    const byItself = this.incoming.get(id)?.auto ?? false;
    if (this.outgoing?.id === id || (this.outgoing && !this.outgoing.id)) this.outgoing = null;
    this.incoming.delete(id);
    this.#begin({ id, peer, display, video: wanted, polite, held: false }).byItself = byItself;
  }

  /**
   * @param {Rejoinable} call
   * @param {boolean} [again]
   */
  #begin({ id, peer, display, video, polite }, again = false) {
    const { desk } = this;
    const { me, config } = desk;
    // Read `desk.line` at the time of the call: it may have been replaced.
    const send = (/** @type {object} */ payload) => desk.line.request("call.signal", { call: id, payload }).catch(() => {});
    const doubt = () => desk.line.check();
    const connected = () => desk.line.request("call.connected", { call: id }).catch(() => {});
    const call = new Call({ id, me: me.name.toLowerCase(), peer, display, video, polite, config, send, connected, doubt });
    this.calls.set(id, call);
    this.current = call;
    this.over = null;
    this.rejoinable = this.rejoinable.filter((other) => other.id !== id);
    call.addEventListener("change", () => this.#changed());
    call.addEventListener("meter", () => this.dispatchEvent(new Event("change")));
    call.addEventListener("fail", () => this.hangUp(call, true));
    call.start({ again });
    this.#changed();
    return call;
  }

  /**
   * @param {string} to
   * @param {boolean} video
   */
  async invite(to, video) {
    if (this.outgoing) return;
    const display = this.desk.people.display(to);
    const outgoing = { id: 0, to: to.toLowerCase(), display, video, waiting: false };
    this.outgoing = outgoing;
    this.over = null;
    this.#changed();
    try {
      if (this.current) await this.#hold(this.current, true);
      const answer = await this.desk.line.request("call.invite", { to, video });
      if (answer.merged) {
        if (this.outgoing === outgoing) this.outgoing = null;
      } else {
        outgoing.id = answer.call;
        outgoing.waiting = answer.waiting;
        // Cancelled before the server answered.
        if (this.outgoing !== outgoing) this.desk.line.request("call.hangup", { call: answer.call }).catch(() => {});
      }
    } catch (error) {
      if (this.outgoing === outgoing) this.outgoing = null;
      const code = error instanceof Error && "code" in error ? String(error.code) : "failed";
      this.over = { peer: to, display, video, code, message: "" };
      play("busy");
    }
    this.#changed();
  }

  /** Cancels the outgoing call before it is answered. */
  cancel() {
    const outgoing = this.outgoing;
    this.outgoing = null;
    if (outgoing?.id) this.desk.line.request("call.hangup", { call: outgoing.id }).catch(() => {});
    this.#changed();
  }

  /**
   * @param {number} id
   * @param {{ video: boolean }} how
   */
  async accept(id, { video }) {
    const call = this.incoming.get(id);
    if (!call) return;
    call.video = video;
    const before = this.current;
    if (before) await this.#hold(before, true, false);
    try {
      await this.desk.line.request("call.accept", { call: id, hold: Boolean(before) });
    } catch {
      // Cancelled or answered elsewhere in the meantime.
      this.incoming.delete(id);
      if (before) await before.hold(false);
    }
    this.#changed();
  }

  /**
   * @param {number} id
   * @param {string} [message]
   */
  async reject(id, message = "") {
    this.incoming.delete(id);
    this.#changed();
    await this.desk.line.request("call.reject", { call: id, message }).catch(() => {});
  }

  /**
   * @param {Call} call
   * @param {boolean} [failed]
   */
  async hangUp(call, failed = false) {
    this.#drop(call.id);
    this.over = failed ? { peer: call.peer, display: call.display, video: call.options.video, code: "failed", message: "" } : null;
    this.#changed();
    await this.desk.line.request("call.hangup", { call: call.id, failed }).catch(() => {});
  }

  /** @param {Rejoinable} call */
  async rejoin(call) {
    if (this.current) await this.#hold(this.current, true);
    this.#begin(call, true);
    if (call.held) await this.desk.line.request("call.hold", { call: call.id, held: false }).catch(() => {});
  }

  /** @param {Rejoinable} call */
  async leave(call) {
    this.rejoinable = this.rejoinable.filter((other) => other !== call);
    this.#changed();
    await this.desk.line.request("call.hangup", { call: call.id }).catch(() => {});
  }

  /** Switches to another accepted call. @param {Call} call */
  async takeUp(call) {
    if (this.current && this.current !== call) await this.#hold(this.current, true);
    await this.#hold(call, false);
    this.current = call;
    this.#changed();
  }

  /**
   * @param {Call} call
   * @param {boolean} held
   * @param {boolean} [tell]
   */
  async #hold(call, held, tell = true) {
    await call.hold(held);
    if (tell) await this.desk.line.request("call.hold", { call: call.id, held }).catch(() => {});
  }

  /** @param {any} body */
  #ended({ call: id, reason, message, missed }) {
    const call = this.calls.get(id);
    const outgoing = this.outgoing?.id === id ? this.outgoing : null;
    this.incoming.delete(id);
    this.rejoinable = this.rejoinable.filter((other) => other.id !== id);
    if (outgoing) {
      this.outgoing = null;
      this.over = { peer: outgoing.to, display: outgoing.display, video: outgoing.video, code: reason, message };
      play("busy");
    } else if (call) {
      this.#drop(id);
      this.over = { peer: call.peer, display: call.display, video: call.options.video, code: reason, message };
    } else if (missed) {
      this.dispatchEvent(new Event("missed"));
    }
    this.#changed();
  }

  /** @param {number} id */
  #drop(id) {
    const call = this.calls.get(id);
    call?.end();
    this.calls.delete(id);
    // A held call becomes the current one, and stays on hold until it is resumed.
    if (this.current === call) this.current = [...this.calls.values()][0] ?? null;
  }

  /** Dismisses the summary of the last call. */
  putAway() {
    this.over = null;
    this.#changed();
  }

  /** Updates the tone, the notifications and the title. */
  #ring() {
    const ringing = [...this.incoming.values()].filter(({ auto }) => !auto);
    const wanted = ringing.length > 0 ? (this.current ? "waiting" : "ring") : this.outgoing?.id ? "ringback" : "";
    if (this.sounding !== wanted) {
      this.sounding = wanted;
      this.hush();
      this.hush = wanted ? play(/** @type {import("./tones.js").Tone} */ (wanted)) : () => {};
    }
    if (ringing.length === 0) {
      this.notifications.splice(0).forEach((notification) => notification.close());
      if (this.blinking) {
        clearInterval(this.blinking);
        this.blinking = undefined;
        document.title = this.title;
      }
    } else if (!this.blinking) {
      this.title = document.title;
      const words = t("call.incoming.title", { name: ringing[0]?.display ?? "" });
      const blink = () => {
        document.title = document.title === words ? this.title : words;
      };
      blink();
      this.blinking = setInterval(blink, 1_000);
    }
  }

  /**
   * Shows a system notification, for users who are not looking at the page.
   * @param {string} display
   * @param {boolean} video
   * @param {number} id
   */
  #notify(display, video, id) {
    if (!("Notification" in window) || Notification.permission !== "granted") return;
    try {
      const notification = new Notification(t(video ? "call.incoming.video" : "call.incoming.sound", { name: display }), {
        tag: `gatehouse-call-${id}`,
        requireInteraction: true,
      });
      notification.onclick = () => {
        window.focus();
        notification.close();
      };
      this.notifications.push(notification);
    } catch {
      // Mobile browsers require a service worker for this; the dialog is shown anyway.
    }
  }
}
