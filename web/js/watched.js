// Being watched: requests to watch the user's own camera, who is watching, and publishing it once for all watchers. The
// UI is in `desk-view`.
import { at } from "./base.js";
import { isBlocked, open } from "./devices.js";
import { play } from "./tones.js";
import { WhipPublisher } from "./whip-publisher.js";

/** The camera is switched off this long after the last watcher has left. */
const LINGER = 4_000;

/** @typedef {{ watcher: string, display: string, until: number }} Question */

/** Events: `change`. */
export class Watched extends EventTarget {
  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    super();
    this.desk = desk;
    /** @type {Question[]} */
    this.questions = [];
    /** @type {{ name: string, display: string }[]} */
    this.watchers = [];
    /** Whether this page is the one to publish. */
    this.here = false;
    /** @type {WhipPublisher | null} */
    this.publisher = null;
    /** @type {MediaStream | null} */
    this.stream = null;
    this.opening = false;
    /** Everything was ended here, and the server has not confirmed it yet. */
    this.ending = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.leaving = undefined;
  }

  /** Whether the camera is on for others. */
  get live() {
    return this.publisher !== null;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {any} welcome */
  welcome(welcome) {
    this.questions = welcome.questions.map(question);
    this.#set(welcome.watched);
  }

  /** @param {string} type @param {any} body */
  event(type, body) {
    if (type === "watch.asked") {
      this.questions = [...this.questions.filter(({ watcher }) => watcher !== body.watcher), question(body)];
      play("notice");
    } else if (type === "watch.answered") {
      this.questions = this.questions.filter(({ watcher }) => watcher !== body.watcher);
    } else if (type === "watched") {
      this.#set(body);
    }
    this.#changed();
  }

  /** @param {{ stream: string, watchers: { name: string, display: string }[], here: boolean, sound: boolean }} state */
  #set({ stream, watchers, here, sound }) {
    if (watchers.length === 0) this.ending = false;
    if (this.ending) {
      // The request was lost with the connection: send it again, and keep the camera off until it is confirmed.
      this.desk.line.request("watched.stop").catch(() => {});
      return;
    }
    const more = watchers.length > this.watchers.length;
    this.watchers = watchers;
    this.here = here;
    if (more) play("notice");
    clearTimeout(this.leaving);
    if (here && this.publisher) this.#setSound(sound);
    else if (here) this.#publish(stream, sound);
    else if (this.publisher && watchers.length > 0) this.stop();
    else if (this.publisher) this.leaving = setTimeout(() => this.stop(), LINGER);
    this.#changed();
  }

  /**
   * @param {string} stream
   * @param {boolean} sound
   */
  async #publish(stream, sound) {
    if (this.publisher || this.opening) return;
    this.opening = true;
    try {
      this.stream = await open({ audio: sound, video: true }).catch((error) => {
        // A missing microphone is no reason not to send video.
        if (sound && error.code === "media_none") return open({ audio: false, video: true });
        throw error;
      });
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "media_busy";
      const denied = code === "media_blocked" || (await isBlocked("camera"));
      await this.desk.line.request("watched.failed", { code: denied ? "camera_denied" : code }).catch(() => {});
      return;
    } finally {
      this.opening = false;
    }
    if (!this.here) return this.stop();
    const publisher = new WhipPublisher(at(`/whip/${stream}`), { rtc: { iceServers: this.desk.config.ice_servers } });
    this.publisher = publisher;
    publisher.tracks = { audio: this.stream.getAudioTracks()[0] ?? null, video: this.stream.getVideoTracks()[0] ?? null };
    // Unplugged: the watchers are told, or another device takes over.
    publisher.tracks.video?.addEventListener("ended", () => {
      this.stop();
      this.desk.line.request("watched.failed", { code: "media_none" }).catch(() => {});
    });
    publisher.addEventListener("state", () => {
      if (publisher.state !== "blocked" || this.publisher !== publisher) return;
      this.stop();
      this.desk.line.request("watched.failed", { code: publisher.code }).catch(() => {});
    });
    publisher.start();
    this.#changed();
  }

  /** The preference for sound has changed. @param {boolean} sound */
  async #setSound(sound) {
    const before = this.publisher?.tracks.audio ?? null;
    if (sound === Boolean(before)) return;
    before?.stop();
    const opened = sound ? await open({ audio: true, video: false }).catch(() => null) : null;
    const track = opened?.getAudioTracks()[0] ?? null;
    if (!this.publisher || !this.stream) return track?.stop();
    if (before) this.stream.removeTrack(before);
    if (track) this.stream.addTrack(track);
    await this.publisher.setTrack("audio", track);
  }

  /** Switches the camera off; the server's state is unchanged. */
  stop() {
    clearTimeout(this.leaving);
    this.publisher?.stop();
    this.publisher = null;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.#changed();
  }

  /**
   * @param {string} watcher
   * @param {boolean} allow
   */
  async answer(watcher, allow) {
    this.questions = this.questions.filter((question) => question.watcher !== watcher);
    this.#changed();
    await this.desk.line.request("watch.answer", { watcher, allow }).catch(() => {});
  }

  /** Ends all watching at once: the camera is off before the server is told. */
  async end() {
    this.here = false;
    this.ending = this.watchers.length > 0;
    this.stop();
    this.watchers = [];
    this.#changed();
    await this.desk.line.request("watched.stop").catch(() => {});
  }
}

/** @param {{ watcher: string, display: string, seconds: number }} asked @returns {Question} */
function question({ watcher, display, seconds }) {
  return { watcher, display, until: Date.now() + seconds * 1000 };
}
