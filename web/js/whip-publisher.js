// Publishes tracks over WHIP (RFC 9725): it reconnects by itself and cleans up, and tracks can be replaced while it is
// running. It is independent of this page and can be used in others:
//
//   import { WhipPublisher } from "https://gatehouse.example/js/whip-publisher.js";
//   const publisher = new WhipPublisher("https://gatehouse.example/whip/camera/stage", { token: "ght_…" });
//   publisher.setTrack("audio", microphone);
//   publisher.setTrack("video", camera);
//   publisher.start();
import { Backoff } from "./backoff.js";
import { isSilent, onNetworkDoubt } from "./network.js";
import { sessionUrl } from "./session-url.js";

/** @typedef {"idle" | "connecting" | "live" | "retrying" | "blocked"} PublisherState */

const FIRST_RETRY = 500;
const LAST_RETRY = 5_000;
/** From the SDP answer to a connection. */
const CONNECT_LIMIT = 10_000;
/** How long a `disconnected` connection may recover before ICE is restarted; the restart gets twice as long. */
const SHAKY = 1_500;
/** Bits per second, by quality; 0 leaves it to the browser. */
const LIMITS = /** @type {const} */ ({ auto: 0, low: 300_000, high: 4_000_000 });

/** @typedef {keyof typeof LIMITS} Quality */

export class WhipPublisher extends EventTarget {
  /**
   * @param {string} url the WHIP endpoint
   * @param {{ token?: string, rtc?: RTCConfiguration }} [options]
   */
  constructor(url, options = {}) {
    super();
    this.url = url;
    this.options = options;
    /** @type {PublisherState} */
    this.state = "idle";
    /** Why it is not publishing: a stable code, or empty. */
    this.code = "";
    /** @type {Record<"audio" | "video", MediaStreamTrack | null>} */
    this.tracks = { audio: null, video: null };
    /** @type {Quality} */
    this.quality = "auto";
    /** @type {RTCPeerConnection | null} */
    this.peer = null;
    this.location = "";
    this.tag = "";
    this.backoff = new Backoff(FIRST_RETRY, LAST_RETRY);
    this.generation = 0;
    this.restarted = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {AbortController | null} */
    this.listening = null;
  }

  /** Starts publishing; does nothing if already started. */
  start() {
    if (this.state !== "idle" && this.state !== "blocked") return;
    this.listening = new AbortController();
    const { signal } = this.listening;
    window.addEventListener("pagehide", () => this.stop(), { signal });
    onNetworkDoubt(() => this.#doubt(), signal);
    this.#connect();
  }

  /** Ends the session, here and on the server. The tracks are not stopped. */
  stop() {
    this.listening?.abort();
    this.listening = null;
    this.generation += 1;
    clearTimeout(this.timer);
    this.backoff.reset();
    this.#close();
    this.#become("idle", "");
  }

  /**
   * Replaces a track; null sends nothing.
   * @param {"audio" | "video"} kind
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    this.tracks[kind] = track;
    await this.#sender(kind)?.replaceTrack(track).catch(() => {});
    if (kind === "video") await this.setQuality(this.quality);
  }

  /** @param {Quality} quality */
  async setQuality(quality) {
    this.quality = quality;
    const sender = this.#sender("video");
    if (sender) await limit(sender, quality);
  }

  /** @param {"audio" | "video"} kind */
  #sender(kind) {
    return this.peer?.getTransceivers()[kind === "audio" ? 0 : 1]?.sender;
  }

  async #connect() {
    this.generation += 1;
    const generation = this.generation;
    const current = () => generation === this.generation;
    this.#become(this.backoff.failures > 0 ? "retrying" : "connecting", this.code);
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...this.options.rtc });
    this.peer = peer;
    this.restarted = false;
    peer.onconnectionstatechange = () => current() && this.#changed(peer);
    try {
      for (const kind of /** @type {const} */ (["audio", "video"])) {
        const transceiver = peer.addTransceiver(this.tracks[kind] ?? kind, { direction: "sendonly" });
        if (kind === "video") preferH264(transceiver);
      }
      await this.setQuality(this.quality);
      await peer.setLocalDescription();
      // No need to gather candidates: the server's are reachable, and it learns ours from the connectivity checks.
      const answer = await this.#post(peer.localDescription?.sdp ?? "", current);
      if (!current()) return;
      await peer.setRemoteDescription({ type: "answer", sdp: answer });
      // The server stops, or it has ended this stream: the next attempt tells which.
      const transport = peer.getSenders()[0]?.transport;
      transport?.addEventListener("statechange", () => transport.state === "closed" && current() && this.#failed("closed"));
      this.timer = setTimeout(() => current() && this.#failed("media"), CONNECT_LIMIT);
    } catch (error) {
      if (!current()) return;
      const code = error instanceof Refused ? error.code : "media";
      if (error instanceof Refused && error.final) {
        this.#close();
        this.#become("blocked", code);
      } else {
        this.#failed(code);
      }
    }
  }

  /** @param {RTCPeerConnection} peer */
  #changed(peer) {
    const state = peer.connectionState;
    if (state === "connected") {
      clearTimeout(this.timer);
      this.backoff.reset();
      this.restarted = false;
      this.#become("live", "");
    } else if (state === "failed" || state === "closed") {
      this.#failed("media");
    } else if (state === "disconnected" && !this.restarted) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#restartIce(), SHAKY);
    }
  }

  /** Restarts ICE if connected: for callers that know the network has changed. */
  async restart() {
    await this.#restartIce();
  }

  /** The network may have changed. The server sends RTCP several times a second: silence means the path is lost. */
  async #doubt() {
    const peer = this.peer;
    if (!peer && this.state === "retrying") {
      clearTimeout(this.timer);
      this.#connect();
    } else if (peer && (await isSilent(peer)) && peer === this.peer) {
      await this.#restartIce();
    }
  }

  /** RFC 9725 §4.3.2: keeps the session on another network. If that fails quickly, a new session is started. */
  async #restartIce() {
    const peer = this.peer;
    const generation = this.generation;
    if (!peer || !this.location || this.restarted || peer.connectionState === "new") return;
    this.restarted = true;
    try {
      const offer = await peer.createOffer({ iceRestart: true });
      await peer.setLocalDescription(offer);
      const response = await fetch(this.location, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.tag, ...this.#authorization() },
        body: fragment(offer.sdp ?? ""),
        signal: AbortSignal.timeout(2_000),
      });
      const text = await response.text();
      if (generation !== this.generation) return;
      if (response.status !== 200) throw new Error(`${response.status}`);
      this.tag = response.headers.get("ETag") ?? this.tag;
      await peer.setRemoteDescription({ type: "answer", sdp: restarted(peer.currentRemoteDescription?.sdp ?? "", text) });
      clearTimeout(this.timer);
      this.timer = setTimeout(async () => {
        this.restarted = false;
        // The browser may still report a dead connection as connected.
        const works = peer.connectionState === "connected" && !(await isSilent(peer));
        if (generation === this.generation && !works) this.#failed("media");
      }, 2 * SHAKY);
    } catch {
      if (generation === this.generation) this.#failed("media");
    }
  }

  /** @param {string} code */
  #failed(code) {
    this.generation += 1;
    this.#close();
    const delay = this.backoff.next();
    this.#become("retrying", code);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#connect(), delay);
  }

  /** @param {string} sdp @param {() => boolean} current */
  async #post(sdp, current) {
    const headers = { "Content-Type": "application/sdp", ...this.#authorization() };
    const response = await fetch(this.url, { method: "POST", headers, body: sdp, signal: AbortSignal.timeout(15_000) });
    const text = await response.text();
    if (response.status === 201) {
      const location = sessionUrl(this.url, response.headers.get("Location") ?? "");
      if (!current()) {
        // Stopped in the meantime: do not leave the session behind on the server.
        fetch(location, { method: "DELETE", headers: this.#authorization(), keepalive: true }).catch(() => {});
        return text;
      }
      this.location = location;
      this.tag = response.headers.get("ETag") ?? "*";
      return text;
    }
    let code = `http_${response.status}`;
    try {
      code = JSON.parse(text).error.code ?? code;
    } catch {
      // Not one of our servers.
    }
    throw new Refused(code, [401, 403, 404, 405, 413, 415, 422].includes(response.status));
  }

  /** @returns {Record<string, string>} */
  #authorization() {
    return this.options.token ? { Authorization: `Bearer ${this.options.token}` } : {};
  }

  #close() {
    const peer = this.peer;
    this.peer = null;
    if (peer) peer.onconnectionstatechange = null;
    peer?.close();
    const location = this.location;
    this.location = "";
    if (location) fetch(location, { method: "DELETE", headers: this.#authorization(), keepalive: true }).catch(() => {});
  }

  /**
   * @param {PublisherState} state
   * @param {string} code
   */
  #become(state, code) {
    if (state === this.state && code === this.code) return;
    this.state = state;
    this.code = code;
    this.dispatchEvent(new Event("state"));
  }
}

class Refused extends Error {
  /**
   * @param {string} code
   * @param {boolean} final
   */
  constructor(code, final) {
    super(code);
    this.code = code;
    this.final = final;
  }
}

/**
 * Limits the bit rate and resolution of a sender.
 * @param {RTCRtpSender} sender
 * @param {Quality} quality
 */
export async function limit(sender, quality) {
  const parameters = sender.getParameters();
  const [encoding] = parameters.encodings ?? [];
  if (!encoding) return;
  if (LIMITS[quality]) encoding.maxBitrate = LIMITS[quality];
  else delete encoding.maxBitrate;
  encoding.scaleResolutionDownBy = quality === "low" ? 2 : 1;
  await sender.setParameters(parameters).catch(() => {});
}

/** Every player supports H.264, and phones have it in hardware. @param {RTCRtpTransceiver} transceiver */
function preferH264(transceiver) {
  const isH264 = (/** @type {{ mimeType: string }} */ codec) => codec.mimeType.toLowerCase() === "video/h264";
  try {
    const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
    transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
  } catch {
    // Keep the browser's own order.
  }
}

/** RFC 8840 §9: the part of an offer that an ICE restart sends. @param {string} sdp */
function fragment(sdp) {
  const wanted = ["a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:"];
  const lines = sdp.split(/\r?\n/);
  const first = (/** @type {string} */ start) => lines.find((line) => line.startsWith(start));
  const head = wanted.map(first).filter(Boolean);
  const candidates = lines.filter((line) => line.startsWith("a=candidate:"));
  return [...head, first("m=") ?? "", first("a=mid:") ?? "", ...candidates, ""].join("\r\n");
}

/**
 * The previous answer with the server's new ICE credentials.
 * @param {string} answer
 * @param {string} restart
 */
function restarted(answer, restart) {
  const value = (/** @type {string} */ name) => restart.match(new RegExp(`^a=${name}:(.*)$`, "m"))?.[1]?.trim() ?? "";
  return answer
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${value("ice-ufrag")}`)
    .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${value("ice-pwd")}`);
}
