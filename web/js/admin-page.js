// Administration: the tabs and what they share. Each tab has its own file.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { goToLogin, needsLogin, whoAmI } from "./api.js";
import { CamerasTab } from "./admin-cameras.js";
import { LogTab } from "./admin-log.js";
import { OldSystemsTab } from "./admin-old-systems.js";
import { PermissionsTab } from "./admin-permissions.js";
import { UsersTab } from "./admin-users.js";
import { bar } from "./bar.js";
import { preferred, t, use } from "./i18n.js";
import { openDesk } from "./desk.js";
import { sorry } from "./words.js";

/** @typedef {import("./api.js").Me} Me */

/**
 * The interface of a tab.
 * @typedef {object} Tab
 * @property {() => Promise<void>} load fetches its data from the server
 * @property {() => unknown} view
 * @property {number} [interval] how often it is reloaded, in milliseconds
 */

export class AdminPage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Me | null} */
    this.me = null;
    /** @type {import("./desk.js").Desk | null} */
    this.desk = null;
    this.error = "";
    this.loaded = false;
    /** @type {Record<string, Tab>} */
    this.tabs = {
      users: new UsersTab(this),
      cameras: new CamerasTab(this),
      permissions: new PermissionsTab(this),
      old: new OldSystemsTab(this),
      log: new LogTab(this),
    };
  }

  get current() {
    const name = location.hash.slice(1);
    return name in this.tabs ? name : "users";
  }

  async run() {
    await use(preferred());
    this.me = await whoAmI().catch(() => null);
    if (!this.me || this.me.must_change) return goToLogin();
    this.desk = openDesk(this.me);
    this.desk.addEventListener("missed", () => this.draw());
    if (!this.me.may.administer) {
      this.error = t("error.forbidden");
      return this.draw();
    }
    window.addEventListener("hashchange", () => this.#show());
    await this.#show();
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, this.tabs[this.current]?.interval ?? 3_000));
      if (!document.hidden && this.tabs[this.current]?.interval) await this.reload();
    }
  }

  async #show() {
    this.loaded = false;
    this.draw();
    await this.reload();
  }

  /** Reloads the data of the current tab. */
  async reload() {
    const name = this.current;
    try {
      await this.tabs[name]?.load();
      this.error = "";
    } catch (error) {
      if (needsLogin(error)) return;
      this.error = sorry(error);
    }
    if (name === this.current) this.loaded = true;
    this.draw();
  }

  /**
   * Runs an action, then reloads the tab and shows the error, if any.
   * @param {() => Promise<unknown>} work
   */
  async act(work) {
    let failed = "";
    try {
      await work();
    } catch (error) {
      if (needsLogin(error)) return;
      failed = sorry(error);
    }
    await this.reload();
    this.error = failed;
    this.draw();
  }

  draw() {
    document.title = `${t("bar.admin")} · Gatehouse`;
    const allowed = this.me?.may.administer;
    render(
      html`${bar({ me: this.me, page: "admin", changed: () => this.draw(), missed: this.desk?.missed ?? 0 })}
        <main class="page">
          <h1>${t("bar.admin")}</h1>
          ${allowed
            ? html`<nav class="tabs" aria-label=${t("bar.admin")}>
                ${Object.keys(this.tabs).map(
                  (name) => html`<a href="#${name}" aria-current=${name === this.current ? "page" : nothing}>${t(`admin.${name}`)}</a>`,
                )}
              </nav>`
            : nothing}
          ${this.error ? html`<p class="notice bad" role="alert">${this.error}</p>` : nothing}
          ${allowed && this.loaded ? this.tabs[this.current]?.view() : nothing}
        </main>`,
      this.root,
    );
  }
}

const root = document.getElementById("app");
if (root) new AdminPage(root).run();
