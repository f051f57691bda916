// The UI of a call: the other side large, the own camera small, the controls below. It can be made smaller, to continue
// working next to it.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { playAll } from "./call.js";
import { canShareScreen, choose, chosen, followDevices, list, toSpeaker } from "./devices.js";
import * as icons from "./icons.js";
import { has, t } from "./i18n.js";
import { initial } from "./desk-view.js";
import { span } from "./words.js";

/** @typedef {import("./call.js").Call} Call */
/** @typedef {import("./devices.js").DeviceKind} DeviceKind */

export class CallView {
  /**
   * @param {import("./desk.js").Desk} desk
   * @param {() => void} redraw
   */
  constructor(desk, redraw) {
    this.desk = desk;
    this.redraw = redraw;
    this.small = false;
    this.settings = false;
    /** @type {Record<DeviceKind, { id: string, label: string }[]>} */
    this.devices = { microphone: [], camera: [], speaker: [] };
    setInterval(() => this.desk.calls.current && this.redraw(), 1_000);
    followDevices(() => this.#lookForDevices(), new AbortController().signal);
  }

  async #lookForDevices() {
    this.devices = await list();
    this.redraw();
  }

  draw() {
    const { current, outgoing } = this.desk.calls;
    if (outgoing) return this.#calling(outgoing);
    if (!current) {
      this.small = false;
      this.settings = false;
      return nothing;
    }
    const name = current.display;
    queueMicrotask(() => playAll(current.face, current.board, current.mirror, current.voice));
    return html`<section class="call ${this.small ? "small" : ""}" role="dialog" aria-label=${t("call.with", { name })} data-call=${current.id} data-state=${current.state} data-route=${current.route}>
      <div class="call-stage ${current.remote.screen ? "sharing" : ""}">
        <div class="call-board" ?hidden=${!current.remote.screen}>${current.board}</div>
        <div class="call-face">${current.face}${this.#faceNotice(current)}</div>
        <div class="call-mirror" ?hidden=${!current.local.camera}>${current.mirror}</div>
        ${this.#head(current)} ${this.#notices(current)}
      </div>
      ${this.settings ? this.#settings(current) : nothing} ${this.#tools(current)}
    </section>`;
  }

  /** @param {import("./calls.js").Outgoing} outgoing */
  #calling(outgoing) {
    return html`<section class="call calling" role="dialog" aria-label=${t("call.calling", { name: outgoing.display })} data-calling>
      <div class="call-middle">
        <span class="avatar large" aria-hidden="true">${initial(outgoing.display)}</span>
        <h2>${outgoing.display}</h2>
        <p role="status">${t(outgoing.waiting ? "call.calling.waiting" : outgoing.id ? "call.calling.rings" : "call.calling.dials")}</p>
        <button class="round stop" data-cancel aria-label=${t("call.cancel")} title=${t("call.cancel")} @click=${() => this.desk.calls.cancel()}>${icons.hangUp}</button>
      </div>
    </section>`;
  }

  /** @param {Call} call */
  #head(call) {
    const bars = call.bars;
    return html`<header class="call-head">
      <h2>${call.display}</h2>
      <span class="call-time" role="timer">${call.since ? span(Date.now() - call.since) : t("call.connecting")}</span>
      <span class="call-chip" data-route-shown title=${t(`call.route.${call.route}.text`)}>${t(`call.route.${call.route}`)}</span>
      <span class="call-bars" role="img" data-bars=${bars ?? ""} aria-label=${t(`call.quality.${bars ?? "unknown"}`)} title=${t(`call.quality.${bars ?? "unknown"}`)}><i></i><i></i><i></i></span>
      <meter class="call-level" min="0" max="1" .value=${Math.min(1, call.level * 2)} aria-label=${t("call.level", { name: call.display })}></meter>
      <span class="spacer"></span>
      ${tool(this.small ? "call.large" : "call.small", this.small ? icons.enlarge : icons.minimize, () => {
        this.small = !this.small;
        this.redraw();
      })}
    </header>`;
  }

  /** @param {Call} call */
  #faceNotice(call) {
    if (call.held.here || call.held.there) return this.#faceless(call, t(call.held.here ? "call.held.here" : "call.held.there"));
    if (call.state !== "connected") return this.#faceless(call, t(call.since ? "call.reconnecting" : "call.connecting"));
    return call.remote.camera ? nothing : this.#faceless(call, call.remote.audio ? "" : t("call.muted.there"));
  }

  /** @param {Call} call @param {string} text */
  #faceless(call, text) {
    return html`<div class="call-faceless"><span class="avatar large" aria-hidden="true">${initial(call.display)}</span><p role="status">${text}</p></div>`;
  }

  /** @param {Call} call */
  #notices(call) {
    const { calls } = this.desk;
    const others = [...calls.calls.values()].filter((other) => other !== call);
    return html`<div class="call-notices">
      ${call.byItself ? html`<p class="call-note" role="status" data-auto>${t("call.by_itself", { name: call.display })}</p>` : nothing}
      ${call.problem
        ? html`<p class="call-note warn" role="alert" data-problem=${call.problem}>${t(has(`device.${call.problem}`) ? `device.${call.problem}` : "device.media_busy")}
            <button class="button small" @click=${() => call.renew(call.local.audio ? "camera" : "audio")}>${t("device.again")}</button></p>`
        : nothing}
      ${!call.remote.audio && call.state === "connected" && !call.held.there
        ? html`<p class="call-note" role="status">${t("call.muted.there")}</p>`
        : nothing}
      ${others.map(
        (other) => html`<p class="call-note">${t("call.held.with", { name: other.display })}
          <button class="button small" @click=${() => calls.takeUp(other)}>${t("call.take_up")}</button>
          <button class="button small stop" @click=${() => calls.hangUp(other)}>${t("call.hangup")}</button></p>`,
      )}
    </div>`;
  }

  /** @param {Call} call */
  #tools(call) {
    const { calls } = this.desk;
    const full = () => {
      if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
      else document.querySelector(".call")?.requestFullscreen().catch(() => {});
    };
    const pictured = call.remote.screen ? call.board : call.face;
    const float = () => {
      if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
      else pictured.requestPictureInPicture().catch(() => {});
    };
    return html`<div class="call-tools" role="toolbar" aria-label=${t("call.tools")}>
      ${round(call.muted ? "call.unmute" : "call.mute", call.muted ? icons.micOff : icons.mic, () => call.toggleMute(), !call.muted, "mute")}
      ${round(call.local.camera ? "call.camera.off" : "call.camera.on", call.local.camera ? icons.camera : icons.cameraOff, () => call.toggleCamera(), Boolean(call.local.camera), "camera")}
      ${canShareScreen() ? round(call.local.screen ? "call.screen.stop" : "call.screen.share", icons.screen, () => call.toggleScreen(), Boolean(call.local.screen), "screen") : nothing}
      ${round(call.held.here ? "call.take_up" : "call.hold", call.held.here ? icons.resume : icons.pause, () => (call.held.here ? calls.takeUp(call) : this.#hold(call)), call.held.here, "hold")}
      ${document.pictureInPictureEnabled ? round("call.float", icons.float, float, undefined, "float") : nothing}
      ${round("tile.fullscreen", icons.fullscreen, full, undefined, "full")}
      ${round("call.settings", icons.gear, () => this.#toggleSettings(), this.settings, "settings")}
      <button class="round stop" data-hangup aria-label=${t("call.hangup")} title=${t("call.hangup")} @click=${() => calls.hangUp(call)}>${icons.hangUp}</button>
    </div>`;
  }

  /** @param {Call} call */
  async #hold(call) {
    await call.hold(true);
    await this.desk.line.request("call.hold", { call: call.id, held: true }).catch(() => {});
  }

  #toggleSettings() {
    this.settings = !this.settings;
    if (this.settings) this.#lookForDevices();
    this.redraw();
  }

  /** @param {Call} call */
  #settings(call) {
    const pick = (/** @type {DeviceKind} */ kind) => async (/** @type {Event} */ event) => {
      choose(kind, /** @type {HTMLSelectElement} */ (event.currentTarget).value);
      if (kind === "speaker") await toSpeaker(call.voice);
      else if (kind === "microphone") await call.renew("audio");
      else if (call.local.camera) await call.renew("camera");
      this.redraw();
    };
    const kinds = /** @type {DeviceKind[]} */ (["microphone", "camera", "speaker"]);
    const qualities = /** @type {import("./whip-publisher.js").Quality[]} */ (["auto", "low", "high"]);
    return html`<div class="call-settings">
      ${kinds
        .filter((kind) => this.devices[kind].length > 0)
        .map(
          (kind) => html`<label class="field"><span>${t(`device.${kind}`)}</span>
            <select name=${kind} @change=${pick(kind)}>
              <option value="" ?selected=${chosen(kind) === ""}>${t("device.default")}</option>
              ${this.devices[kind].map(({ id, label }) => html`<option value=${id} ?selected=${chosen(kind) === id}>${label || id.slice(0, 8)}</option>`)}
            </select></label>`,
        )}
      <label class="field"><span>${t("call.quality")}</span>
        <select name="quality" @change=${(/** @type {Event} */ event) => call.setQuality(/** @type {any} */ (/** @type {HTMLSelectElement} */ (event.currentTarget).value))}>
          ${qualities.map((quality) => html`<option value=${quality} ?selected=${call.quality === quality}>${t(`call.quality.${quality}`)}</option>`)}
        </select></label>
    </div>`;
  }
}

/**
 * @param {string} label
 * @param {unknown} icon
 * @param {() => void} action
 * @param {boolean | undefined} pressed
 * @param {string} name
 */
function round(label, icon, action, pressed, name) {
  return html`<button class="round" data-tool=${name} aria-label=${t(label)} title=${t(label)} aria-pressed=${pressed === undefined ? nothing : String(pressed)} @click=${action}>
    ${icon}
  </button>`;
}

/**
 * @param {string} label
 * @param {unknown} icon
 * @param {() => void} action
 */
function tool(label, icon, action) {
  return html`<button class="tool icon" aria-label=${t(label)} title=${t(label)} @click=${action}>${icon}</button>`;
}
