// The server's API as the pages use it.

/**
 * A camera as `GET /api/cameras` shows it.
 * @typedef {object} Camera
 * @property {string} id
 * @property {string} name
 * @property {string} stream
 * @property {boolean} on_demand
 * @property {"idle" | "connecting" | "live" | "retrying" | "failed"} state
 * @property {{ code: string, message: string } | null} reason
 * @property {number | null} retry_at milliseconds since 1970
 * @property {{ code: string, message: string } | null} problem
 * @property {{ codec: string, playable: boolean } | null} audio
 * @property {{ width?: number, height?: number } | null} video
 * @property {number} viewers
 */

/** @returns {Promise<Camera[]>} */
export async function listCameras() {
  const response = await fetch("/api/cameras", { signal: AbortSignal.timeout(5_000) });
  if (!response.ok) throw new Error(`GET /api/cameras: ${response.status}`);
  return (await response.json()).cameras;
}
