// Paths of this server. Behind a proxy it may be reached below a sub-path such as `/gatehouse/`: every request of the
// pages begins with it. The pages' files are requested by relative addresses, so this module's address tells it.

/** `/`, or the sub-path with its slashes. */
export const base = new URL(import.meta.url).pathname.replace(/(v\/[^/]+\/)?js\/base\.js$/, "");

/** A path of the server, as the browser has to request it. @param {string} path begins with a slash */
export const at = (path) => base + path.slice(1);
