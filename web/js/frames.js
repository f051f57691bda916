// Notices the frames of a live stream in every browser: Firefox's `getVideoPlaybackQuality` does not count those of a
// MediaStream, and the callback for shown frames is not called while the page is hidden.

/** How long no frame may have been shown before the decoder's statistics are read. In milliseconds. */
const UNSEEN = 500;

export class Frames {
  /**
   * @param {HTMLVideoElement} video
   * @param {RTCPeerConnection} peer
   */
  constructor(video, peer) {
    this.video = video;
    this.peer = peer;
    /** When the last frame was noticed, comparable with `performance.now()`; 0 before the first one. */
    this.last = 0;
    this.decoded = 0;
    this.stopped = false;
    this.asking = false;
    this.#follow();
  }

  #follow() {
    if (this.stopped || !("requestVideoFrameCallback" in this.video)) return;
    this.video.requestVideoFrameCallback(() => {
      if (this.stopped) return;
      this.last = performance.now();
      this.#follow();
    });
  }

  /** Call it a few times a second: it looks for frames that are decoded but not shown. */
  async look() {
    if (this.asking || this.stopped || performance.now() - this.last < UNSEEN) return;
    this.asking = true;
    try {
      const decoded = framesDecoded(await this.peer.getStats());
      if (decoded > this.decoded) this.last = performance.now();
      this.decoded = decoded;
    } catch {
      // The connection is closed.
    } finally {
      this.asking = false;
    }
  }

  stop() {
    this.stopped = true;
  }
}

/** @param {RTCStatsReport} report */
function framesDecoded(report) {
  let frames = 0;
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp" && entry.kind === "video") frames += entry.framesDecoded ?? 0;
  }
  return frames;
}
