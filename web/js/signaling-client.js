// Client for the server's signaling: one WebSocket that reconnects automatically without losing frames. It is
// independent of any page; docs/signaling.md describes the frames.
//
//   const line = new SignalingClient("wss://gatehouse.example/api/ws", { device: "tab-1", label: "Office PC" });
//   line.addEventListener("event", ({ detail }) => console.log(detail.type, detail.body));
//   line.start();
//   await line.request("call.invite", { to: "anna", video: true });

const FIRST_RETRY = 500;
const LAST_RETRY = 15_000;
/** Timeout for the answer to a request, across reconnects. */
const ANSWER_LIMIT = 20_000;
/** Timeout from opening a socket to the welcome. */
const WELCOME_LIMIT = 10_000;
/** After this long without any frame, send a ping: a lost network does not close the socket. */
const QUIET = 25_000;
/** Timeout for the answer to the ping. */
const CHECK_LIMIT = 5_000;
/** The same timeout on signs of a network change. */
const DOUBT_LIMIT = 1_500;
/** Frames that arrive within this time after a ping may have been sent before it, so they prove nothing. */
const IN_FLIGHT = 300;

/** Close codes after which the client does not reconnect. */
const LOGIN_ENDED = 4401;
const REPLACED = 4409;

/** @typedef {{ text: string, resolve: (body: any) => void, reject: (error: Error) => void, timer: ReturnType<typeof setTimeout> }} Waiting */

/** A request that was refused, with the server's code. */
export class SignalingError extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * Events: `state` (see `state`), `welcome` (with its body, for a new session), `event` (each event of the server),
 * `end` (with the close code, when it does not reconnect).
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
    this.failures = 0;
    this.requests = 0;
    /** @type {Map<string, Waiting>} */
    this.waiting = new Map();
    /** Triggers the next attempt to connect. @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** Triggers when the socket is considered dead. @type {ReturnType<typeof setTimeout> | undefined} */
    this.patience = undefined;
    /** When that is; infinite while no answer is pending. */
    this.deadAt = Infinity;
    /** The id of the pending ping, or empty. */
    this.question = "";
    /** When the socket was opened or the ping was sent. */
    this.askedAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.quiet = undefined;
  }

  start() {
    if (this.state === "idle") this.#connect();
  }

  /** Call this on signs of a network change: checks whether the connection is alive and reconnects at once if not. */
  check() {
    if (this.state === "waiting") {
      clearTimeout(this.timer);
      this.#connect();
    } else if (this.state === "open") {
      this.#ask(DOUBT_LIMIT);
    } else if (this.state === "connecting" && Date.now() - this.askedAt > DOUBT_LIMIT) {
      // This attempt probably uses the previous network.
      this.#leave();
      this.#connect();
    }
  }

  /** @param {number} limit */
  #ask(limit) {
    // A repeated check must not extend the deadline.
    if (Date.now() + limit >= this.deadAt) return;
    this.requests += 1;
    this.question = `${this.requests}`;
    this.socket?.send(JSON.stringify({ id: this.question, type: "ping", body: {} }));
    this.#giveIt(limit, () => this.#connect());
  }

  /**
   * Gives the current socket this long to send something.
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
   * Sends a request; resolves to the answer's body. Sent again after a reconnect; the server executes it only once.
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
      // A frame that was already in flight when the ping was sent does not prove that the connection is alive.
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
    else waiting.reject(new SignalingError(frame.error?.code ?? "unknown"));
  }

  /** @param {any} body */
  #welcome(body) {
    this.failures = 0;
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
    const delay = Math.min(FIRST_RETRY * 2 ** this.failures, LAST_RETRY) * (0.75 + Math.random() / 4);
    this.failures += 1;
    this.#become("waiting");
    this.timer = setTimeout(() => this.#connect(), delay);
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
