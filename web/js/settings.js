// The user's settings in this browser. Without storage they only last until the page is left.

/** @type {Map<string, string>} */
const memory = new Map();

/**
 * @param {string} name
 * @param {string} fallback
 * @returns {string}
 */
export function setting(name, fallback) {
  try {
    return localStorage.getItem(`gatehouse.${name}`) ?? memory.get(name) ?? fallback;
  } catch {
    return memory.get(name) ?? fallback;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(`gatehouse.${name}`, value);
  } catch {
    // Storage is blocked or full.
  }
}
