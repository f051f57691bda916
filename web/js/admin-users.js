// Administration: users and groups.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api } from "./api.js";
import { ask, redraw, showOnce } from "./dialog.js";
import { t } from "./i18n.js";
import { when } from "./words.js";

/** @typedef {{ name: string, display: string, role: string, groups: string[], must_change: boolean, disabled: boolean, seen_at: number | null, logins: number }} User */
/** @typedef {{ name: string, members: string[] }} Group */

export const ROLES = ["guest", "member", "dispatcher", "admin"];
const path = (/** @type {string[]} */ ...parts) => `/api/admin/${parts.map(encodeURIComponent).join("/")}`;

export class UsersTab {
  /** @param {import("./admin-page.js").AdminPage} page */
  constructor(page) {
    this.page = page;
    /** @type {User[]} */
    this.users = [];
    /** @type {Group[]} */
    this.groups = [];
  }

  async load() {
    const [users, groups] = await Promise.all([api("GET", path("users")), api("GET", path("groups"))]);
    this.users = users.users;
    this.groups = groups.groups;
  }

  /** The fields shared by both dialogs. @param {User | null} user */
  #fields(user) {
    return html`<label class="field">
        <span>${t("users.display")}</span>
        <input type="text" name="display" maxlength="64" .value=${user?.display ?? ""} autocomplete="off" />
      </label>
      <label class="field">
        <span>${t("users.role")}</span>
        <select name="role">
          ${ROLES.map((role) => html`<option value=${role} ?selected=${role === (user?.role ?? "member")}>${t(`role.${role}`)}</option>`)}
        </select>
        <small>${t("users.role.hint")}</small>
      </label>
      ${this.groups.length > 0
        ? html`<fieldset>
            <legend class="legend">${t("users.groups")}</legend>
            <div class="checks">
              ${this.groups.map(
                (group) => html`<label class="check">
                  <input type="checkbox" name="group" value=${group.name} ?checked=${user?.groups.includes(group.name) ?? false} /> ${group.name}
                </label>`,
              )}
            </div>
          </fieldset>`
        : nothing}`;
  }

  async #add() {
    /** @type {string | null} */
    let password = null;
    let name = "";
    const done = await ask({
      title: t("users.add"),
      action: t("users.add"),
      content: () => html`<label class="field">
          <span>${t("login.name")}</span>
          <input type="text" name="name" required pattern="[A-Za-z0-9_\\-][A-Za-z0-9._\\-]{0,63}" autocomplete="off" autocapitalize="none" autofocus />
          <small>${t("users.name.hint")}</small>
        </label>
        ${this.#fields(null)}`,
      submit: async (data) => {
        name = String(data.get("name")).trim();
        const body = { name, display: String(data.get("display")), role: data.get("role"), groups: data.getAll("group") };
        password = (await api("POST", path("users"), body)).password;
      },
    });
    if (!done) return;
    await this.page.reload();
    if (password) await showOnce(t("users.added", { name }), t("users.password.once"), password);
  }

  /** @param {User} user */
  async #edit(user) {
    const done = await ask({
      title: user.name,
      action: t("account.save"),
      content: () => this.#fields(user),
      submit: (data) =>
        api("PATCH", path("users", user.name), { display: String(data.get("display")), role: data.get("role"), groups: data.getAll("group") }),
    });
    if (done) await this.page.reload();
  }

  /** @param {User} user */
  async #reset(user) {
    /** @type {string | null} */
    let password = null;
    const done = await ask({
      title: t("users.reset.title", { name: user.name }),
      action: t("users.reset"),
      content: () => html`<p class="quiet">${t("users.reset.text")}</p>`,
      submit: async () => (password = (await api("PUT", path("users", user.name, "password"), {})).password),
    });
    await this.page.reload();
    if (done && password) await showOnce(user.name, t("users.password.once"), password);
  }

  /** @param {User} user */
  async #remove(user) {
    const done = await ask({
      title: t("users.remove.title", { name: user.name }),
      action: t("users.remove"),
      danger: true,
      content: () => html`<p class="quiet">${t("users.remove.text")}</p>`,
      submit: () => api("DELETE", path("users", user.name)),
    });
    if (done) await this.page.reload();
  }

  /** @param {User} user */
  async #logins(user) {
    const kinds = ["logins", "tokens", "tickets"];
    const [{ logins }, { tokens }, { tickets }] = await Promise.all(kinds.map((kind) => api("GET", path("users", user.name, kind))));
    /** @type {(kind: "logins" | "tokens" | "tickets", list: { id: number }[], entry: { id: number }) => Promise<void>} */
    const end = async (kind, list, entry) => {
      await api("DELETE", path("users", user.name, kind, String(entry.id))).catch(() => {});
      list.splice(list.indexOf(entry), 1);
      redraw();
    };
    const everything = async () => {
      await api("DELETE", path("users", user.name, "credentials")).catch(() => {});
      for (const list of [logins, tokens, tickets]) list.length = 0;
      redraw();
    };
    await ask({
      title: t("users.logins.title", { name: user.name }),
      content: () => html`${logins.length + tokens.length + tickets.length === 0 ? html`<p class="quiet">${t("users.logins.none")}</p>` : nothing}
        <table class="stack"><tbody>
          ${logins.map(
            (/** @type {any} */ login) => html`<tr>
              <td>${login.address}<small>${login.agent.slice(0, 80)}</small></td><td>${when(login.seen_at)}</td>
              <td class="actions"><button type="button" class="button small danger" @click=${() => end("logins", logins, login)}>${t("logins.end")}</button></td>
            </tr>`,
          )}
          ${tokens.map(
            (/** @type {any} */ token) => html`<tr>
              <td>${token.name}<small>${t("users.token")}</small></td><td>${when(token.used_at)}</td>
              <td class="actions"><button type="button" class="button small danger" @click=${() => end("tokens", tokens, token)}>${t("tokens.end")}</button></td>
            </tr>`,
          )}
          ${tickets.map(
            (/** @type {any} */ ticket) => html`<tr>
              <td>${ticket.camera}<small>${t("users.ticket")}</small></td><td>${when(ticket.expires_at)}</td>
              <td class="actions"><button type="button" class="button small danger" @click=${() => end("tickets", tickets, ticket)}>${t("tokens.end")}</button></td>
            </tr>`,
          )}
        </tbody></table>
        ${logins.length + tokens.length + tickets.length === 0
          ? nothing
          : html`<button type="button" class="button small danger" @click=${everything}>${t("logins.end_everything")}</button>`}`,
    });
    await this.page.reload();
  }

  /** @param {Group | null} group */
  async #group(group) {
    const done = await ask({
      title: group ? group.name : t("groups.add"),
      action: group ? t("account.save") : t("groups.add"),
      content: () => html`${group
          ? nothing
          : html`<label class="field"><span>${t("groups.name")}</span><input type="text" name="name" maxlength="64" required autofocus autocomplete="off" /></label>`}
        <fieldset>
          <legend class="legend">${t("groups.members")}</legend>
          <div class="checks">
            ${this.users.map(
              (user) => html`<label class="check">
                <input type="checkbox" name="member" value=${user.name} ?checked=${group?.members.includes(user.name) ?? false} /> ${user.display}
              </label>`,
            )}
          </div>
        </fieldset>`,
      submit: (data) => api("PUT", path("groups", group?.name ?? String(data.get("name")).trim()), { members: data.getAll("member") }),
    });
    if (done) await this.page.reload();
  }

  /** @param {User} user */
  #state(user) {
    if (user.disabled) return html`<span class="chip">${t("users.disabled")}</span>`;
    if (user.must_change) return html`<span class="chip">${t("users.new")}</span>`;
    return user.seen_at ? when(user.seen_at) : "–";
  }

  view() {
    return html`<section class="card">
        <div class="row between">
          <h2>${t("admin.users")}</h2>
          <button class="button primary" @click=${() => this.#add()}>${t("users.add")}</button>
        </div>
        <div class="scroll"><table class="stack" id="users">
          <thead><tr><th>${t("users.name")}</th><th>${t("users.role")}</th><th>${t("users.groups")}</th><th>${t("users.seen")}</th><th></th></tr></thead>
          <tbody>${repeat(this.users, ({ name }) => name, (user) => this.#row(user))}</tbody>
        </table></div>
      </section>
      <section class="card">
        <div class="row between">
          <h2>${t("users.groups")}</h2>
          <button class="button" @click=${() => this.#group(null)}>${t("groups.add")}</button>
        </div>
        <p class="quiet">${t("groups.text")}</p>
        <table class="stack" id="groups"><tbody>
          ${this.groups.map(
            (group) => html`<tr>
              <td>${group.name}</td><td>${group.members.join(", ") || "–"}</td>
              <td class="actions">
                <button class="button small" @click=${() => this.#group(group)}>${t("users.edit")}</button>
                <button class="button small danger" @click=${() => this.page.act(() => api("DELETE", path("groups", group.name)))}>${t("users.remove")}</button>
              </td>
            </tr>`,
          )}
        </tbody></table>
      </section>`;
  }

  /** @param {User} user */
  #row(user) {
    const disable = () => this.page.act(() => api("PATCH", path("users", user.name), { disabled: !user.disabled }));
    return html`<tr data-user=${user.name}>
      <td>${user.display}<small>${user.name}</small></td>
      <td>${t(`role.${user.role}`)}</td>
      <td><span class="chips">${user.groups.map((group) => html`<span class="chip">${group}</span>`)}</span></td>
      <td>${this.#state(user)}</td>
      <td class="actions">
        <button class="button small" @click=${() => this.#edit(user)}>${t("users.edit")}</button>
        <button class="button small" @click=${() => this.#reset(user)}>${t("users.password")}</button>
        <button class="button small" @click=${() => this.#logins(user)}>${t("users.logins")}</button>
        <button class="button small" @click=${disable}>${user.disabled ? t("users.enable") : t("users.disable")}</button>
        <button class="button small danger" @click=${() => this.#remove(user)}>${t("users.remove")}</button>
      </td>
    </tr>`;
  }
}
