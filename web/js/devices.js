// Cameras, microphones and speakers of this machine: opening them, which ones are chosen, and why they do not open.
import { remember, setting } from "./settings.js";

/**
 * Why a camera or microphone does not open:
 * - `media_insecure`: the browser gives it to pages with https:// (and localhost) alone.
 * - `media_blocked`: the person or a policy has said no.
 * - `media_dismissed`: the question was closed without an answer.
 * - `media_none`: there is none.
 * - `media_busy`: another program has it.
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

/** The chosen device of a kind; empty for the system's own choice. @param {DeviceKind} kind */
export const chosen = (kind) => setting(`device.${kind}`, "");

/**
 * @param {DeviceKind} kind
 * @param {string} id
 */
export const choose = (kind, id) => remember(`device.${kind}`, id);

/**
 * The devices of each kind. Their names are known once one of them was opened.
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

/** Calls back when a device is plugged in or pulled out. @param {() => void} tell @param {AbortSignal} signal */
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
 * Both, or what there is of them: whoever has no camera can still talk. Throws if not even sound is to be had.
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

/** Whether the browser has been told to refuse. @param {"camera" | "microphone"} what */
export async function isBlocked(what) {
  try {
    const status = await navigator.permissions.query({ name: /** @type {PermissionName} */ (what) });
    return status.state === "denied";
  } catch {
    // A browser that does not tell.
    return false;
  }
}

/** The screen, or a window of it. @returns {Promise<MediaStreamTrack | null>} null if the person changed their mind */
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

/** Whether this browser can share a screen: phones cannot. */
export const canShareScreen = () => Boolean(navigator.mediaDevices && "getDisplayMedia" in navigator.mediaDevices);

/** Sends an element's sound to the chosen speaker, where the browser can. @param {HTMLMediaElement} element */
export async function toSpeaker(element) {
  if ("setSinkId" in element) await /** @type {any} */ (element).setSinkId(chosen("speaker")).catch(() => {});
}
