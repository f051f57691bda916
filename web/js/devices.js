// Cameras, microphones and speakers of this device: opening them, choosing them, and why they cannot be opened.
import { remember, setting } from "./settings.js";

/**
 * Why a camera or microphone cannot be opened:
 * - `media_insecure`: the browser only allows it on https:// pages (and localhost).
 * - `media_blocked`: denied by the user or a policy.
 * - `media_dismissed`: the permission prompt was closed without an answer.
 * - `media_none`: there is none.
 * - `media_busy`: another program is using it.
 */
export class MediaProblem extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** @typedef {"microphone" | "camera" | "speaker"} DeviceKind */

/** @type {Record<string, DeviceKind>} */
const KINDS = { audioinput: "microphone", videoinput: "camera", audiooutput: "speaker" };

/** The chosen device of a kind; empty for the system default. @param {DeviceKind} kind */
export const chosen = (kind) => setting(`device.${kind}`, "");

/**
 * @param {DeviceKind} kind
 * @param {string} id
 */
export const choose = (kind, id) => remember(`device.${kind}`, id);

/**
 * The devices of each kind. Their labels are only available once a device has been opened.
 * @returns {Promise<Record<DeviceKind, { id: string, label: string }[]>>}
 */
export async function list() {
  /** @type {Record<DeviceKind, { id: string, label: string }[]>} */
  const found = { microphone: [], camera: [], speaker: [] };
  const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  for (const device of all) {
    const kind = KINDS[device.kind];
    if (kind && device.deviceId) found[kind].push({ id: device.deviceId, label: device.label });
  }
  return found;
}

/** Calls `tell` when a device is plugged in or removed. @param {() => void} tell @param {AbortSignal} signal */
export function followDevices(tell, signal) {
  navigator.mediaDevices?.addEventListener("devicechange", tell, { signal });
}

/** @returns {MediaTrackConstraints} */
function microphone() {
  const id = chosen("microphone");
  const constraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  return id ? { ...constraints, deviceId: { ideal: id } } : constraints;
}

/** @returns {MediaTrackConstraints} */
function camera() {
  const id = chosen("camera");
  const constraints = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
  return id ? { ...constraints, deviceId: { ideal: id } } : constraints;
}

/** @param {unknown} error */
function problemOf(error) {
  const name = error instanceof DOMException ? error.name : "";
  const dismissed = error instanceof DOMException && /dismissed/i.test(error.message);
  if (name === "NotAllowedError" || name === "SecurityError") return new MediaProblem(dismissed ? "media_dismissed" : "media_blocked");
  if (name === "NotFoundError" || name === "OverconstrainedError") return new MediaProblem("media_none");
  return new MediaProblem("media_busy");
}

/**
 * Opens the microphone, the camera, or both.
 * @param {{ audio: boolean, video: boolean }} wanted
 * @returns {Promise<MediaStream>}
 */
export async function open({ audio, video }) {
  if (!navigator.mediaDevices) throw new MediaProblem("media_insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: audio && microphone(), video: video && camera() });
  } catch (error) {
    throw problemOf(error);
  }
}

/**
 * Opens both, or only the microphone if there is no camera. Throws if not even audio is available.
 * @param {boolean} video
 * @returns {Promise<{ stream: MediaStream, problem: string }>}
 */
export async function openForCall(video) {
  try {
    return { stream: await open({ audio: true, video }), problem: "" };
  } catch (error) {
    if (!video || !(error instanceof MediaProblem) || error.code === "media_insecure") throw error;
    return { stream: await open({ audio: true, video: false }), problem: error.code };
  }
}

/** Whether access is denied in the browser's settings. @param {"camera" | "microphone"} what */
export async function isBlocked(what) {
  try {
    const status = await navigator.permissions.query({ name: /** @type {PermissionName} */ (what) });
    return status.state === "denied";
  } catch {
    // The browser does not support this query.
    return false;
  }
}

/** Opens a screen or window for sharing. @returns {Promise<MediaStreamTrack | null>} null if the user cancelled */
export async function openScreen() {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: false });
    const [track] = stream.getVideoTracks();
    if (track) track.contentHint = "detail";
    return track ?? null;
  } catch {
    return null;
  }
}

/** Whether this browser supports screen sharing; phones do not. */
export const canShareScreen = () => Boolean(navigator.mediaDevices && "getDisplayMedia" in navigator.mediaDevices);

/** Plays an element's audio on the chosen speaker, where supported. @param {HTMLMediaElement} element */
export async function toSpeaker(element) {
  if ("setSinkId" in element) await /** @type {any} */ (element).setSinkId(chosen("speaker")).catch(() => {});
}
