// The trust page, which other machines get without TLS: why the browser warns, and how to trust this Gatehouse.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { bar } from "./bar.js";
import { at, base } from "./base.js";
import { preferred, t, use } from "./i18n.js";

const SYSTEMS = ["windows", "macos", "ios", "android", "linux", "firefox"];
/** Between two checks whether the certificate is trusted. */
const INTERVAL = 3_000;

class OnboardingPage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.fingerprint = "";
    /** This server has no certificate authority of its own: there is nothing to install. */
    this.none = false;
    this.trusted = false;
    /** Whether the authority is valid now. */
    this.valid = true;
    this.secure = `https://${location.host}${base}`;
  }

  async run() {
    await use(preferred());
    this.draw();
    try {
      const response = await fetch(at("/api/onboarding"));
      if (response.ok) ({ fingerprint: this.fingerprint, valid: this.valid } = await response.json());
      this.none = response.status === 404;
    } catch {
      // The page is useful even without it.
    }
    if (this.none) return this.draw();
    for (;;) {
      this.draw();
      if (!document.hidden) this.trusted = await this.#isTrusted();
      this.draw();
      if (this.trusted) return;
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  }

  /** The request fails if the browser does not trust the certificate. */
  async #isTrusted() {
    try {
      await fetch(`${this.secure}health`, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(5_000) });
      return true;
    } catch {
      return false;
    }
  }

  #system() {
    const agent = navigator.userAgent;
    if (agent.includes("Firefox/")) return "firefox";
    if (/iPhone|iPad/.test(agent)) return "ios";
    if (agent.includes("Android")) return "android";
    if (agent.includes("Windows")) return "windows";
    if (agent.includes("Mac OS")) return "macos";
    return "linux";
  }

  #drawNone() {
    render(
      html`${bar({ me: null, page: "trust", changed: () => this.draw() })}
        <main class="page">
          <h1>${t("trust.title")}</h1>
          <p class="notice good" role="status" id="trusted" data-trusted="none">${t("trust.none")}</p>
          <div class="row"><a class="button primary" href=${base}>${t("trust.open")}</a></div>
        </main>`,
      this.root,
    );
  }

  draw() {
    document.title = `${t("trust.title")} · Gatehouse`;
    const mine = this.#system();
    if (this.none) return this.#drawNone();
    render(
      html`${bar({ me: null, page: "trust", changed: () => this.draw() })}
        <main class="page">
          <h1>${t("trust.title")}</h1>
          <p class="quiet">${t("trust.why")}</p>
          <section class="card">
            <p class="notice ${this.trusted ? "good" : "warn"}" role="status" id="trusted" data-trusted=${String(this.trusted)}>
              ${this.trusted ? t("trust.yes") : t("trust.no")}
            </p>
            ${this.valid ? nothing : html`<p class="notice bad" role="alert">${t("trust.invalid")}</p>`}
            <div class="row">
              <a class="button ${this.trusted ? "primary" : ""}" href=${this.secure}>${this.trusted ? t("trust.open") : t("trust.open_anyway")}</a>
            </div>
          </section>
          <section class="card">
            <h2>${t("trust.download")}</h2>
            <div class="row">
              <a class="button ${mine === "ios" || mine === "macos" ? "" : "primary"}" href=${at("/ca.crt")}>${t("trust.crt")}</a>
              <a class="button ${mine === "ios" || mine === "macos" ? "primary" : ""}" href=${at("/ca.mobileconfig")}>${t("trust.mobileconfig")}</a>
            </div>
            ${[mine, ...SYSTEMS.filter((system) => system !== mine)].map(
              (system) => html`<details ?open=${system === mine}>
                <summary>${t(`trust.${system}`)}</summary>
                <ol class="steps">${t(`trust.${system}.steps`).split("\n").map((step) => html`<li>${step}</li>`)}</ol>
              </details>`,
            )}
          </section>
          ${this.fingerprint
            ? html`<section class="card">
                <h2>${t("trust.fingerprint")}</h2>
                <p class="quiet">${t("trust.fingerprint.text")}</p>
                <div class="code">${this.fingerprint}</div>
              </section>`
            : nothing}
        </main>`,
      this.root,
    );
  }
}

const root = document.getElementById("app");
if (root) new OnboardingPage(root).run();
