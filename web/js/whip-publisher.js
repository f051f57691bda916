// Publishes tracks by WHIP (RFC 9725), and goes on doing so: it reconnects by itself and cleans up. Tracks can be
// changed while it runs. It knows nothing of this page; take it for yours:
//
//   import { WhipPublisher } from "https://gatehouse.example/js/whip-publisher.js";
//   const publisher = new WhipPublisher("https://gatehouse.example/whip/camera/stage", { token: "ght_…" });
//   publisher.setTrack("audio", microphone);
//   publisher.setTrack("video", camera);
//   publisher.start();
import { Backoff } from "./backoff.js";
import { isSilent, onNetworkDoubt } from "./network.js";

/** @typedef {"idle" | "connecting" | "live" | "retrying" | "blocked"} PublisherState */

const FIRST_RETRY = 500;
const LAST_RETRY = 5_000;
/** From the answer to the connection. */
const CONNECT_LIMIT = 10_000;
/** A connection that is only shaky gets this long to recover before ICE is restarted, and as long again after it. */
const SHAKY = 1_500;
/** Bits per second, by quality; none is the browser's own choice. */
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
    /** Why it does not publish: a stable code, or empty. */
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

  /** Begins; does nothing while it is at it. */
  start() {
    if (this.state !== "idle" && this.state !== "blocked") return;
    this.listening = new AbortController();
    const { signal } = this.listening;
    window.addEventListener("pagehide", () => this.stop(), { signal });
    onNetworkDoubt(() => this.#doubt(), signal);
    this.#connect();
  }

  /** Ends it, here and on the server. Tracks are left as they are. */
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
   * Sends another track, or nothing.
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
      // The server's candidates are enough: our checks reach it, and it answers them.
      const answer = await this.#post(peer.localDescription?.sdp ?? "", current);
      if (!current()) return;
      await peer.setRemoteDescription({ type: "answer", sdp: answer });
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

  /** Finds another way to the server, if it is at it: the network is known to have changed. */
  async restart() {
    await this.#restartIce();
  }

  /** The server reports several times a second on what it gets: if nothing comes, the way is lost. */
  async #doubt() {
    const peer = this.peer;
    if (!peer && this.state === "retrying") {
      clearTimeout(this.timer);
      this.#connect();
    } else if (peer && (await isSilent(peer)) && peer === this.peer) {
      await this.#restartIce();
    }
  }

  /** RFC 9725 §4.3.2: the same session over another network. What does not help within a moment is begun anew. */
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
        // The browser may still call connected what is not.
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
      const location = new URL(response.headers.get("Location") ?? "", new URL(this.url, window.location.href)).href;
      if (!current()) {
        // Stopped in the meantime: the server must not wait for whoever does not come.
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
    throw new Refused(code, [401, 403, 404, 415, 422].includes(response.status));
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
 * How much a sender may send.
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

/** Every player has it, and phones have it in hardware. @param {RTCRtpTransceiver} transceiver */
function preferH264(transceiver) {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const isH264 = (/** @type {{ mimeType: string }} */ codec) => codec.mimeType.toLowerCase() === "video/h264";
  try {
    transceiver.setCodecPreferences([...codecs.filter(isH264), ...codecs.filter((codec) => !isH264(codec))]);
  } catch {
    // The browser's own order, then.
  }
}

/** RFC 8840 §9: what of an offer an ICE restart needs. @param {string} sdp */
function fragment(sdp) {
  const wanted = ["a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:"];
  const lines = sdp.split(/\r?\n/);
  const first = (/** @type {string} */ start) => lines.find((line) => line.startsWith(start));
  const head = wanted.map(first).filter(Boolean);
  const candidates = lines.filter((line) => line.startsWith("a=candidate:"));
  return [...head, first("m=") ?? "", first("a=mid:") ?? "", ...candidates, ""].join("\r\n");
}

/**
 * The answer with the server's new credentials and candidates in it.
 * @param {string} answer
 * @param {string} restart
 */
function restarted(answer, restart) {
  const value = (/** @type {string} */ name) => restart.match(new RegExp(`^a=${name}:(.*)$`, "m"))?.[1]?.trim() ?? "";
  return answer
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${value("ice-ufrag")}`)
    .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${value("ice-pwd")}`);
}
