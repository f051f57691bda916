// Translations, Chinese and English: texts by key from `i18n/*.json`.
import { remember, setting } from "./settings.js";

export const languages = /** @type {const} */ (["zh", "en"]);

/** @typedef {"zh" | "en"} Language */

/** @type {Record<string, string>} */
let sentences = {};
/** @type {Language} */
let current = "en";

/** The language chosen by the user, otherwise the browser's preference. @returns {Language} */
export function preferred() {
  const chosen = setting("language", "");
  const wanted = chosen || navigator.language || "en";
  return wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @returns {Language} */
export function language() {
  return current;
}

/**
 * Loads a language and switches the page to it.
 * @param {Language} wanted
 */
export async function use(wanted) {
  const response = await fetch(`/i18n/${wanted}.json`);
  sentences = await response.json();
  current = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-CN" : "en";
}

/** @param {Language} wanted */
export async function choose(wanted) {
  await use(wanted);
  remember("language", wanted);
}

/** Whether there is a text for a key. @param {string} key */
export function has(key) {
  return key in sentences;
}

/**
 * The text for a key, with placeholders such as `{name}` replaced.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const sentence = sentences[key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
