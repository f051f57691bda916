// The line to the server's signaling: one WebSocket that comes back by itself without losing a frame. It knows no page;
// what the frames mean is in docs/signaling.md.
//
//   const line = new SignalingClient("wss://gatehouse.example/api/ws", { device: "tab-1", label: "Office PC" });
//   line.addEventListener("event", ({ detail }) => console.log(detail.type, detail.body));
//   line.start();
//   await line.request("call.invite", { to: "anna", video: true });

const FIRST_RETRY = 500;
const LAST_RETRY = 15_000;
/** For the answer to a request, over reconnections. */
const ANSWER_LIMIT = 20_000;

/** Codes by which the server closes for good. */
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
 * Events: `state` (see `state`), `welcome` (with its body, after a fresh start), `event` (each frame of the server),
 * `end` (with the code, when it does not come back by itself).
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
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  start() {
    if (this.state === "idle") this.#connect();
  }

  stop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.#become("idle");
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(new SignalingError("stopped"));
    }
    this.waiting.clear();
  }

  /**
   * Asks for something; the answer's body. Sent again after a reconnection: the server does it once.
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
    socket.onopen = () => {
      const resume = this.session ? { session: this.session, last_seq: this.lastSeq } : null;
      socket.send(JSON.stringify({ id: "hello", type: "hello", body: { ...this.options, resume } }));
    };
    socket.onmessage = (event) => {
      if (this.socket === socket) this.#frame(JSON.parse(event.data));
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
    this.socket = null;
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
