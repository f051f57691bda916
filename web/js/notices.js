// Notices about the server as a whole: that WebSockets do not get through, and, for administrators, what the server
// reports about itself. They are drawn on top of every page and can be closed.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { api } from "./api.js";
import { has, t } from "./i18n.js";

/** Between two questions about the server's health. */
const INTERVAL = 60_000;
/** The notice about WebSockets, beside the server's codes. */
const NO_WEBSOCKET = "no_websocket";

const KEY = "gatehouse.notices";

/** The notices that were closed in this tab. @returns {Set<string>} */
function remembered() {
  try {
    return new Set(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
  } catch {
    return new Set();
  }
}

/** @param {Set<string>} closed */
function remember(closed) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify([...closed]));
  } catch {
    // Without storage they are shown again on the next page.
  }
}

/** @typedef {{ code: string, detail: string, error: boolean, since: number }} Problem */

export class Notices {
  /** @param {import("./api.js").Me} me */
  constructor(me) {
    this.me = me;
    this.blocked = false;
    /** @type {Problem[]} */
    this.problems = [];
    /** Codes of closed notices, until the problem ends. @type {Set<string>} */
    this.closed = remembered();
    this.root = document.createElement("div");
    this.root.className = "notices";
    document.body.append(this.root);
    document.addEventListener("language", () => this.draw());
    if (!me.may.administer) return;
    this.#ask();
    setInterval(() => document.hidden || this.#ask(), INTERVAL);
    document.addEventListener("visibilitychange", () => document.hidden || this.#ask());
  }

  async #ask() {
    try {
      this.problems = (await api("GET", "/api/admin/health")).problems;
    } catch {
      // The pages say elsewhere that the server is not reachable.
      return;
    }
    const current = new Set([...this.problems.map(({ code }) => code), NO_WEBSOCKET]);
    this.closed = new Set([...this.closed].filter((code) => current.has(code)));
    remember(this.closed);
    this.draw();
  }

  /** Whether WebSockets do not get through although the server answers. @param {boolean} blocked */
  setBlocked(blocked) {
    if (this.blocked === blocked) return;
    this.blocked = blocked;
    if (!blocked && this.closed.delete(NO_WEBSOCKET)) remember(this.closed);
    this.draw();
  }

  draw() {
    // The texts are not loaded yet.
    if (!has("notice.close")) return;
    const shown = this.problems.filter(({ code }) => has(`health.${code}`) && !(this.blocked && code === "websocket"));
    render(
      html`${this.blocked ? this.#notice(NO_WEBSOCKET, t("notice.no_websocket"), "", true) : nothing}
      ${shown.map(({ code, detail, error }) => this.#notice(code, t(`health.${code}`), detail, error))}`,
      this.root,
    );
  }

  /**
   * @param {string} code
   * @param {string} text
   * @param {string} detail
   * @param {boolean} bad
   */
  #notice(code, text, detail, bad) {
    if (this.closed.has(code)) return nothing;
    const close = () => {
      this.closed.add(code);
      remember(this.closed);
      this.draw();
    };
    return html`<section class="desk-card server-notice ${bad ? "bad" : ""}" role=${bad ? "alert" : "status"} data-notice=${code}>
      <p>${text}</p>
      ${detail ? html`<p class="detail">${detail}</p>` : nothing}
      <button class="button small" @click=${close}>${t("notice.close")}</button>
    </section>`;
  }
}
