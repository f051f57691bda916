// The signaling connection (the "line") to the server: one WebSocket that reconnects by itself without losing a frame.
// It is independent of the page; docs/signaling.md explains the frames.
//
//   const line = new SignalingClient("wss://gatehouse.example/api/ws", { device: "tab-1", label: "Office PC" });
//   line.addEventListener("event", ({ detail }) => console.log(detail.type, detail.body));
//   line.start();
//   await line.request("call.invite", { to: "anna", video: true });

import { Backoff } from "./backoff.js";

const FIRST_RETRY = 500;
const LAST_RETRY = 15_000;
/** For the answer to a request, across reconnects. */
const ANSWER_LIMIT = 20_000;
/** From opening a socket to the `welcome` frame. */
const WELCOME_LIMIT = 10_000;
/** Idle time until a ping: a lost network does not close the socket. */
const QUIET = 25_000;
/** For the answer to that ping… */
const CHECK_LIMIT = 5_000;
/** …and when the network may have changed. */
const DOUBT_LIMIT = 1_500;
/** A frame that arrives sooner after a ping than this may already have been in flight. */
const IN_FLIGHT = 300;

/** Close codes after which it does not reconnect. */
const LOGIN_ENDED = 4401;
const REPLACED = 4409;

/** @typedef {{ text: string, resolve: (body: any) => void, reject: (error: Error) => void, timer: ReturnType<typeof setTimeout> }} Waiting */

/** A refused request, with the server's code and the number of seconds after which to retry. */
export class SignalingError extends Error {
  /**
   * @param {string} code
   * @param {number} [seconds]
   */
  constructor(code, seconds = 0) {
    super(code);
    this.code = code;
    this.seconds = seconds;
  }
}

/**
 * Events: `state` (see `state`), `welcome` (with its body, at the start of a new session), `event` (each frame from the
 * server), `end` (with the close code, when it does not reconnect).
 */
export class SignalingClient extends EventTarget {
  /**
   * @param {string} url
   * @param {{ device: string, label?: string }} options
   */
  constructor(url, options) {
    super();
    this.url = url;
    this.options = options;
    /** @type {"idle" | "connecting" | "open" | "waiting"} */
    this.state = "idle";
    /** @type {WebSocket | null} */
    this.socket = null;
    this.session = "";
    this.lastSeq = 0;
    this.backoff = new Backoff(FIRST_RETRY, LAST_RETRY);
    this.requests = 0;
    /** @type {Map<string, Waiting>} */
    this.waiting = new Map();
    /** Until the next reconnect. @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** Until the socket is considered dead. @type {ReturnType<typeof setTimeout> | undefined} */
    this.patience = undefined;
    /** When that is; infinite while no answer is pending. */
    this.deadAt = Infinity;
    /** The id of the unanswered ping, or empty. */
    this.question = "";
    /** When the socket was opened or pinged. */
    this.askedAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.quiet = undefined;
  }

  start() {
    if (this.state === "idle") this.#connect();
  }

  /** The network may have changed: checks whether the line is still alive, and reconnects at once if it is not. */
  check() {
    if (this.state === "waiting") {
      clearTimeout(this.timer);
      this.#connect();
    } else if (this.state === "open") {
      this.#ask(DOUBT_LIMIT);
    } else if (this.state === "connecting" && Date.now() - this.askedAt > DOUBT_LIMIT) {
      // This attempt goes over the previous network.
      this.#leave();
      this.#connect();
    }
  }

  /** @param {number} limit */
  #ask(limit) {
    // Another ping does not extend an earlier deadline.
    if (Date.now() + limit >= this.deadAt) return;
    this.requests += 1;
    this.question = `${this.requests}`;
    this.socket?.send(JSON.stringify({ id: this.question, type: "ping", body: {} }));
    this.#giveIt(limit, () => this.#connect());
  }

  /**
   * Gives the current socket this long to receive something.
   * @param {number} limit
   * @param {() => void} otherwise
   */
  #giveIt(limit, otherwise) {
    clearTimeout(this.patience);
    this.askedAt = Date.now();
    this.deadAt = this.askedAt + limit;
    this.patience = setTimeout(() => {
      this.#leave();
      otherwise();
    }, limit);
  }

  #alive() {
    clearTimeout(this.patience);
    clearTimeout(this.quiet);
    this.deadAt = Infinity;
    this.question = "";
  }

  /** Abandons the current socket. */
  #leave() {
    this.#alive();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  stop() {
    clearTimeout(this.timer);
    this.#leave();
    this.#become("idle");
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new SignalingError("stopped"));
    }
    this.waiting.clear();
  }

  /**
   * Sends a request; resolves to the answer's body. It is sent again after a reconnect: the server executes it once.
   * @param {string} type
   * @param {unknown} [body]
   * @returns {Promise<any>}
   */
  request(type, body = {}) {
    this.requests += 1;
    const id = `${this.requests}`;
    const text = JSON.stringify({ id, type, body });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new SignalingError("timeout"));
      }, ANSWER_LIMIT);
      this.waiting.set(id, { text, resolve, reject, timer });
      if (this.state === "open") this.socket?.send(text);
    });
  }

  #connect() {
    this.#become("connecting");
    const socket = new WebSocket(this.url, "gatehouse.v1");
    this.socket = socket;
    this.#giveIt(WELCOME_LIMIT, () => this.#closed(0));
    socket.onopen = () => {
      const resume = this.session ? { session: this.session, last_seq: this.lastSeq } : null;
      socket.send(JSON.stringify({ id: "hello", type: "hello", body: { ...this.options, resume } }));
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      const frame = JSON.parse(event.data);
      // A frame already in flight when the ping was sent does not prove that the line is alive now.
      const early = this.question !== "" && frame.re !== this.question && Date.now() - this.askedAt < IN_FLIGHT;
      if (!early) this.#alive();
      clearTimeout(this.quiet);
      this.quiet = setTimeout(() => this.#ask(CHECK_LIMIT), QUIET);
      this.#frame(frame);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.#closed(event.code);
    };
  }

  /** @param {any} frame */
  #frame(frame) {
    if (typeof frame.seq === "number") this.lastSeq = frame.seq;
    if (frame.type === "welcome") return this.#welcome(frame.body);
    if (frame.type === "error" && !frame.re) return this.#emit("event", frame);
    if (frame.re === undefined) return this.#emit("event", frame);
    const waiting = this.waiting.get(frame.re);
    if (!waiting) return;
    this.waiting.delete(frame.re);
    clearTimeout(waiting.timer);
    if (frame.ok) waiting.resolve(frame.body);
    else waiting.reject(new SignalingError(frame.error?.code ?? "unknown", frame.error?.seconds ?? 0));
  }

  /** @param {any} body */
  #welcome(body) {
    this.backoff.reset();
    this.session = body.session;
    if (!body.resumed) {
      this.lastSeq = body.seq;
      this.#emit("welcome", body);
    }
    this.#become("open");
    for (const { text } of this.waiting.values()) this.socket?.send(text);
  }

  /** @param {number} code */
  #closed(code) {
    this.#leave();
    if (code === LOGIN_ENDED || code === REPLACED) {
      this.#become("idle");
      this.#emit("end", code);
      return;
    }
    this.#become("waiting");
    this.timer = setTimeout(() => this.#connect(), this.backoff.next());
  }

  /** @param {"idle" | "connecting" | "open" | "waiting"} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#emit("state", state);
  }

  /**
   * @param {string} name
   * @param {unknown} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
