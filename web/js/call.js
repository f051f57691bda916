// The media of one accepted call: peer to peer first, and through the server (WHIP out, WHEP in) if that fails. Ringing
// and accepting is in `calls`, the UI in `call-view`.
import { at } from "./base.js";
import { Bars, heard } from "./call-figures.js";
import { openForCall, openScreen, toSpeaker } from "./devices.js";
import { onNetworkDoubt, received } from "./network.js";
import { PeerLink } from "./peer-link.js";
import { WhepPlayer } from "./whep-player.js";
import { WhipPublisher } from "./whip-publisher.js";

/** @typedef {import("./peer-link.js").Slot} Slot */
/** @typedef {import("./whip-publisher.js").Quality} Quality */

/** Time limit for the direct connection, before the call falls back to the server. */
const DIRECT_LIMIT = 4_000;
/** …and for an ICE restart after the direct connection was lost. */
const RESTART_LIMIT = 5_000;
/** ICE is restarted again at this interval: the browser may not have noticed its new network yet. */
const RESTART_AGAIN = 2_500;
/** Without data for this long while the other side sends, the path is lost. ICE itself notices after 5 s or more. */
const STALL = 1_500;
/** The same for a while (`DOUBT`) after the network may have changed. */
const DOUBT_STALL = 500;
const DOUBT = 4_000;

/** @type {Slot[]} */
const SLOTS = ["audio", "camera", "screen"];

/**
 * Events: `change`; `meter` for new figures; `fail` when no connection is possible at all.
 */
export class Call extends EventTarget {
  /**
   * @param {object} options
   * @param {number} options.id
   * @param {string} options.me login names
   * @param {string} options.peer
   * @param {string} options.display
   * @param {boolean} options.video
   * @param {boolean} options.polite
   * @param {{ ice_servers: RTCIceServer[], media: "auto" | "peer" | "server" }} options.config
   * @param {(payload: object) => void} options.send to the other side
   * @param {() => void} options.connected tells the server, once
   * @param {() => void} options.doubt checks whether the line to the server is alive
   */
  constructor(options) {
    super();
    this.options = options;
    this.id = options.id;
    this.peer = options.peer;
    this.display = options.display;
    this.since = 0;
    /** @type {"connecting" | "connected" | "lost"} */
    this.state = "connecting";
    /** @type {"peer" | "server"} */
    this.route = "peer";
    /** @type {Record<Slot, MediaStreamTrack | null>} */
    this.local = { audio: null, camera: null, screen: null };
    /** What the other side says it is sending. */
    this.remote = { audio: true, camera: options.video, screen: false };
    this.muted = false;
    /** It was accepted automatically. */
    this.byItself = false;
    /** On hold by this side, by the other side. */
    this.held = { here: false, there: false };
    /** Why the local camera or microphone is missing: a code, or empty. */
    this.problem = "";
    /** @type {Quality} */
    this.quality = "auto";
    /** 0 (none) to 3 (good), or null while it is not known. @type {number | null} */
    this.bars = null;
    /** How loud the other side is, 0 to 1. */
    this.level = 0;
    this.face = videoElement();
    /** Remote sound, in an element of its own: a <video> is silent until it has a frame. */
    this.voice = new Audio();
    this.board = videoElement();
    this.mirror = videoElement();
    this.mirror.muted = true;
    /** @type {PeerLink | null} */
    this.link = null;
    /** Messages received before the link was created. @type {object[]} */
    this.early = [];
    /** @type {Partial<Record<"face" | "board", WhepPlayer>>} */
    this.players = {};
    /** @type {Partial<Record<"face" | "board", WhipPublisher>>} */
    this.publishers = {};
    this.ended = false;
    /** The server was restarted and does not know this call yet. */
    this.restoring = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.patience = undefined;
    this.leaving = new AbortController();
    this.looking = setInterval(() => this.#look(), 250);
    this.looks = 0;
    this.figures = new Bars();
    /** Received bytes, and when the number last changed. */
    this.flow = { bytes: 0, at: 0 };
    this.doubtUntil = 0;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.restarting = undefined;
  }

  /** @param {{ again?: boolean }} [how] again: this page was reloaded and rejoins the call */
  async start({ again = false } = {}) {
    const { signal } = this.leaving;
    const doubt = () => {
      this.doubtUntil = performance.now() + DOUBT;
      // Incoming data shows whether the path is lost; if the other side sends nothing, restart ICE to be safe.
      if (this.state === "lost" || !this.#isSentTo()) this.link?.restart();
    };
    onNetworkDoubt(doubt, signal);
    if (again) this.options.send({ again: true });
    if (this.options.config.media === "server") this.#goServer();
    else this.#openLink();
    toSpeaker(this.voice);
    try {
      const { stream, problem } = await openForCall(this.options.video);
      this.problem = problem;
      if (this.ended) return stream.getTracks().forEach((track) => track.stop());
      await this.#use("audio", stream.getAudioTracks()[0] ?? null);
      await this.#use("camera", stream.getVideoTracks()[0] ?? null);
    } catch (error) {
      this.problem = error instanceof Error && "code" in error ? String(error.code) : "media_busy";
    }
    this.#tellMedia();
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /**
   * Replaces the local track of a slot.
   * @param {Slot} slot
   * @param {MediaStreamTrack | null} track
   */
  async #use(slot, track) {
    // The other side may have hung up while a device was opening or a screen was being chosen.
    if (this.ended) return track?.stop();
    const before = this.local[slot];
    this.local[slot] = track;
    if (before && before !== track) before.stop();
    if (track) {
      if (slot === "audio") track.enabled = !this.muted;
      // Unplugged, taken away by the system, or "Stop sharing" in the browser's own bar.
      track.addEventListener("ended", () => this.local[slot] === track && this.#gone(slot));
      // Taken by the system temporarily: a telephone call, the app in the background.
      for (const event of ["mute", "unmute"]) track.addEventListener(event, () => this.local[slot] === track && this.#tellMedia());
    }
    if (slot === "camera") this.mirror.srcObject = track ? new MediaStream([track]) : null;
    await this.#send(slot);
  }

  /** @param {Slot} slot */
  async #gone(slot) {
    await this.#use(slot, null);
    // Right away: the other side must not mistake the silence for a lost path while another device is opened.
    this.#tellMedia();
    if (slot !== "screen") await this.renew(slot);
    this.#tellMedia();
    this.#changed();
  }

  /** Sends a slot's track over the current route. @param {Slot} slot */
  async #send(slot) {
    const track = this.held.here ? null : this.local[slot];
    await this.link?.setTrack(slot, track);
    if (this.route !== "server") return;
    if (slot === "screen") {
      if (track && !this.publishers.board) this.publishers.board = this.#publish("screen", "board");
      if (!track) {
        this.publishers.board?.stop();
        delete this.publishers.board;
      }
      await this.publishers.board?.setTrack("video", track);
    } else {
      await this.publishers.face?.setTrack(slot === "audio" ? "audio" : "video", track);
    }
  }

  #tellMedia() {
    if (this.ended) return;
    const has = (/** @type {Slot} */ slot) => this.local[slot]?.muted === false && !this.held.here;
    this.options.send({ media: { audio: has("audio") && !this.muted, camera: has("camera"), screen: has("screen") } });
  }

  /** Reopens the chosen device of a slot. @param {"audio" | "camera"} slot */
  async renew(slot) {
    try {
      const { open } = await import("./devices.js");
      const stream = await open({ audio: slot === "audio", video: slot === "camera" });
      const [track] = stream.getTracks();
      if (this.ended) track?.stop();
      else await this.#use(slot, track ?? null);
      this.problem = "";
    } catch (error) {
      this.problem = error instanceof Error && "code" in error ? String(error.code) : "media_busy";
    }
    this.#tellMedia();
    this.#changed();
  }

  toggleMute() {
    this.muted = !this.muted;
    if (this.local.audio) this.local.audio.enabled = !this.muted;
    this.#tellMedia();
    this.#changed();
  }

  async toggleCamera() {
    if (!this.local.camera) return this.renew("camera");
    await this.#use("camera", null);
    this.#tellMedia();
    this.#changed();
  }

  async toggleScreen() {
    const track = this.local.screen ? null : await openScreen();
    if (!track && !this.local.screen) return;
    await this.#use("screen", track);
    this.#tellMedia();
    this.#changed();
  }

  /** @param {Quality} quality */
  async setQuality(quality) {
    this.quality = quality;
    await this.link?.setQuality(quality);
    await this.publishers.face?.setQuality(quality);
    this.#changed();
  }

  /** @param {boolean} held */
  async hold(held) {
    this.held.here = held;
    this.voice.muted = held;
    for (const slot of SLOTS) await this.#send(slot);
    this.#tellMedia();
    this.#changed();
  }

  /** @param {boolean} held */
  heldThere(held) {
    this.held.there = held;
    this.#changed();
  }

  /** Takes a message from the other side. @param {any} payload */
  signal(payload) {
    if (this.ended || typeof payload !== "object" || payload === null) return;
    if (payload.route === "server") return this.#goServer();
    if (payload.media) return this.#heard(payload.media);
    if (payload.again) {
      // The other page has rejoined: start a new connection.
      this.#tellMedia();
      if (this.route === "server") this.options.send({ route: "server" });
      else this.#openLink();
      return;
    }
    if (this.route !== "peer") return;
    if (this.link) this.link.signal(payload);
    else this.early.push(payload);
  }

  /** @param {{ audio?: boolean, camera?: boolean, screen?: boolean }} media */
  #heard(media) {
    this.remote = { audio: media.audio === true, camera: media.camera === true, screen: media.screen === true };
    if (this.route === "server") this.#playBoard();
    this.#changed();
  }

  #openLink() {
    this.link?.close();
    const { config, polite, send } = this.options;
    const link = new PeerLink({ first: !polite, rtc: { iceServers: config.ice_servers }, send });
    this.link = link;
    this.flow = { bytes: 0, at: performance.now() };
    for (const element of [this.face, this.board, this.voice]) element.srcObject = null;
    link.addEventListener("track", (event) => {
      const { slot, track } = /** @type {CustomEvent} */ (event).detail;
      const element = { audio: this.voice, camera: this.face, screen: this.board }[/** @type {Slot} */ (slot)];
      element.srcObject = new MediaStream([track]);
      playAll(this.face, this.board, this.voice);
    });
    link.addEventListener("state", () => this.link === link && this.#linkChanged());
    for (const slot of SLOTS) link.setTrack(slot, this.held.here ? null : this.local[slot]);
    link.setQuality(this.quality);
    for (const payload of this.early.splice(0)) link.signal(payload);
    this.#await(DIRECT_LIMIT);
  }

  #linkChanged() {
    const state = this.link?.state;
    if (state === "connected") {
      clearTimeout(this.patience);
      this.patience = undefined;
      this.#connected();
    } else if ((state === "disconnected" || state === "failed") && this.state === "connected") {
      this.#lost();
    } else if (state === "failed") {
      this.#fallBack();
    }
  }

  /** The direct path is lost: restart ICE. */
  #lost() {
    this.state = "lost";
    this.options.doubt();
    this.link?.restart();
    this.#await(RESTART_LIMIT);
    clearInterval(this.restarting);
    this.restarting = setInterval(() => {
      if (this.state === "lost" && this.link) this.link.restart();
      else clearInterval(this.restarting);
    }, RESTART_AGAIN);
    this.#changed();
  }

  /** Whether the other side says it sends continuously. A screen is not: without changes nothing is sent. */
  #isSentTo() {
    return (this.remote.audio || this.remote.camera) && !this.held.here && !this.held.there;
  }

  /**
   * @param {number} packets of media received over the direct connection in total
   * @param {number} bytes including RTCP, which continues even if the other side's device has stopped
   */
  #flows(packets, bytes) {
    const now = performance.now();
    const silent = bytes <= this.flow.bytes && packets > 0 && this.#isSentTo();
    // The number may drop: after an ICE restart the old candidate pairs are no longer counted.
    this.flow = { bytes, at: silent ? this.flow.at : now };
    const stall = now < this.doubtUntil ? DOUBT_STALL : STALL;
    if (this.state === "connected" && now - this.flow.at > stall) this.#lost();
    // The path came back before the browser reported it as lost, or there was nothing to receive.
    else if (this.state === "lost" && !silent && this.link?.state === "connected") this.#linkChanged();
  }

  /** @param {number} limit */
  #await(limit) {
    clearTimeout(this.patience);
    this.patience = setTimeout(() => this.#fallBack(), limit);
  }

  #fallBack() {
    if (this.ended || this.route === "server") return;
    if (this.options.config.media === "peer") {
      // No other route is allowed. A connection that once worked may come back; one that never did will not.
      if (this.since === 0) this.dispatchEvent(new Event("fail"));
      return;
    }
    this.options.send({ route: "server" });
    this.#goServer();
  }

  /** Each side publishes its tracks and plays the other's. */
  #goServer() {
    if (this.route === "server" || this.ended) return;
    this.route = "server";
    clearTimeout(this.patience);
    this.link?.close();
    this.link = null;
    this.publishers.face = this.#publish("call", "face");
    for (const slot of SLOTS) this.#send(slot);
    this.players.face = this.#play("call", this.face);
    this.#playBoard();
    if (this.state === "connected") this.state = "lost";
    this.#changed();
  }

  /**
   * @param {"call" | "screen"} what
   * @param {"face" | "board"} place
   */
  #publish(what, place) {
    const rtc = { iceServers: this.options.config.ice_servers };
    const publisher = new WhipPublisher(at(`/whip/${what}/${this.id}/${this.options.me}`), { rtc });
    publisher.quality = place === "face" ? this.quality : "auto";
    publisher.tracks = {
      audio: place === "face" && !this.held.here ? this.local.audio : null,
      video: this.held.here ? null : place === "face" ? this.local.camera : this.local.screen,
    };
    publisher.addEventListener("state", () => {
      if (publisher.state === "blocked" && place === "face") this.#noWay();
    });
    publisher.start();
    return publisher;
  }

  /**
   * @param {"call" | "screen"} what
   * @param {HTMLVideoElement} element
   */
  #play(what, element) {
    const rtc = { iceServers: this.options.config.ice_servers };
    const options = what === "call" ? { calm: true, rtc, audio: this.voice } : { calm: true, rtc };
    const player = new WhepPlayer(element, at(`/whep/${what}/${this.id}/${this.peer}`), options);
    player.addEventListener("state", () => {
      if (player !== this.players.face) return;
      if (player.state === "playing") this.#connected();
      else if (player.state === "blocked") return this.#noWay();
      else if (this.state === "connected") this.state = "lost";
      this.#changed();
    });
    player.start();
    return player;
  }

  /** The server knows the call again. Sessions that went through it must be started again. */
  restored() {
    this.restoring = false;
    if (this.route !== "server") return;
    for (const part of [...Object.values(this.publishers), ...Object.values(this.players)]) part.stop();
    this.publishers = { face: this.#publish("call", "face") };
    this.players = { face: this.#play("call", this.face) };
    for (const slot of SLOTS) this.#send(slot);
    this.#playBoard();
  }

  /** Neither route works. */
  #noWay() {
    if (!this.ended) this.dispatchEvent(new Event("fail"));
  }

  #playBoard() {
    if (this.remote.screen && !this.players.board) this.players.board = this.#play("screen", this.board);
    if (!this.remote.screen) {
      this.players.board?.stop();
      delete this.players.board;
    }
  }

  #connected() {
    if (this.ended) return;
    this.state = "connected";
    if (this.since === 0) {
      this.since = Date.now();
      this.options.connected();
    }
    this.#changed();
  }

  /** The connection on which the other side's sound and camera arrive. */
  get receiving() {
    return this.route === "peer" ? this.link?.peer : this.players.face?.session?.peer;
  }

  async #look() {
    const peer = this.receiving;
    if (!peer) return;
    const report = await peer.getStats();
    if (this.ended || peer !== this.receiving) return;
    const { level, packets } = heard(report);
    if (this.route === "peer") this.#flows(packets, received(report));
    this.looks += 1;
    const due = this.looks % 8 === 0;
    if (due) this.bars = this.state === "connected" ? this.figures.measure(report) ?? this.bars : 0;
    if (due || Math.abs(level - this.level) > 0.01) {
      this.level = level;
      this.dispatchEvent(new Event("meter"));
    }
  }

  /** Releases everything; the caller tells the server. */
  end() {
    if (this.ended) return;
    this.ended = true;
    clearInterval(this.looking);
    clearTimeout(this.patience);
    clearInterval(this.restarting);
    this.leaving.abort();
    this.link?.close();
    for (const publisher of Object.values(this.publishers)) publisher.stop();
    for (const player of Object.values(this.players)) player.stop();
    for (const slot of SLOTS) this.local[slot]?.stop();
    for (const element of [this.face, this.board, this.mirror, this.voice]) element.srcObject = null;
  }
}

function videoElement() {
  const video = document.createElement("video");
  video.autoplay = true;
  video.playsInline = true;
  return video;
}

/** Resumes elements that were moved on the page, which pauses them. @param {HTMLMediaElement[]} elements */
export function playAll(...elements) {
  for (const element of elements) if (element.srcObject && element.paused) element.play().catch(() => {});
}
