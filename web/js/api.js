// The server's API as the pages use it.

/**
 * A camera as `GET /api/cameras` shows it.
 * @typedef {object} Camera
 * @property {string} id
 * @property {string} name
 * @property {string} stream
 * @property {boolean} on_demand
 * @property {boolean} public
 * @property {"idle" | "connecting" | "live" | "retrying" | "failed"} state
 * @property {{ code: string, message: string } | null} reason
 * @property {number | null} retry_at milliseconds since 1970
 * @property {{ code: string, message: string } | null} problem
 * @property {{ codec: string, playable: boolean } | null} audio
 * @property {{ width?: number, height?: number } | null} video
 * @property {number} viewers
 */

/**
 * Who is logged in.
 * @typedef {object} Me
 * @property {string} name
 * @property {string} display
 * @property {"guest" | "member" | "dispatcher" | "admin"} role
 * @property {string[]} groups
 * @property {"" | "zh" | "en"} language
 * @property {boolean} must_change
 * @property {{ administer: boolean, rooms: boolean }} may
 */

/** An answer that is an error, with its stable code. */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {number} status 0 if the server does not answer
   * @param {number} [retryAfter] seconds
   */
  constructor(code, status, retryAfter = 0) {
    super(code);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Asks the server; the answer's JSON, or null if it has none.
 * @param {"GET" | "POST" | "PUT" | "PATCH" | "DELETE"} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {string} [token]
 * @returns {Promise<any>}
 */
export async function api(method, path, body, token = "") {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers["Authorization"] = `Bearer ${token}`;
  const content = body === undefined ? null : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: content, signal: AbortSignal.timeout(20_000) });
  } catch {
    throw new ApiError("offline", 0);
  }
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : null;
  let code = `http_${response.status}`;
  try {
    code = JSON.parse(text).error.code ?? code;
  } catch {
    // Something between us and the server has answered.
  }
  throw new ApiError(code, response.status, Number(response.headers.get("Retry-After") ?? 0));
}

/**
 * The cameras that one may watch.
 * @returns {Promise<Camera[]>}
 */
export async function listCameras() {
  return (await api("GET", "/api/cameras")).cameras;
}

/**
 * Who is logged in, or null.
 * @returns {Promise<Me | null>}
 */
export async function whoAmI() {
  // A network that changes breaks off what is on its way: a page must not end there that has just begun.
  for (const pause of [300, 700, 1_500]) {
    try {
      return await api("GET", "/api/me");
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "offline") throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  return api("GET", "/api/me");
}

/**
 * To the login page and back, for errors that only a login mends. Whether it is one.
 * @param {unknown} error
 */
export function needsLogin(error) {
  if (!(error instanceof ApiError)) return false;
  if (error.code !== "unauthorized" && error.code !== "password_change_required") return false;
  goToLogin();
  return true;
}

/** @param {"" | "ended"} [why] what whoever comes there should read */
export function goToLogin(why = "") {
  const here = location.pathname + location.hash;
  const query = new URLSearchParams();
  if (here !== "/") query.set("next", here);
  if (why) query.set("why", why);
  location.replace(query.size > 0 ? `/login?${query}` : "/login");
}
