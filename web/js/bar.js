// The bar at the top of every page: navigation, account, theme and language.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { at, base } from "./base.js";
import { choose, language, t } from "./i18n.js";
import { themeIcons } from "./icons.js";
import { remember, setting } from "./settings.js";

/** @typedef {import("./api.js").Me} Me */

const THEMES = ["auto", "light", "dark"];

/**
 * @param {object} options
 * @param {Me | null} options.me
 * @param {"wall" | "people" | "admin" | "account" | "login" | "trust"} options.page
 * @param {() => void} options.changed redraws the page after a change of language or theme
 * @param {unknown} [options.left] what the page puts beside the brand
 * @param {unknown} [options.right] what the page puts before theme and language
 * @param {number} [options.missed] missed calls
 */
export function bar({ me, page, changed, left = nothing, right = nothing, missed = 0 }) {
  return html`<header class="bar">
    <a class="brand" href=${base} aria-label="Gatehouse"><img src=${at("/favicon.svg")} alt="" /><span>Gatehouse</span></a>
    ${me && !me.must_change
      ? html`<nav class="nav" aria-label=${t("bar.nav")}>
          ${link("/", "app.cameras", page === "wall")} ${link(missed ? "/people#history" : "/people", "bar.people", page === "people", missed)}
          ${me.may.administer ? link("/admin", "bar.admin", page === "admin") : nothing}
        </nav>`
      : nothing}
    ${left}
    <span class="spacer"></span>
    ${right}
    ${themeButton(changed)}
    <button class="tool" id="language" aria-label=${t("bar.language.label")} @click=${() => otherLanguage(changed)}>
      ${t("bar.language")}
    </button>
    ${account(me, page)}
  </header>`;
}

/**
 * @param {string} href
 * @param {string} text
 * @param {boolean} current
 * @param {number} [count]
 */
function link(href, text, current, count = 0) {
  const badge = count > 0 ? html` <span class="badge" aria-label=${t("bar.missed", { count })}>${count}</span>` : nothing;
  return html`<a href=${at(href)} aria-current=${current ? "page" : nothing}>${t(text)}${badge}</a>`;
}

/**
 * @param {Me | null} me
 * @param {string} page
 */
function account(me, page) {
  if (me) {
    return html`<a class="tool" href=${at("/account")} title=${t("bar.account")} aria-label=${t("bar.account.of", { name: me.display })}>
      <span class="who">${me.display}</span>
    </a>`;
  }
  return page === "wall" ? html`<a class="tool" href=${at("/login")}>${t("bar.login")}</a>` : nothing;
}

/** @param {() => void} changed */
function themeButton(changed) {
  const theme = setting("theme", "auto");
  const label = t("bar.theme", { theme: t(`bar.theme.${theme}`) });
  return html`<button class="tool icon" id="theme" title=${label} aria-label=${label} @click=${() => nextTheme(changed)}>
    ${themeIcons[theme] ?? themeIcons.auto}
  </button>`;
}

/** @param {() => void} changed */
function nextTheme(changed) {
  const theme = THEMES[(THEMES.indexOf(setting("theme", "auto")) + 1) % THEMES.length] ?? "auto";
  remember("theme", theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  changed();
}

/** @param {() => void} changed */
async function otherLanguage(changed) {
  await choose(language() === "zh" ? "en" : "zh");
  changed();
  document.dispatchEvent(new Event("language"));
}
