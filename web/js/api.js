// Client for the server's HTTP API, as the pages use it.
import { at, base } from "./base.js";

/**
 * A camera as returned by `GET /api/cameras`.
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
 * @property {{ code: string, message: string }[]} notes what is not as it should be, and is no obstacle
 * @property {{ codec: string, playable: boolean } | null} audio
 * @property {{ width?: number, height?: number } | null} video
 * @property {{ state: string, reason: { code: string } | null, problem: { code: string } | null, video: { width?: number, height?: number } | null } | null} sub the camera's smaller stream
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
   * @param {number} status 0 if there was no response
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
 * Sends a request; resolves to the JSON of the response, or null if it has none.
 * @param {"GET" | "POST" | "PUT" | "PATCH" | "DELETE"} method
 * @param {string} path without a sub-path
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
    response = await fetch(at(path), { method, headers, body: content, signal: AbortSignal.timeout(20_000) });
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
 * The cameras the user may watch.
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
  // A network change aborts requests in flight: a page that has just started must survive that.
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
 * Redirects to the login page and back if an error requires a login. Returns whether it does.
 * @param {unknown} error
 */
export function needsLogin(error) {
  if (!(error instanceof ApiError)) return false;
  if (error.code !== "unauthorized" && error.code !== "password_change_required") return false;
  goToLogin();
  return true;
}

/** @param {"" | "ended"} [why] selects a notice on the login page */
export function goToLogin(why = "") {
  const here = location.pathname + location.hash;
  const query = new URLSearchParams();
  if (here !== base) query.set("next", here);
  if (why) query.set("why", why);
  location.replace(query.size > 0 ? `${at("/login")}?${query}` : at("/login"));
}
