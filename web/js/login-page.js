// Logging in, and replacing the initial password at the first login.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { api, whoAmI } from "./api.js";
import { bar } from "./bar.js";
import { base } from "./base.js";
import { choose, preferred, t, use } from "./i18n.js";
import { sorry } from "./words.js";

/** @typedef {import("./api.js").Me} Me */

class LoginPage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Me | null} */
    this.me = null;
    /** The password just entered, so that changing it right away does not require typing it again. */
    this.typed = "";
    this.error = "";
    this.busy = false;
  }

  async run() {
    await use(preferred());
    this.me = await whoAmI().catch(() => null);
    if (this.me && !this.me.must_change) return this.#leave();
    this.draw();
  }

  #leave() {
    const next = new URLSearchParams(location.search).get("next") ?? base;
    // Same origin only, as the browser itself parses the URL: no open redirect.
    const url = URL.canParse(next, location.origin) ? new URL(next, location.origin) : null;
    location.replace(url?.origin === location.origin ? url.href : base);
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    if (this.busy) return;
    const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const text = (/** @type {string} */ name) => String(data.get(name) ?? "");
    this.busy = true;
    this.error = "";
    this.draw();
    try {
      if (this.me) await this.#change(this.typed || text("current"), text("new"), text("again"));
      else await this.#logIn(text("name"), text("password"));
    } catch (error) {
      this.error = sorry(error);
    }
    this.busy = false;
    this.draw();
  }

  /**
   * @param {string} name
   * @param {string} password
   */
  async #logIn(name, password) {
    /** @type {Me} */
    const me = await api("POST", "/api/login", { name: name.trim(), password });
    this.me = me;
    this.typed = password;
    if (me.language) await choose(me.language);
    if (!me.must_change) this.#leave();
  }

  /**
   * @param {string} current
   * @param {string} fresh
   * @param {string} again
   */
  async #change(current, fresh, again) {
    if (fresh !== again) throw Object.assign(new Error(), { code: "not_the_same" });
    await api("PUT", "/api/me/password", { current, new: fresh });
    this.typed = "";
    this.#leave();
  }

  draw() {
    document.title = `${t("login.title")} · Gatehouse`;
    render(
      html`${bar({ me: this.me, page: "login", changed: () => this.draw() })}
        <main class="page narrow">
          ${new URLSearchParams(location.search).get("why") === "ended" && !this.me ? html`<p class="notice warn" role="status">${t("login.ended")}</p>` : nothing}
          ${window.isSecureContext ? nothing : html`<p class="notice warn" role="alert">${t("login.insecure")}</p>`}
          <form class="card form" @submit=${(/** @type {SubmitEvent} */ event) => this.#send(event)}>
            ${this.me ? this.#changeFields() : this.#loginFields()}
            ${this.error ? html`<p class="notice bad" role="alert">${this.error}</p>` : nothing}
            <button class="button primary wide" ?disabled=${this.busy}>
              ${this.busy ? t("login.busy") : this.me ? t("login.change.action") : t("login.action")}
            </button>
          </form>
        </main>`,
      this.root,
    );
  }

  #loginFields() {
    return html`<h1>${t("login.title")}</h1>
      <label class="field">
        <span>${t("login.name")}</span>
        <input type="text" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus />
      </label>
      <label class="field">
        <span>${t("login.password")}</span>
        <input type="password" name="password" autocomplete="current-password" required />
      </label>`;
  }

  #changeFields() {
    return html`<h1>${t("login.change")}</h1>
      <p class="quiet">${t("login.change.text")}</p>
      <input type="text" class="visually-hidden" autocomplete="username" .value=${this.me?.name ?? ""} tabindex="-1" aria-hidden="true" readonly />
      ${this.typed
        ? nothing
        : html`<label class="field">
            <span>${t("account.password.current")}</span>
            <input type="password" name="current" autocomplete="current-password" required />
          </label>`}
      <label class="field">
        <span>${t("account.password.new")}</span>
        <input type="password" name="new" autocomplete="new-password" minlength="8" required />
        <small>${t("account.password.hint")}</small>
      </label>
      <label class="field">
        <span>${t("account.password.again")}</span>
        <input type="password" name="again" autocomplete="new-password" minlength="8" required />
      </label>`;
  }
}

const root = document.getElementById("app");
if (root) new LoginPage(root).run();
