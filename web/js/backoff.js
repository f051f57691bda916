// How long to wait before the next try: twice as long each time, up to a limit, and never quite the same for all pages,
// so that they do not come back in step after a restart of the server.

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

  /** After a failure: how long to wait, in milliseconds. */
  next() {
    const delay = Math.min(this.first * 2 ** this.failures, this.last) * (0.75 + Math.random() / 4);
    this.failures += 1;
    return delay;
  }

  /** It works: the next failure is the first one. */
  reset() {
    this.failures = 0;
  }
}
