// The user's own account: name and language, reachability, password, logins, API tokens, shared cameras.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { api, goToLogin, needsLogin, whoAmI } from "./api.js";
import { bar } from "./bar.js";
import { at } from "./base.js";
import { openDesk } from "./desk.js";
import { checkDevices } from "./device-check.js";
import { ask, showOnce } from "./dialog.js";
import { choose, preferred, t, use } from "./i18n.js";
import { subjects } from "./subjects.js";
import { sorry, when } from "./words.js";

/** @typedef {import("./api.js").Me} Me */
/** @typedef {{ id: number, created_at: number, seen_at: number, address: string, agent: string }} Login */
/** @typedef {{ id: number, camera: string, created_at: number, expires_at: number, token: string | null }} Ticket */
/** @typedef {{ id: number, name: string, scopes: Record<string, boolean>, created_at: number, used_at: number | null, expires_at: number | null }} Token */

export const SCOPES = ["watch", "publish", "share", "manage"];

class AccountPage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Me | null} */
    this.me = null;
    /** @type {Login[]} */
    this.logins = [];
    this.current = 0;
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {Ticket[]} */
    this.tickets = [];
    /** @type {Record<string, { good: boolean, text: string }>} */
    this.notices = {};
    /** @type {import("./desk.js").Desk | null} */
    this.desk = null;
    /** @type {{ watched: { allow: string[], others: "ask" | "never", sound: boolean }, auto_accept: string[] } | null} */
    this.preferences = null;
    /** Serializes the saves. */
    this.saving = Promise.resolve();
    /** How many saves have failed. */
    this.unsaved = 0;
  }

  async run() {
    await use(preferred());
    try {
      this.me = await whoAmI();
      if (!this.me || this.me.must_change) return goToLogin();
      [this.preferences] = await Promise.all([api("GET", "/api/me/preferences"), this.#load()]);
    } catch (error) {
      if (needsLogin(error)) return;
      this.notices["page"] = { good: false, text: sorry(error) };
    }
    this.draw();
    if (!this.me) return;
    this.desk = openDesk(this.me);
    for (const name of ["people", "missed"]) this.desk.addEventListener(name, () => this.draw());
  }

  async #load() {
    const paths = ["/api/me/logins", "/api/me/tokens", "/api/me/tickets"];
    const [logins, tokens, tickets] = await Promise.all(paths.map((path) => api("GET", path)));
    this.logins = logins.logins;
    this.current = logins.current;
    this.tokens = tokens.tokens;
    this.tickets = tickets.tickets;
  }

  /**
   * Runs an action and shows its result.
   * @param {string} place
   * @param {string} done
   * @param {() => Promise<unknown>} work
   */
  async #do(place, done, work) {
    try {
      await work();
      await this.#load();
      this.notices = { [place]: { good: true, text: t(done) } };
    } catch (error) {
      if (needsLogin(error)) return false;
      this.notices = { [place]: { good: false, text: sorry(error) } };
    }
    this.draw();
    return this.notices[place]?.good ?? false;
  }

  /** Stores the preferences as shown on the page: two changes in quick succession must both be kept. */
  #savePreferences() {
    const [chosen, unsaved] = [structuredClone(this.preferences), this.unsaved];
    this.saving = this.saving.then(async () => {
      // An earlier save failed, and the page shows the stored preferences again, without this change.
      if (unsaved !== this.unsaved) return;
      try {
        await api("PUT", "/api/me/preferences", chosen);
        this.notices = { reach: { good: true, text: t("account.saved") } };
      } catch (error) {
        if (needsLogin(error)) return;
        this.unsaved += 1;
        this.notices = { reach: { good: false, text: sorry(error) } };
        this.preferences = await api("GET", "/api/me/preferences").catch(() => this.preferences);
      }
      this.draw();
    });
    this.draw();
  }

  /** @param {string} place */
  #notice(place) {
    const notice = this.notices[place];
    return notice ? html`<p class="notice ${notice.good ? "good" : "bad"}" role="status">${notice.text}</p>` : nothing;
  }

  /** @param {SubmitEvent} event */
  async #profile(event) {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const [language, display] = [String(data.get("language")), String(data.get("display"))];
    await this.#do("profile", "account.saved", async () => {
      await api("PUT", "/api/me", { language, display });
      if (language === "zh" || language === "en") await choose(language);
      this.me = await whoAmI();
    });
  }

  /** @param {SubmitEvent} event */
  async #password(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const data = new FormData(form);
    const [current, fresh] = [String(data.get("current")), String(data.get("new"))];
    const good = await this.#do("password", "account.password.done", async () => {
      if (fresh !== String(data.get("again"))) throw Object.assign(new Error(), { code: "not_the_same" });
      await api("PUT", "/api/me/password", { current, new: fresh });
    });
    if (good) form.reset();
  }

  async #logOut() {
    this.desk?.leave();
    await api("POST", "/api/logout").catch(() => {});
    location.replace(at("/login"));
  }

  /** For a lost device or a leaked token. */
  async #endEverything() {
    const done = await ask({
      title: t("logins.end_everything"),
      action: t("logins.end_everything"),
      danger: true,
      content: () => html`<p class="quiet">${t("logins.end_everything.text")}</p>`,
      submit: () => api("DELETE", "/api/me/credentials"),
    });
    if (!done) return;
    this.desk?.leave();
    location.replace(at("/login"));
  }

  async #newToken() {
    let token = "";
    const made = await ask({
      title: t("tokens.new"),
      action: t("tokens.make"),
      content: () => html`<label class="field">
          <span>${t("tokens.name")}</span>
          <input type="text" name="name" maxlength="64" required autofocus />
          <small>${t("tokens.name.hint")}</small>
        </label>
        <fieldset>
          <legend class="legend">${t("tokens.scopes")}</legend>
          ${SCOPES.map(
            (scope) => html`<label class="check">
                <input type="checkbox" name=${scope} ?checked=${scope === "watch"} /> ${t(`scope.${scope}`)}
              </label><br />`,
          )}
        </fieldset>
        <label class="field">
          <span>${t("tokens.days")}</span>
          <select name="days">
            ${["", "1", "30", "365"].map((days) => html`<option value=${days}>${days ? t("tokens.days.n", { days }) : t("tokens.days.none")}</option>`)}
          </select>
        </label>`,
      submit: async (data) => {
        const scopes = Object.fromEntries(SCOPES.map((scope) => [scope, data.has(scope)]));
        const days = data.get("days") ? Number(data.get("days")) : null;
        token = (await api("POST", "/api/me/tokens", { name: String(data.get("name")).trim(), scopes, days })).token;
      },
    });
    if (!made) return;
    await this.#do("tokens", "tokens.made", async () => {});
    await showOnce(t("tokens.made"), t("tokens.made.text"), token);
  }

  draw() {
    const me = this.me;
    document.title = `${t("bar.account")} · Gatehouse`;
    render(
      html`${bar({ me, page: "account", changed: () => this.draw(), missed: this.desk?.missed ?? 0 })}
        <main class="page">
          <div class="row between">
            <div>
              <h1>${me?.display ?? t("bar.account")}</h1>
              ${me ? html`<p class="quiet">${me.name} · ${t(`role.${me.role}`)}${me.groups.map((group) => ` · ${group}`)}</p>` : nothing}
            </div>
            <button class="button" @click=${() => this.#logOut()}>${t("account.logout")}</button>
          </div>
          ${this.#notice("page")}
          ${me ? html`${this.#profileCard(me)} ${this.#reachCard()} ${this.#passwordCard(me)} ${this.#loginsCard()} ${this.#tokensCard()} ${this.#ticketsCard()}` : nothing}
        </main>`,
      this.root,
    );
  }

  /** @param {Me} me */
  #profileCard(me) {
    return html`<form class="card form" @submit=${(/** @type {SubmitEvent} */ event) => this.#profile(event)}>
      <h2>${t("account.profile")}</h2>
      <div class="two">
        <label class="field">
          <span>${t("account.display")}</span>
          <input type="text" name="display" maxlength="64" .value=${me.display} />
        </label>
        <label class="field">
          <span>${t("account.language")}</span>
          <select name="language">
            ${["", "zh", "en"].map((code) => html`<option value=${code} ?selected=${me.language === code}>${t(`account.language.${code || "auto"}`)}</option>`)}
          </select>
        </label>
      </div>
      <div class="row"><button class="button primary">${t("account.save")}</button>${this.#notice("profile")}</div>
    </form>`;
  }

  /** Who may watch, and whose calls are accepted automatically: saved on every change. */
  #reachCard() {
    const chosen = this.preferences;
    if (!chosen) return nothing;
    const people = this.desk?.people.sorted() ?? [];
    const groups = [...new Set(people.flatMap((person) => person.groups))].sort();
    const roles = ["role:dispatcher", "role:member", "role:guest"];
    const possible = ["everyone", ...roles, ...groups.map((group) => `group:${group}`), ...people.map(({ name }) => `user:${name}`)];
    const save = () => this.#savePreferences();
    const others = (/** @type {Event} */ event) => {
      chosen.watched.others = /** @type {HTMLSelectElement} */ (event.currentTarget).value === "never" ? "never" : "ask";
      save();
    };
    const sound = (/** @type {Event} */ event) => {
      chosen.watched.sound = /** @type {HTMLInputElement} */ (event.currentTarget).checked;
      save();
    };
    return html`<section class="card form" id="reach">
      <div class="row between"><h2>${t("account.reach")}</h2>
        <button class="button small" @click=${() => checkDevices({ video: true })}>${t("device.check")}</button>
      </div>
      <div>
        <h3>${t("account.watch")}</h3>
        <p class="quiet">${t("account.watch.text")}</p>
        ${subjects(chosen.watched.allow, possible, (allow) => {
          chosen.watched.allow = allow;
          save();
        }, false)}
      </div>
      <div class="two">
        <label class="field"><span>${t("account.watch.others")}</span>
          <select name="others" @change=${others}>
            ${["ask", "never"].map((what) => html`<option value=${what} ?selected=${chosen.watched.others === what}>${t(`account.watch.${what}`)}</option>`)}
          </select></label>
        <label class="check"><input type="checkbox" name="sound" .checked=${chosen.watched.sound} @change=${sound} /> ${t("account.watch.sound")}</label>
      </div>
      <div>
        <h3>${t("account.auto")}</h3>
        <p class="quiet">${t("account.auto.text")}</p>
        ${subjects(chosen.auto_accept, possible, (list) => {
          chosen.auto_accept = list;
          save();
        }, false)}
      </div>
      ${this.#notice("reach")}
    </section>`;
  }

  /** @param {Me} me */
  #passwordCard(me) {
    return html`<form class="card form" id="password" @submit=${(/** @type {SubmitEvent} */ event) => this.#password(event)}>
      <h2>${t("account.password")}</h2>
      <input type="text" class="visually-hidden" autocomplete="username" .value=${me.name} tabindex="-1" aria-hidden="true" readonly />
      <div class="two">
        <label class="field">
          <span>${t("account.password.current")}</span>
          <input type="password" name="current" autocomplete="current-password" required />
        </label>
        <span></span>
        <label class="field">
          <span>${t("account.password.new")}</span>
          <input type="password" name="new" autocomplete="new-password" minlength="8" required />
          <small>${t("account.password.hint")}</small>
        </label>
        <label class="field">
          <span>${t("account.password.again")}</span>
          <input type="password" name="again" autocomplete="new-password" minlength="8" required />
        </label>
      </div>
      <div class="row"><button class="button primary">${t("account.password.action")}</button>${this.#notice("password")}</div>
    </form>`;
  }

  #loginsCard() {
    const end = (/** @type {Login} */ login) => this.#do("logins", "logins.ended", () => api("DELETE", `/api/me/logins/${login.id}`));
    const others = () => this.#do("logins", "logins.ended", () => api("DELETE", "/api/me/logins"));
    return html`<section class="card" id="logins">
      <div class="row between">
        <h2>${t("logins.title")}</h2>
        <div class="row">
          ${this.logins.length > 1 ? html`<button class="button small" @click=${others}>${t("logins.end_others")}</button>` : nothing}
          <button class="button small danger" @click=${() => this.#endEverything()}>${t("logins.end_everything")}</button>
        </div>
      </div>
      <p class="quiet">${t("logins.text")}</p>
      ${this.#notice("logins")}
      <table class="stack">
        <thead><tr><th>${t("logins.browser")}</th><th>${t("logins.address")}</th><th>${t("logins.seen")}</th><th></th></tr></thead>
        <tbody>
          ${this.logins.map(
            (login) => html`<tr>
              <td>${browserOf(login.agent)}${login.id === this.current ? html` <span class="chip">${t("logins.this")}</span>` : nothing}</td>
              <td>${login.address}</td>
              <td>${when(login.seen_at)}</td>
              <td class="actions">
                ${login.id === this.current ? nothing : html`<button class="button small danger" @click=${() => end(login)}>${t("logins.end")}</button>`}
              </td>
            </tr>`,
          )}
        </tbody>
      </table>
    </section>`;
  }

  #tokensCard() {
    const end = (/** @type {Token} */ token) => this.#do("tokens", "tokens.ended", () => api("DELETE", `/api/me/tokens/${token.id}`));
    return html`<section class="card" id="tokens">
      <div class="row between">
        <h2>${t("tokens.title")}</h2>
        <button class="button small" @click=${() => this.#newToken()}>${t("tokens.new")}</button>
      </div>
      <p class="quiet">${t("tokens.text")}</p>
      ${this.#notice("tokens")}
      ${this.tokens.length === 0
        ? nothing
        : html`<table class="stack">
            <thead><tr><th>${t("tokens.name")}</th><th>${t("tokens.scopes")}</th><th>${t("tokens.used")}</th><th>${t("tokens.expires")}</th><th></th></tr></thead>
            <tbody>
              ${this.tokens.map(
                (token) => html`<tr>
                  <td>${token.name}</td>
                  <td><span class="chips">${SCOPES.filter((scope) => token.scopes[scope]).map((scope) => html`<span class="chip">${t(`scope.${scope}`)}</span>`)}</span></td>
                  <td>${when(token.used_at)}</td>
                  <td>${token.expires_at ? when(token.expires_at) : t("tokens.days.none")}</td>
                  <td class="actions"><button class="button small danger" @click=${() => end(token)}>${t("tokens.end")}</button></td>
                </tr>`,
              )}
            </tbody>
          </table>`}
    </section>`;
  }

  /** Only shown to users who have shared a camera. */
  #ticketsCard() {
    if (this.tickets.length === 0 && !this.notices["tickets"]) return nothing;
    const end = (/** @type {Ticket} */ ticket) => this.#do("tickets", "tokens.ended", () => api("DELETE", `/api/me/tickets/${ticket.id}`));
    return html`<section class="card" id="tickets">
      <h2>${t("tickets.title")}</h2>
      <p class="quiet">${t("tickets.text")}</p>
      ${this.#notice("tickets")}
      <table class="stack">
        <thead><tr><th>${t("tickets.camera")}</th><th>${t("tickets.made")}</th><th>${t("tokens.expires")}</th><th></th></tr></thead>
        <tbody>
          ${this.tickets.map(
            (ticket) => html`<tr>
              <td>${ticket.camera}${ticket.token ? html`<small>${t("tickets.by_token", { name: ticket.token })}</small>` : nothing}</td>
              <td>${when(ticket.created_at)}</td>
              <td>${when(ticket.expires_at)}</td>
              <td class="actions"><button class="button small danger" @click=${() => end(ticket)}>${t("tokens.end")}</button></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </section>`;
  }
}

/** Browser and system from a User-Agent, in words people recognise. @param {string} agent */
function browserOf(agent) {
  const names = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]];
  const find = (/** @type {string[][]} */ list) => list.find(([mark]) => agent.includes(mark ?? ""))?.[1];
  const found = [find(names), find(systems)].filter(Boolean).join(" · ");
  return found || agent.slice(0, 40) || "–";
}

const root = document.getElementById("app");
if (root) new AccountPage(root).run();
