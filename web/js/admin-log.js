// Administration: the log of who did and watched what, with filters and CSV download.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { api } from "./api.js";
import { at } from "./base.js";
import { has, t } from "./i18n.js";
import { span, when } from "./words.js";

/** @typedef {{ id: number, at: number, until: number | null, actor: string, address: string, action: string, target: string, detail: string }} Entry */

const ACTIONS = ["login", "watch", "publish", "password", "token", "user", "group", "camera", "permissions", "log"];

export class LogTab {
  /** @param {import("./admin-page.js").AdminPage} page */
  constructor(page) {
    this.page = page;
    /** @type {Entry[]} */
    this.entries = [];
    this.more = false;
    /** @type {Record<string, string>} */
    this.filter = {};
  }

  /** @param {number} [before] */
  #query(before) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(this.filter)) {
      if (name === "from" || name === "to") {
        const at = new Date(`${value}T${name === "from" ? "00:00:00" : "23:59:59.999"}`).getTime();
        if (value && !Number.isNaN(at)) query.set(name, String(at));
      } else if (value) {
        query.set(name, value);
      }
    }
    if (before) query.set("before", String(before));
    return String(query);
  }

  async load() {
    const { entries, page } = await api("GET", `/api/admin/log?${this.#query()}`);
    this.entries = entries;
    this.more = entries.length === page;
  }

  async #older() {
    const { entries, page } = await api("GET", `/api/admin/log?${this.#query(this.entries.at(-1)?.id)}`);
    this.entries.push(...entries);
    this.more = entries.length === page;
  }

  /** @param {Event} event */
  #changed(event) {
    const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    this.filter = Object.fromEntries([...data].map(([name, value]) => [name, String(value).trim()]));
    this.page.reload();
  }

  view() {
    const submit = (/** @type {Event} */ event) => event.preventDefault();
    const field = (/** @type {string} */ name, /** @type {string} */ type) =>
      html`<label class="field"><span>${t(`log.${name}`)}</span><input type=${type} name=${name} autocomplete="off" /></label>`;
    return html`<form class="card row" @change=${(/** @type {Event} */ event) => this.#changed(event)} @submit=${submit}>
        ${field("actor", "search")}
        <label class="field"><span>${t("log.action")}</span>
          <select name="action"><option value="">${t("log.all")}</option>
            ${ACTIONS.map((action) => html`<option value=${action}>${t(`log.kind.${action}`)}</option>`)}
          </select></label>
        ${field("target", "search")} ${field("from", "date")} ${field("to", "date")}
        <a class="button" href=${at(`/api/admin/log.csv?${this.#query()}`)} download>${t("log.csv")}</a>
      </form>
      <div class="scroll"><table class="stack" id="log">
        <thead><tr><th>${t("log.at")}</th><th>${t("log.actor")}</th><th>${t("log.action")}</th><th>${t("log.target")}</th><th>${t("log.detail")}</th></tr></thead>
        <tbody>${this.entries.map((entry) => row(entry))}</tbody>
      </table></div>
      ${this.entries.length === 0 ? html`<p class="quiet">${t("log.none")}</p>` : nothing}
      ${this.more ? html`<button class="button" @click=${() => this.#older().finally(() => this.page.draw())}>${t("log.older")}</button>` : nothing}`;
  }
}

/** @param {Entry} entry */
function row(entry) {
  const lasted = entry.action !== "watch" ? "" : entry.until ? span(entry.until - entry.at) : entry.detail ? "" : t("log.running");
  const detail = entry.action === "login.failed" && has(`error.${entry.detail}`) ? t(`error.${entry.detail}`) : entry.detail;
  return html`<tr>
    <td>${when(entry.at)}</td>
    <td>${entry.actor || "–"}<small>${entry.address}</small></td>
    <td>${has(`log.did.${entry.action}`) ? t(`log.did.${entry.action}`) : entry.action}</td>
    <td>${entry.target}</td>
    <td>${lasted}${detail ? html`<small>${detail}</small>` : nothing}</td>
  </tr>`;
}
