// One peer connection between two browsers: audio, camera and screen in both directions, using the perfect negotiation
// pattern. Independent of server and page: outgoing signals go through `send`, incoming ones come in by `signal`.
import { limit } from "./whip-publisher.js";

/** @typedef {"audio" | "camera" | "screen"} Slot */
/** @typedef {import("./whip-publisher.js").Quality} Quality */

/** One transceiver each, in this order, created by the side that offers first. @type {Slot[]} */
export const SLOTS = ["audio", "camera", "screen"];

/**
 * Events: `state` (see `state`), `track` (a track of the other side, with its slot).
 */
export class PeerLink extends EventTarget {
  /**
   * @param {object} options
   * @param {boolean} options.first offers first, and is the impolite peer
   * @param {RTCConfiguration} options.rtc
   * @param {(payload: object) => void} options.send
   */
  constructor({ first, rtc, send }) {
    super();
    this.polite = !first;
    this.send = send;
    /** @type {Record<Slot, MediaStreamTrack | null>} */
    this.tracks = { audio: null, camera: null, screen: null };
    /** @type {Quality} */
    this.quality = "auto";
    this.making = false;
    this.ignoring = false;
    this.closed = false;
    /** Serializes the handling of incoming signals. */
    this.queue = Promise.resolve();
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...rtc });
    this.peer = peer;
    peer.onnegotiationneeded = () => this.#offer();
    peer.onicecandidate = ({ candidate }) => candidate && this.send({ candidate: candidate.toJSON() });
    peer.onconnectionstatechange = () => this.dispatchEvent(new Event("state"));
    peer.ontrack = ({ track, transceiver }) => {
      const slot = SLOTS[peer.getTransceivers().indexOf(transceiver)];
      if (slot) this.dispatchEvent(new CustomEvent("track", { detail: { slot, track } }));
    };
    if (first) {
      for (const slot of SLOTS) peer.addTransceiver(slot === "audio" ? "audio" : "video", { direction: "sendrecv" });
    }
  }

  /** `new`, `connecting`, `connected`, `disconnected`, `failed`, `closed`. */
  get state() {
    return this.closed ? "closed" : this.peer.connectionState;
  }

  /**
   * Sends another track in a slot, or nothing.
   * @param {Slot} slot
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(slot, track) {
    this.tracks[slot] = track;
    await this.#sender(slot)?.replaceTrack(track).catch(() => {});
    if (slot === "camera") await this.setQuality(this.quality);
  }

  /** @param {Quality} quality */
  async setQuality(quality) {
    this.quality = quality;
    const sender = this.#sender("camera");
    if (sender) await limit(sender, quality);
  }

  /** @param {Slot} slot */
  #sender(slot) {
    return this.peer.getTransceivers()[SLOTS.indexOf(slot)]?.sender;
  }

  /**
   * Restarts ICE. Only the side that offers first does so: after a collision of offers, Chromium shows no more video on
   * the side that rolled back.
   */
  restart() {
    if (this.closed) return;
    if (this.polite) this.send({ restart: true });
    else this.#restart();
  }

  #restart() {
    // An unanswered offer may have been lost, and it blocks further offers: send it again.
    if (this.peer.signalingState === "have-local-offer") this.send({ description: this.peer.localDescription?.toJSON() });
    else this.peer.restartIce();
  }

  async #offer() {
    try {
      this.making = true;
      await this.peer.setLocalDescription();
      if (!this.closed) this.send({ description: this.peer.localDescription?.toJSON() });
    } catch {
      // Closed in the meantime, or a remote description arrived; then negotiation is triggered again.
    } finally {
      this.making = false;
    }
  }

  /** Handles a signal from the other side. @param {any} payload */
  signal(payload) {
    this.queue = this.queue.then(() => this.#take(payload)).catch(() => {});
  }

  /** @param {any} payload */
  async #take({ description, candidate, restart }) {
    const peer = this.peer;
    if (this.closed) return;
    if (restart) {
      if (!this.polite) this.#restart();
    } else if (description) {
      const collision = description.type === "offer" && (this.making || peer.signalingState !== "stable");
      this.ignoring = !this.polite && collision;
      if (this.ignoring) return;
      await peer.setRemoteDescription(description);
      if (description.type !== "offer") return;
      for (const slot of SLOTS) {
        const transceiver = peer.getTransceivers()[SLOTS.indexOf(slot)];
        if (!transceiver || transceiver.direction === "sendrecv") continue;
        transceiver.direction = "sendrecv";
        await transceiver.sender.replaceTrack(this.tracks[slot]);
      }
      await peer.setLocalDescription();
      this.send({ description: peer.localDescription?.toJSON() });
      await this.setQuality(this.quality);
    } else if (candidate) {
      try {
        await peer.addIceCandidate(candidate);
      } catch (error) {
        if (!this.ignoring) throw error;
      }
    }
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    const peer = this.peer;
    peer.onnegotiationneeded = null;
    peer.onicecandidate = null;
    peer.onconnectionstatechange = null;
    peer.ontrack = null;
    peer.close();
  }
}
