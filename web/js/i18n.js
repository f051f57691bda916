// Chinese and English: complete sentences by key, from `i18n/*.json`.
import { remember, setting } from "./settings.js";

export const languages = /** @type {const} */ (["zh", "en"]);

/** @typedef {"zh" | "en"} Language */

/** @type {Record<string, string>} */
let sentences = {};
/** @type {Language} */
let current = "en";

/** The language the user has chosen, or else the browser's. @returns {Language} */
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
  const response = await fetch(new URL(`../i18n/${wanted}.json`, import.meta.url));
  sentences = await response.json();
  current = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-CN" : "en";
}

/** @param {Language} wanted */
export async function choose(wanted) {
  await use(wanted);
  remember("language", wanted);
}

/** Whether a key has a text. @param {string} key */
export function has(key) {
  return key in sentences;
}

/**
 * The text of a key, with placeholders such as `{name}` replaced.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const sentence = sentences[key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
