// Exponential back-off with jitter: the delay doubles up to a limit, and the jitter keeps pages from reconnecting in
// lockstep after a server restart.

export class Backoff {
  /**
   * @param {number} first milliseconds
   * @param {number} last
   */
  constructor(first, last) {
    this.first = first;
    this.last = last;
    this.failures = 0;
  }

  /** Counts a failure and returns the delay in milliseconds. */
  next() {
    const delay = Math.min(this.first * 2 ** this.failures, this.last) * (0.75 + Math.random() / 4);
    this.failures += 1;
    return delay;
  }

  /** Call after a success: the next failure counts as the first one. */
  reset() {
    this.failures = 0;
  }
}
