// Administration: which older systems are switched on, and who is connected through them.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { api } from "./api.js";
import { t } from "./i18n.js";
import { when } from "./words.js";

/** @typedef {{ mode: string, listen: string[], networks: string[], has_secret: boolean, cameras: string[] | null }} Mode */
/** @typedef {{ id: number, mode: string, name: string, room: string, address: string, since: number }} Client */

export class OldSystemsTab {
  interval = 3_000;

  /** @param {import("./admin-page.js").AdminPage} page */
  constructor(page) {
    this.page = page;
    /** @type {Mode[]} */
    this.modes = [];
    /** @type {Client[]} */
    this.clients = [];
  }

  async load() {
    const { modes, clients } = await api("GET", "/api/admin/compat");
    this.modes = modes;
    this.clients = clients;
  }

  view() {
    if (this.modes.length === 0) return html`<p class="quiet">${t("old.none")}</p>`;
    return html`<p class="quiet">${t("old.warning")}</p>
      <div class="scroll"><table class="stack" id="modes">
        <thead><tr><th>${t("old.mode")}</th><th>${t("old.where")}</th><th>${t("old.networks")}</th></tr></thead>
        <tbody>${this.modes.map(
          ({ mode, listen, networks, has_secret, cameras }) => html`<tr>
            <td>${t(`old.mode.${mode}`)}${cameras ? html`<small>${shown(cameras)}</small>` : nothing}</td>
            <td>${listen.join(", ") || t("old.main")}${has_secret ? html`<small>${t("old.secret")}</small>` : nothing}</td>
            <td>${networks.join(", ")}</td>
          </tr>`,
        )}</tbody>
      </table></div>
      <h2 class="below">${t("old.clients")}</h2>
      ${this.clients.length === 0 ? html`<p class="quiet">${t("old.nobody")}</p>` : this.#list()}`;
  }

  #list() {
    return html`<div class="scroll"><table class="stack" id="old-clients">
      <thead><tr><th>${t("old.client")}</th><th>${t("old.mode")}</th><th>${t("old.room")}</th><th>${t("old.since")}</th><th></th></tr></thead>
      <tbody>${this.clients.map(
        (client) => html`<tr>
          <td>${client.name || "–"}<small>${client.address}</small></td>
          <td>${t(`old.mode.${client.mode}`)}</td>
          <td>${client.room || "–"}</td>
          <td>${when(client.since)}</td>
          <td><button class="button" @click=${() => this.#disconnect(client)}>${t("old.disconnect")}</button></td>
        </tr>`,
      )}</tbody>
    </table></div>`;
  }

  /** @param {Client} client */
  #disconnect(client) {
    return this.page.act(() => api("DELETE", `/api/admin/compat/clients/${client.id}`));
  }
}

/**
 * Which cameras a system shows.
 * @param {string[]} cameras
 */
function shown(cameras) {
  if (cameras.includes("*")) return t("old.cameras.all");
  return cameras.length === 0 ? t("old.cameras.public") : t("old.cameras", { list: cameras.join(", ") });
}
