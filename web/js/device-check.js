// Device check before the first call: preview, microphone test, choice of devices, help if the browser denies access.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { choose, chosen, followDevices, list, open, toSpeaker } from "./devices.js";
import { has, t } from "./i18n.js";
import { remember, setting } from "./settings.js";

/** @typedef {import("./devices.js").DeviceKind} DeviceKind */

/** Whether the check has been done in this browser. */
export const wasChecked = () => setting("checked-devices", "") === "1";

/** The help text for a problem's code. @param {string} code */
export function help(code) {
  const known = has(`device.${code}.help`) ? code : "media_busy";
  return html`<div class="notice warn" role="alert" data-problem=${code}>
    <strong>${t(`device.${known}`)}</strong>
    <p>${t(`device.${known}.help`)}</p>
  </div>`;
}

/**
 * Shows the check; resolves to whether the user wants to continue.
 * @param {{ video: boolean, action?: string }} options
 * @returns {Promise<boolean>}
 */
export function checkDevices({ video, action = "" }) {
  const dialog = document.createElement("dialog");
  dialog.className = "check-dialog";
  const leaving = new AbortController();
  const mirror = document.createElement("video");
  Object.assign(mirror, { autoplay: true, muted: true, playsInline: true });
  const echo = document.createElement("audio");
  /** @type {MediaStream | null} */
  let stream = null;
  /** @type {Record<DeviceKind, { id: string, label: string }[]>} */
  let devices = { microphone: [], camera: [], speaker: [] };
  let problem = "";
  let level = 0;
  let hearing = false;
  let agreed = false;
  let generation = 0;
  /** @type {AudioContext | null} */
  let sound = null;

  const draw = () =>
    render(
      html`<form method="dialog" class="body" @submit=${() => (agreed = true)} aria-label=${t("device.check")}>
        <h2>${t("device.check")}</h2>
        <p class="quiet">${t("device.check.text")}</p>
        ${problem ? help(problem) : nothing}
        ${video ? html`<div class="check-mirror" ?hidden=${!stream?.getVideoTracks().length}>${mirror}</div>` : nothing}
        <label class="field"><span>${t("device.level")}</span><meter min="0" max="1" .value=${level} data-level></meter></label>
        <div class="row">
          <button type="button" class="button small" aria-pressed=${String(hearing)} ?disabled=${!stream} @click=${hear}>${t(hearing ? "device.hear.stop" : "device.hear")}</button>
          ${notifications()}
        </div>
        <div class="two">
          ${/** @type {DeviceKind[]} */ (["microphone", "camera", "speaker"])
            .filter((kind) => devices[kind].length > 0 && (video || kind !== "camera"))
            .map(
              (kind) => html`<label class="field"><span>${t(`device.${kind}`)}</span>
                <select @change=${(/** @type {Event} */ event) => pick(kind, event)}>
                  <option value="" ?selected=${chosen(kind) === ""}>${t("device.default")}</option>
                  ${devices[kind].map(({ id, label }) => html`<option value=${id} ?selected=${chosen(kind) === id}>${label || id.slice(0, 8)}</option>`)}
                </select></label>`,
            )}
        </div>
        <div class="end">
          <button type="button" class="button" @click=${() => dialog.close()}>${t(action ? "dialog.cancel" : "dialog.close")}</button>
          ${problem && problem !== "media_insecure" ? html`<button type="button" class="button" @click=${begin}>${t("device.again")}</button>` : nothing}
          ${action ? html`<button class="button primary" data-go ?disabled=${problem !== "" && !stream}>${action}</button>` : nothing}
        </div>
      </form>`,
      dialog,
    );

  function notifications() {
    if (!("Notification" in window) || Notification.permission !== "default") return nothing;
    const ask = () => Notification.requestPermission().then(draw);
    return html`<button type="button" class="button small" @click=${ask}>${t("device.notify")}</button>`;
  }

  function hear() {
    hearing = !hearing;
    echo.srcObject = hearing ? stream : null;
    if (hearing) echo.play().catch(() => {});
    toSpeaker(echo);
    draw();
  }

  /** @param {DeviceKind} kind @param {Event} event */
  async function pick(kind, event) {
    choose(kind, /** @type {HTMLSelectElement} */ (event.currentTarget).value);
    if (kind === "speaker") await toSpeaker(echo);
    else await begin();
  }

  function end() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
  }

  async function begin() {
    end();
    problem = "";
    generation += 1;
    const mine = generation;
    /** @type {MediaStream | null} */
    let opened = null;
    try {
      opened = await open({ audio: true, video });
    } catch (error) {
      problem = error instanceof Error && "code" in error ? String(error.code) : "media_busy";
      // Without a camera an audio call is still possible.
      if (video && problem !== "media_insecure") opened = await open({ audio: true, video: false }).catch(() => null);
    }
    if (!dialog.isConnected || mine !== generation) return opened?.getTracks().forEach((track) => track.stop());
    stream = opened;
    mirror.srcObject = stream?.getVideoTracks().length ? stream : null;
    devices = await list();
    measure();
    draw();
  }

  function measure() {
    sound?.close().catch(() => {});
    if (!stream) return;
    sound = new AudioContext();
    const analyser = sound.createAnalyser();
    analyser.fftSize = 512;
    sound.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const here = sound;
    const look = () => {
      if (here.state === "closed" || !dialog.isConnected) return;
      analyser.getFloatTimeDomainData(samples);
      level = Math.min(1, Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length) * 4);
      draw();
      setTimeout(look, 100);
    };
    look();
  }

  document.body.append(dialog);
  draw();
  dialog.showModal();
  followDevices(async () => {
    devices = await list();
    draw();
  }, leaving.signal);
  begin();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      leaving.abort();
      if (stream && !problem) remember("checked-devices", "1");
      end();
      sound?.close().catch(() => {});
      echo.srcObject = null;
      dialog.remove();
      resolve(agreed);
    });
  });
}
