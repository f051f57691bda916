// Administration: who may call whom, ask to watch whose camera, create rooms.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { ROLES } from "./admin-users.js";
import { api } from "./api.js";
import { t } from "./i18n.js";

/** @typedef {Record<string, string[]>} Towards */

export class PermissionsTab {
  /** @param {import("./admin-page.js").AdminPage} page */
  constructor(page) {
    this.page = page;
    /** @type {{ call: Towards, watch: Towards, rooms: string[] }} */
    this.rules = { call: {}, watch: {}, rooms: [] };
    this.saved = false;
  }

  async load() {
    this.rules = await api("GET", "/api/admin/permissions");
  }

  async #save() {
    await this.page.act(() => api("PUT", "/api/admin/permissions", this.rules));
    this.saved = !this.page.error;
    this.page.draw();
  }

  /**
   * @param {string[]} list
   * @param {string} role
   */
  #toggle(list, role) {
    const place = list.indexOf(role);
    if (place < 0) list.push(role);
    else list.splice(place, 1);
    this.saved = false;
    this.page.draw();
  }

  /** @param {"call" | "watch"} what */
  #matrix(what) {
    const towards = this.rules[what];
    return html`<section class="card">
      <h2>${t(`permissions.${what}`)}</h2>
      <p class="quiet">${t(`permissions.${what}.text`)}</p>
      <div class="scroll"><table>
        <thead><tr><th></th>${ROLES.map((role) => html`<th class="matrix">${t(`role.${role}`)}</th>`)}</tr></thead>
        <tbody>
          ${ROLES.map((from) => html`<tr><th>${t(`role.${from}`)}</th>${ROLES.map((to) => this.#box(what, towards[from] ?? [], from, to))}</tr>`)}
        </tbody>
      </table></div>
    </section>`;
  }

  /**
   * @param {string} what
   * @param {string[]} list
   * @param {string} from
   * @param {string} to
   */
  #box(what, list, from, to) {
    const label = t(`permissions.${what}.label`, { from: t(`role.${from}`), to: t(`role.${to}`) });
    return html`<td class="matrix">
      <label class="check"><input type="checkbox" aria-label=${label} .checked=${list.includes(to)} @change=${() => this.#toggle(list, to)} /></label>
    </td>`;
  }

  view() {
    return html`<p class="quiet">${t("permissions.text")}</p>
      ${this.#matrix("call")} ${this.#matrix("watch")}
      <section class="card">
        <h2>${t("permissions.rooms")}</h2>
        <div class="checks">
          ${ROLES.map(
            (role) => html`<label class="check">
              <input type="checkbox" .checked=${this.rules.rooms.includes(role)} @change=${() => this.#toggle(this.rules.rooms, role)} /> ${t(`role.${role}`)}
            </label>`,
          )}
        </div>
      </section>
      <div class="row">
        <button class="button primary" @click=${() => this.#save()}>${t("account.save")}</button>
        ${this.saved ? html`<p class="notice good" role="status">${t("account.saved")}</p>` : nothing}
      </div>`;
  }
}
