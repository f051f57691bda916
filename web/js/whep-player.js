// Plays one WHEP stream in a <video>: it reconnects by itself, reports its state and cleans up. It is independent of
// this page and can be used in others:
//
//   import { WhepPlayer } from "https://gatehouse.example/js/whep-player.js";
//   const player = new WhepPlayer(document.querySelector("video"), "https://gatehouse.example/whep/camera/door");
//   player.addEventListener("state", () => console.log(player.state, player.code));
//   player.start();
import { Backoff } from "./backoff.js";
import { Frames } from "./frames.js";
import { isSilent, onNetworkDoubt } from "./network.js";
import { sessionUrl } from "./session-url.js";

/**
 * - `idle`: not started, or stopped.
 * - `connecting`: waiting for the first frame.
 * - `playing`: frames arrive.
 * - `stalled`: connected, but no new frame for some seconds; it resumes by itself.
 * - `retrying`: failed, retries at `retryAt`.
 * - `blocked`: failed in a way that retrying cannot fix, see `code`; `start()` tries once more.
 * @typedef {"idle" | "connecting" | "playing" | "stalled" | "retrying" | "blocked"} PlayerState
 */

/**
 * @typedef {object} PlayerStats
 * @property {number} width
 * @property {number} height
 * @property {number} fps
 * @property {number} bitrate bits per second
 * @property {number} lossPercent since the last call
 * @property {number} roundTrip in milliseconds
 * @property {number} jitterBuffer delay in milliseconds since the last call
 * @property {number} framesDecoded
 */

/**
 * @typedef {object} PlayerOptions
 * @property {string} [token] sent as `Authorization: Bearer`
 * @property {RTCConfiguration} [rtc] for the peer connection
 * @property {HTMLAudioElement} [audio] plays the sound instead: a <video> is silent until it has a frame
 * @property {boolean} [calm] for streams whose video may be off: `playing` depends on the connection alone
 */

const FIRST_RETRY = 500;
const LAST_RETRY = 10_000;
/** From the SDP answer to the first frame. */
const MEDIA_LIMIT = 10_000;
/** Without a new frame for this long the stream is stalled. */
const STALL = 3_000;
/** How long a `disconnected` connection may recover. */
const DISCONNECTED_LIMIT = 1_500;
/** For this long after the server has closed a connection, an unreachable server is taken to be restarting. */
const RESTART = 60_000;
/** Delay between attempts meanwhile. */
const RESTART_RETRY = 1_000;

export class WhepPlayer extends EventTarget {
  /**
   * @param {HTMLVideoElement} video
   * @param {string} url the WHEP endpoint
   * @param {PlayerOptions} [options]
   */
  constructor(video, url, options = {}) {
    super();
    this.video = video;
    this.url = url;
    this.options = options;
    /** @type {PlayerState} */
    this.state = "idle";
    /** Why it is not playing: a stable code, or empty. */
    this.code = "";
    /** When it retries, comparable with `Date.now()`. */
    this.retryAt = 0;
    /** @type {Session | null} */
    this.session = null;
    /** The layer of the stream, `main` or `sub`; empty for the server's choice. */
    this.layer = "";
    this.backoff = new Backoff(FIRST_RETRY, LAST_RETRY);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.generation = 0;
    /** When the server closed the last connection, comparable with `Date.now()`. */
    this.closedByServer = 0;
    /** @type {AbortController | null} Removes the listeners for page lifecycle and network. */
    this.listening = null;
  }

  /** Starts playing, or retries now; does nothing if already running. */
  start() {
    if (this.state !== "idle" && this.state !== "blocked" && this.state !== "retrying") return;
    clearTimeout(this.timer);
    this.#listen();
    this.#connect();
  }

  /** Stops and releases everything. `start()` may be called again. */
  stop() {
    this.listening?.abort();
    this.listening = null;
    this.#pause();
  }

  /** Goes on with another layer, without a new connection, as soon as the server has it. @param {string} layer */
  select(layer) {
    if (layer === this.layer) return;
    this.layer = layer;
    this.session?.select(layer);
  }

  /** Whether the connection has been negotiated with sound. */
  get hears() {
    const audio = this.session?.peer?.getTransceivers().find(({ receiver }) => receiver.track.kind === "audio");
    return audio?.currentDirection === "recvonly";
  }

  /** Connects anew, if it is connected. */
  renew() {
    if (this.state !== "playing") return;
    this.#close();
    this.#connect();
  }

  #pause() {
    this.generation += 1;
    clearTimeout(this.timer);
    this.backoff.reset();
    this.#close();
    this.#become("idle", "");
  }

  /** Releases the stream when the page is left, and resumes if the browser restores the page. */
  #listen() {
    if (this.listening) return;
    this.listening = new AbortController();
    const { signal } = this.listening;
    window.addEventListener("pagehide", () => this.#pause(), { signal });
    window.addEventListener("pageshow", (event) => event.persisted && this.start(), { signal });
    onNetworkDoubt(() => this.#doubt(), signal);
  }

  /**
   * Statistics since the last call, or null while there are none.
   * @returns {Promise<PlayerStats | null>}
   */
  async stats() {
    return (await this.session?.stats()) ?? null;
  }

  async #connect() {
    this.generation += 1;
    const generation = this.generation;
    const current = () => generation === this.generation;
    if (this.state !== "retrying" || this.code === "") this.#become("connecting", "");
    const { layer } = this;
    const session = new Session(this.video, this.url, { ...this.options, layer }, (event) => {
      if (current()) this.#event(event);
    });
    this.session = session;
    try {
      await session.open();
      if (layer !== this.layer) session.select(this.layer);
    } catch (error) {
      session.close();
      if (current()) this.#failed(error instanceof Failure ? error : new Failure("media"));
    }
  }

  /** @param {SessionEvent} event */
  #event(event) {
    if (event === "playing") {
      this.backoff.reset();
      this.#become("playing", "");
    } else if (event === "stalled") {
      if (this.state === "stalled") return;
      this.#become("stalled", "stalled");
      // Either the camera has stopped, or nothing arrives at all.
      this.#doubt();
    } else if (event === "closed") {
      // The server stops, or it has ended this stream: the next attempt tells which.
      this.closedByServer = Date.now();
      this.#close();
      this.#connect();
    } else {
      this.#failed(new Failure(event));
    }
  }

  /** @param {Failure} failure */
  #failed(failure) {
    this.generation += 1;
    this.#close();
    if (failure.final) {
      this.#become("blocked", failure.code);
      return;
    }
    const restarting = failure.code === "offline" && Date.now() - this.closedByServer < RESTART;
    // The server knows when it tries the camera again.
    const delay = restarting ? RESTART_RETRY : failure.retryAfter || this.backoff.next();
    this.retryAt = Date.now() + delay;
    this.#become("retrying", restarting ? "restarting" : failure.code);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#connect(), delay);
  }

  /** A new connection shows its first frame sooner than an ICE restart of the old one would. */
  async #doubt() {
    const { session } = this;
    const peer = session?.peer;
    if (!session && this.state === "retrying") {
      clearTimeout(this.timer);
      this.#connect();
    } else if (peer && (await isSilent(peer)) && session === this.session) {
      this.#close();
      this.#connect();
    }
  }

  #close() {
    this.session?.close();
    this.session = null;
  }

  /**
   * @param {PlayerState} state
   * @param {string} code
   */
  #become(state, code) {
    if (state === this.state && code === this.code && state !== "retrying") return;
    this.state = state;
    this.code = code;
    this.dispatchEvent(new Event("state"));
  }
}

class Failure extends Error {
  /**
   * @param {string} code
   * @param {boolean} [final] retrying does not help
   * @param {number} [retryAfter] milliseconds
   */
  constructor(code, final = false, retryAfter = 0) {
    super(code);
    this.code = code;
    this.final = final;
    this.retryAfter = retryAfter;
  }
}

/**
 * - `closed`: by the server, with DTLS.
 * - `lost`: it has carried media.
 * - `media`: it has never carried any.
 * - `media_address`: nor can it: the server has offered no address that this device can reach.
 * @typedef {"playing" | "stalled" | "closed" | "lost" | "media" | "media_address"} SessionEvent
 */

/** One peer connection, from its POST to its DELETE. */
class Session {
  /**
   * @param {HTMLVideoElement} video
   * @param {string} url
   * @param {PlayerOptions & { layer: string }} options
   * @param {(event: SessionEvent) => void} tell
   */
  constructor(video, url, options, tell) {
    this.video = video;
    this.url = url;
    this.options = options;
    this.tell = tell;
    /** @type {RTCPeerConnection | null} */
    this.peer = null;
    this.location = "";
    this.closed = false;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.watch = undefined;
    /** @type {Frames | null} */
    this.frames = null;
    this.wasPlaying = false;
    /** Whether the server has offered an address for media that another machine can reach. */
    this.hasAddress = true;
    this.opened = performance.now();
    this.disconnectedAt = 0;
    /** @type {Snapshot | null} */
    this.snapshot = null;
  }

  async open() {
    if (!("RTCPeerConnection" in window)) throw new Failure("no_webrtc", true);
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...this.options.rtc });
    this.peer = peer;
    const stream = new MediaStream();
    const { audio } = this.options;
    const sound = audio ? new MediaStream() : stream;
    peer.addTransceiver("video", { direction: "recvonly" });
    peer.addTransceiver("audio", { direction: "recvonly" });
    peer.ontrack = (event) => {
      // Live video: buffer as little as the network allows.
      event.receiver.jitterBufferTarget = 0;
      (event.track.kind === "audio" ? sound : stream).addTrack(event.track);
    };
    const offer = await peer.createOffer();
    await peer.setLocalDescription(offer);
    // No need to gather candidates: the server's are reachable, and it learns ours from the connectivity checks.
    const answer = await this.#post(peer.localDescription?.sdp ?? offer.sdp ?? "");
    if (this.closed) return;
    this.hasAddress = offersAddress(answer, new URL(this.url, window.location.href).hostname);
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    if (this.closed) return;
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    // Rejected while the page is hidden or when the element is replaced: autoplay starts it later.
    this.video.play().catch(() => {});
    if (audio) {
      audio.srcObject = sound;
      audio.play().catch(() => {});
    }
    this.opened = performance.now();
    this.frames = new Frames(this.video, peer);
    this.#follow(peer);
    this.watch = setInterval(() => this.#look(), 250);
  }

  /** @param {string} sdp */
  async #post(sdp) {
    let response;
    try {
      const headers = { "Content-Type": "application/sdp", ...this.#authorization() };
      const { layer } = this.options;
      const url = layer ? `${this.url}${this.url.includes("?") ? "&" : "?"}layer=${layer}` : this.url;
      response = await fetch(url, { method: "POST", headers, body: sdp, signal: AbortSignal.timeout(20_000) });
    } catch {
      throw new Failure("offline");
    }
    const text = await response.text();
    if (response.status === 201) {
      const location = response.headers.get("Location");
      this.location = location ? sessionUrl(this.url, location) : "";
      if (this.closed) this.#delete();
      return text;
    }
    let code = `http_${response.status}`;
    try {
      code = JSON.parse(text).error.code ?? code;
    } catch {
      // Not one of our servers.
    }
    const final = [401, 403, 405, 413, 415, 422].includes(response.status);
    const retryAfter = Number(response.headers.get("Retry-After") ?? 0) * 1000;
    throw new Failure(code, final, response.status === 404 ? 5_000 : retryAfter);
  }

  /** Asks for another layer; until the server has it, or if it has none, the picture stays. @param {string} layer */
  async select(layer) {
    if (!this.location || !layer) return;
    const headers = { "Content-Type": "application/json", ...this.#authorization() };
    const body = JSON.stringify({ encodingId: layer });
    await fetch(`${this.location}/layer`, { method: "POST", headers, body, signal: AbortSignal.timeout(5_000) }).catch(() => {});
  }

  /** @returns {Record<string, string>} */
  #authorization() {
    return this.options.token ? { Authorization: `Bearer ${this.options.token}` } : {};
  }

  /** Notices at once that the server closes the connection. @param {RTCPeerConnection} peer */
  #follow(peer) {
    const transport = peer.getReceivers()[0]?.transport;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed" && !this.closed) this.tell("closed");
    });
  }

  #look() {
    const { peer, frames } = this;
    if (!peer || !frames || this.closed) return;
    const now = performance.now();
    if (peer.connectionState === "failed" || peer.connectionState === "closed") return this.#lost();
    if (peer.connectionState === "disconnected") {
      this.disconnectedAt ||= now;
      if (now - this.disconnectedAt > DISCONNECTED_LIMIT) return this.#lost();
    } else {
      this.disconnectedAt = 0;
    }
    if (this.options.calm) {
      if (peer.connectionState === "connected") this.#playing();
      else if (now - this.opened > MEDIA_LIMIT) this.#lost();
      return;
    }
    frames.look();
    if (frames.last === 0) {
      if (now - this.opened > MEDIA_LIMIT) this.#lost();
    } else if (now - frames.last < STALL) {
      this.#playing();
    } else if (!document.hidden) {
      this.tell("stalled");
    }
  }

  #playing() {
    this.wasPlaying = true;
    this.tell("playing");
  }

  #lost() {
    this.tell(this.wasPlaying ? "lost" : this.hasAddress ? "media" : "media_address");
  }

  /** @returns {Promise<PlayerStats | null>} */
  async stats() {
    if (!this.peer || this.closed) return null;
    const snapshot = read(await this.peer.getStats());
    const before = this.snapshot;
    this.snapshot = snapshot;
    if (!snapshot || !before || snapshot.at <= before.at) return null;
    const seconds = (snapshot.at - before.at) / 1000;
    const received = snapshot.packets - before.packets;
    const lost = Math.max(0, snapshot.lost - before.lost);
    const emitted = snapshot.emitted - before.emitted;
    return {
      width: snapshot.width,
      height: snapshot.height,
      fps: (snapshot.framesDecoded - before.framesDecoded) / seconds,
      bitrate: ((snapshot.bytes - before.bytes) * 8) / seconds,
      lossPercent: received + lost > 0 ? (lost / (received + lost)) * 100 : 0,
      roundTrip: snapshot.roundTrip,
      jitterBuffer: emitted > 0 ? ((snapshot.bufferDelay - before.bufferDelay) / emitted) * 1000 : 0,
      framesDecoded: snapshot.framesDecoded,
    };
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.watch);
    this.frames?.stop();
    const peer = this.peer;
    this.peer = null;
    if (peer) peer.ontrack = null;
    // The server first: if the connection told it first, the session would be gone and the DELETE would fail.
    this.#delete().then(() => peer?.close());
  }

  async #delete() {
    if (!this.location) return;
    const location = this.location;
    this.location = "";
    const options = { method: "DELETE", headers: this.#authorization(), signal: AbortSignal.timeout(2_000) };
    // `keepalive`: it must be sent even while the page is being left.
    await fetch(location, { ...options, keepalive: true }).catch(() => {});
  }
}

/**
 * Whether an answer has a candidate that can be reached from where the server is called `host`: those of loopback are
 * for the server's own machine.
 * @param {string} answer
 * @param {string} host
 */
function offersAddress(answer, host) {
  const isLoopback = (/** @type {string} */ address) => /^127\.|^::1$|^\[::1\]$|^localhost$|\.localhost$/.test(address);
  const candidates = [...answer.matchAll(/^a=candidate:\S+ \d+ \S+ \d+ (\S+)/gm)];
  return isLoopback(host) || candidates.some(([, address = ""]) => !isLoopback(address));
}

/**
 * @typedef {object} Snapshot
 * @property {number} at
 * @property {number} bytes
 * @property {number} packets
 * @property {number} lost
 * @property {number} framesDecoded
 * @property {number} width
 * @property {number} height
 * @property {number} bufferDelay
 * @property {number} emitted
 * @property {number} roundTrip
 */

/**
 * @param {RTCStatsReport} report
 * @returns {Snapshot | null}
 */
function read(report) {
  /** @type {any} */
  let video = null;
  let roundTrip = 0;
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp" && entry.kind === "video") video = entry;
    if (entry.type === "candidate-pair" && entry.nominated) roundTrip = (entry.currentRoundTripTime ?? 0) * 1000;
  }
  if (!video) return null;
  return {
    at: video.timestamp,
    bytes: video.bytesReceived ?? 0,
    packets: video.packetsReceived ?? 0,
    lost: video.packetsLost ?? 0,
    framesDecoded: video.framesDecoded ?? 0,
    width: video.frameWidth ?? 0,
    height: video.frameHeight ?? 0,
    bufferDelay: video.jitterBufferDelay ?? 0,
    emitted: video.jitterBufferEmittedCount ?? 0,
    roundTrip,
  };
}
