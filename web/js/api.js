// The server's HTTP API, as used by the pages.

/**
 * A camera, as returned by `GET /api/cameras`.
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
 * The logged-in user.
 * @typedef {object} Me
 * @property {string} name
 * @property {string} display
 * @property {"guest" | "member" | "dispatcher" | "admin"} role
 * @property {string[]} groups
 * @property {"" | "zh" | "en"} language
 * @property {boolean} must_change
 * @property {{ administer: boolean, rooms: boolean }} may
 */

/** An error response, with its stable code. */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {number} status 0 if the server did not answer
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
 * Sends a request; resolves to the response's JSON, or null if it is empty.
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
    // The response came from something in between, such as a proxy.
  }
  throw new ApiError(code, response.status, Number(response.headers.get("Retry-After") ?? 0));
}

/**
 * The cameras that the user may watch.
 * @returns {Promise<Camera[]>}
 */
export async function listCameras() {
  return (await api("GET", "/api/cameras")).cameras;
}

/**
 * The logged-in user, or null.
 * @returns {Promise<Me | null>}
 */
export async function whoAmI() {
  // A network change aborts requests in flight; a page that is just loading must not fail because of that.
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
 * Goes to the login page (and back afterwards) for errors that require a login; returns whether it does.
 * @param {unknown} error
 */
export function needsLogin(error) {
  if (!(error instanceof ApiError)) return false;
  if (error.code !== "unauthorized" && error.code !== "password_change_required") return false;
  goToLogin();
  return true;
}

/** @param {"" | "ended"} [why] the reason shown on the login page */
export function goToLogin(why = "") {
  const here = location.pathname + location.hash;
  const query = new URLSearchParams();
  if (here !== "/") query.set("next", here);
  if (why) query.set("why", why);
  location.replace(query.size > 0 ? `/login?${query}` : "/login");
}
