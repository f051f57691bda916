// Texts for the server's error codes, and formatting of times.
import { has, language, t } from "./i18n.js";

/** The message for an error. @param {unknown} error */
export function sorry(error) {
  const code = error instanceof Error && "code" in error ? String(error.code) : "other";
  const wait = error instanceof Error && "retryAfter" in error ? Number(error.retryAfter) : 0;
  return has(`error.${code}`) ? t(`error.${code}`, { seconds: wait }) : t("error.other", { code });
}

/** A time in readable form. @param {number | null | undefined} at milliseconds since 1970 */
export function when(at) {
  if (!at) return "–";
  const options = /** @type {const} */ ({ dateStyle: "medium", timeStyle: "medium" });
  return new Date(at).toLocaleString(language() === "zh" ? "zh-CN" : "en-GB", options);
}

/** A duration in readable form. @param {number} ms */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
