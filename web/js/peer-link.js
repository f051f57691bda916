// One connection between two browsers: sound, camera and screen in both directions, with the perfect-negotiation
// pattern. It is independent of server and page: messages to the other side go to `send`, its messages to `signal`.
import { limit } from "./whip-publisher.js";

/** @typedef {"audio" | "camera" | "screen"} Slot */
/** @typedef {import("./whip-publisher.js").Quality} Quality */

/** One transceiver each, in this order, created by the side that offers first. @type {Slot[]} */
export const SLOTS = ["audio", "camera", "screen"];

/**
 * Events: `state` (see `state`), `track` (a remote track, with its slot).
 */
export class PeerLink extends EventTarget {
  /**
   * @param {object} options
   * @param {boolean} options.first makes the first offer, and is the impolite peer
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
    /** Incoming messages are processed one after the other. */
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
   * Replaces the track of a slot; null sends nothing.
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
   * Restarts ICE. Only the side that offers first does so: after an offer collision, Chromium no longer plays anything
   * on the side that rolled back.
   */
  restart() {
    if (this.closed) return;
    if (this.polite) this.send({ restart: true });
    else this.#restart();
  }

  #restart() {
    // An unanswered offer may have been lost, and there is no new offer before it is answered: send it again.
    if (this.peer.signalingState === "have-local-offer") this.send({ description: this.peer.localDescription?.toJSON() });
    else this.peer.restartIce();
  }

  async #offer() {
    try {
      this.making = true;
      await this.peer.setLocalDescription();
      if (!this.closed) this.send({ description: this.peer.localDescription?.toJSON() });
    } catch {
      // Closed in the meantime, or a remote description arrived first: then negotiation is triggered again.
    } finally {
      this.making = false;
    }
  }

  /** Takes a message from the other side. @param {any} payload */
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
