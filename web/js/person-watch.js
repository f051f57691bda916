// Watches one person's camera: asks for permission, plays it, and knows why there is no video. It has no UI.
import { at } from "./base.js";
import { WhepPlayer } from "./whep-player.js";

/**
 * - `idle`: not started.
 * - `asking`: waiting for the person's answer.
 * - `connecting`, `playing`: allowed.
 * - `ended`: see `code`.
 * @typedef {"idle" | "asking" | "connecting" | "playing" | "ended"} WatchState
 */

/** Transient reasons: retried when the person's presence changes. */
const WHEN_THERE = ["callee_offline", "lost"];

/** Events: `change`. */
export class PersonWatch extends EventTarget {
  /**
   * @param {import("./desk.js").Desk} desk
   * @param {string} name
   * @param {HTMLVideoElement} video
   */
  constructor(desk, name, video) {
    super();
    this.desk = desk;
    this.name = name.toLowerCase();
    this.video = video;
    /** @type {WatchState} */
    this.state = "idle";
    this.code = "";
    /** Seconds until asking again is allowed, if the server limits it. */
    this.seconds = 0;
    /** @type {WhepPlayer | null} */
    this.player = null;
    this.wanted = false;
    this.listening = new AbortController();
  }

  /** Asks for permission, and plays once it is granted. */
  async start() {
    if (this.wanted && this.state !== "ended") return;
    this.wanted = true;
    this.listening.abort();
    this.listening = new AbortController();
    const { signal } = this.listening;
    this.desk.addEventListener("watch", (event) => this.#event(/** @type {CustomEvent} */ (event).detail), { signal });
    this.desk.addEventListener("fresh", () => this.#ask(), { signal });
    this.desk.addEventListener("people", () => this.#presence(), { signal });
    await this.#ask();
  }

  async #ask() {
    if (!this.wanted) return;
    try {
      const { stream, state } = await this.desk.line.request("watch.start", { to: this.name });
      if (!this.wanted) return;
      if (state === "granted") this.#play(stream);
      else this.#become("asking", "");
    } catch (error) {
      this.seconds = error instanceof Error && "seconds" in error ? Number(error.seconds) : 0;
      if (!this.wanted) return;
      this.#end(error instanceof Error && "code" in error ? String(error.code) : "other");
      // The same code may come with another number of seconds.
      this.dispatchEvent(new Event("change"));
    }
  }

  /** @param {{ type: string, body: any }} event */
  #event({ type, body }) {
    if (body.to !== this.name) return;
    if (type === "watch.granted") this.#play(body.stream);
    if (type === "watch.ended") this.#end(body.reason);
  }

  #presence() {
    if (this.state !== "ended" || !WHEN_THERE.includes(this.code)) return;
    if (this.desk.people.get(this.name)?.state !== "offline") this.#ask();
  }

  /** @param {string} stream */
  #play(stream) {
    if (this.player) return;
    const rtc = { iceServers: this.desk.config.ice_servers };
    const player = new WhepPlayer(this.video, at(`/whep/${stream}`), { rtc });
    this.player = player;
    player.addEventListener("state", () => {
      if (this.player !== player) return;
      this.#become(player.state === "playing" ? "playing" : "connecting", "");
    });
    this.#become("connecting", "");
    player.start();
  }

  /** @param {string} code */
  #end(code) {
    this.player?.stop();
    this.player = null;
    this.video.srcObject = null;
    this.#become("ended", code);
  }

  /** Stops watching. */
  stop() {
    if (!this.wanted) return;
    this.wanted = false;
    this.listening.abort();
    this.#end("");
    this.#become("idle", "");
    this.desk.line.request("watch.stop", { to: this.name }).catch(() => {});
  }

  /**
   * @param {WatchState} state
   * @param {string} code
   */
  #become(state, code) {
    if (state === this.state && code === this.code) return;
    this.state = state;
    this.code = code;
    this.dispatchEvent(new Event("change"));
  }
}
