// The people whose cameras are on the wall in this browser, in addition to the configured cameras.
import { remember, setting } from "./settings.js";

/** Login names in lower case. @returns {string[]} */
export function onWall() {
  try {
    const names = JSON.parse(setting("people-on-wall", "[]"));
    return Array.isArray(names) ? names.filter((name) => typeof name === "string").slice(0, 64) : [];
  } catch {
    return [];
  }
}

/** @param {string} name */
export const isOnWall = (name) => onWall().includes(name.toLowerCase());

/** @param {string} name */
export function toggleOnWall(name) {
  const wanted = name.toLowerCase();
  const names = onWall();
  remember("people-on-wall", JSON.stringify(names.includes(wanted) ? names.filter((other) => other !== wanted) : [...names, wanted]));
}
