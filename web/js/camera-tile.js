// <gh-camera-tile>: one camera with its name, state, tools and notices. It plays its stream only while it is `active`,
// scrolled into view, and the tab is visible. Which tiles exist is decided in `wall-page`.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import * as icons from "./icons.js";
import { at } from "./base.js";
import { has, t } from "./i18n.js";
import { WhepPlayer } from "./whep-player.js";

/** @typedef {import("./api.js").Camera} Camera */

/** Grace period in ms, so that scrolling past a tile does not stop its stream. */
const LINGER = 1_500;
/** Up to this many times its height, in device pixels, a sub stream is shown. */
const LARGEST = 1.5;
/** The height of a sub stream that has not been seen yet. */
const USUAL_SUB = 480;

export class CameraTile extends HTMLElement {
  constructor() {
    super();
    /** @type {Camera | null} */
    this.camera = null;
    /** @type {WhepPlayer | null} */
    this.player = null;
    this.enlarged = false;
    /** Sent with every request, for pages without a login (embed). */
    this.token = "";
    this.showStats = false;
    this.statsLine = "";
    this.muted = true;
    this.inSight = false;
    this.active = true;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.autoplay = true;
    this.video.playsInline = true;
    this.video.disablePictureInPicture = true;
    this.shell = document.createElement("div");
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.leaving = undefined;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.clock = undefined;
    this.observer = new IntersectionObserver((entries) => {
      this.inSight = entries.some((entry) => entry.isIntersecting);
      this.#consider();
    });
    this.resized = new ResizeObserver(() => this.#chooseLayer());
    this.onVisibility = () => this.#consider();
  }

  connectedCallback() {
    this.tabIndex = 0;
    this.setAttribute("role", "group");
    if (!this.video.isConnected) this.append(this.video, this.shell);
    this.observer.observe(this);
    this.resized.observe(this);
    document.addEventListener("visibilitychange", this.onVisibility);
    this.onclick = () => this.#wish("enlarge");
    this.onkeydown = (event) => this.#key(event);
    this.clock = setInterval(() => this.#tick(), 1_000);
  }

  disconnectedCallback() {
    this.observer.disconnect();
    this.resized.disconnect();
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearInterval(this.clock);
    clearTimeout(this.leaving);
    this.inSight = false;
    this.player?.stop();
    this.player = null;
  }

  /**
   * Takes the camera's state from the server, and what the wall requires of the tile.
   * @param {Camera} camera
   * @param {{ active: boolean, enlarged: boolean }} wanted
   */
  update(camera, wanted) {
    const changed = this.camera?.stream !== camera.stream;
    const faults = (/** @type {Camera | null} */ camera) => Boolean(camera?.problem || camera?.reason);
    const mended = faults(this.camera) && !faults(camera);
    const was = this.camera?.state;
    this.camera = camera;
    this.active = wanted.active;
    this.enlarged = wanted.enlarged;
    if (changed) {
      this.player?.stop();
      this.player = new WhepPlayer(this.video, at(`/whep/${camera.stream}`), { token: this.token });
      this.player.addEventListener("state", () => this.#draw());
    }
    this.#chooseLayer();
    // A camera that was fixed or came back plays again without a reload and without waiting for the retry timer.
    const back = was !== "live" && camera.state === "live";
    if ((mended || back) && this.player?.state === "blocked") this.player.start();
    if ((mended || back) && this.player?.state === "retrying") this.player.start();
    this.#consider();
    this.#draw();
  }

  /** The camera's smaller stream is enough for a small tile. */
  #chooseLayer() {
    const { camera, player } = this;
    if (!camera?.sub || !player || !this.isConnected) return;
    const height = this.clientHeight * devicePixelRatio;
    player.select(height <= LARGEST * (camera.sub.video?.height ?? USUAL_SUB) ? "sub" : "main");
  }

  #consider() {
    const wanted = this.active && this.inSight && !document.hidden;
    clearTimeout(this.leaving);
    if (wanted) {
      if (this.player?.state === "idle") this.player.start();
      return;
    }
    this.leaving = setTimeout(() => {
      this.player?.stop();
      this.statsLine = "";
    }, LINGER);
  }

  /** The state the tile shows. @returns {"paused" | "connecting" | "live" | "retrying" | "failed" | "blocked"} */
  get look() {
    const state = this.player?.state ?? "idle";
    if (state === "playing") return "live";
    // The server waits with its answer for a camera that may just be restarting.
    if (state === "connecting") return this.camera?.reason && this.camera.state === "retrying" ? "retrying" : "connecting";
    if (state === "blocked") return "blocked";
    if (state === "stalled" || state === "retrying") return this.camera?.state === "failed" ? "failed" : "retrying";
    return "paused";
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.target !== this || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = /** @type {Record<string, () => void>} */ ({
      Enter: () => this.#wish("enlarge"),
      " ": () => this.#wish("enlarge"),
      m: () => this.#toggleSound(),
      s: () => this.#toggleStats(),
      f: () => this.#fullscreen(),
    });
    const action = actions[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  /** @param {string} what */
  #wish(what) {
    this.dispatchEvent(new CustomEvent(what, { bubbles: true }));
  }

  #toggleSound() {
    this.muted = !this.muted;
    this.video.muted = this.muted;
    // The sound may not have been known when the tile began with the sub stream.
    if (!this.muted && this.player && !this.player.hears) this.player.renew();
    this.#draw();
  }

  #toggleStats() {
    this.showStats = !this.showStats;
    this.statsLine = "";
    this.#tick();
  }

  #fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    else this.requestFullscreen().catch(() => {});
  }

  async #tick() {
    if (this.showStats && this.player) {
      const stats = await this.player.stats();
      if (stats) {
        this.statsLine = t("tile.stats.line", {
          width: stats.width,
          height: stats.height,
          fps: Math.round(stats.fps),
          rate: rate(stats.bitrate),
          loss: stats.lossPercent.toFixed(1),
          rtt: stats.roundTrip.toFixed(1),
          buffer: Math.round(stats.jitterBuffer),
        });
      }
    }
    this.#draw();
  }

  #draw() {
    const camera = this.camera;
    if (!camera || !this.isConnected) return;
    const look = this.look;
    this.dataset.state = look;
    this.setAttribute("aria-label", t("tile.label", { name: camera.name, state: t(`state.${look}`) }));
    render(
      html`
        ${this.#notice(look)}
        <div class="tile-head">
          <span class="tile-dot" data-state=${look}></span>
          <span class="tile-name">${camera.name}</span>
          ${look === "live" ? nothing : html`<span class="tile-state">${t(`state.${look}`)}</span>`}
        </div>
        ${this.showStats && look === "live"
          ? html`<p class="tile-stats" data-tools>${this.statsLine || t("tile.stats.wait")}</p>`
          : nothing}
        ${look === "live" || look === "paused" ? this.#tools(camera) : this.enlarged ? this.#backTool() : nothing}
      `,
      this.shell,
    );
  }

  /** @param {Camera} camera */
  #tools(camera) {
    const sound = camera.audio?.playable ?? false;
    const soundLabel = !sound ? "tile.sound.none" : this.muted ? "tile.sound.on" : "tile.sound.off";
    return html`
      <div class="tile-tools">
        ${tool(soundLabel, this.muted ? icons.soundOff : icons.soundOn, () => this.#toggleSound(), !this.muted, !sound)}
        ${tool("tile.stats", icons.chart, () => this.#toggleStats(), this.showStats)}
        ${tool(
          this.enlarged ? "tile.shrink" : "tile.enlarge",
          this.enlarged ? icons.shrink : icons.enlarge,
          () => this.#wish("enlarge"),
        )}
        ${tool("tile.fullscreen", icons.fullscreen, () => this.#fullscreen())}
      </div>
    `;
  }

  /** Without video, sound and statistics are useless, but an enlarged tile still needs a way back. */
  #backTool() {
    return html`<div class="tile-tools">${tool("tile.shrink", icons.shrink, () => this.#wish("enlarge"))}</div>`;
  }

  /** @param {string} look */
  #notice(look) {
    if (look === "live" || look === "paused") return nothing;
    if (look === "connecting") {
      return html`<div class="tile-notice" role="status">
        <div class="spinner"></div>
        <h3>${t("notice.connecting")}</h3>
      </div>`;
    }
    const again = () => {
      this.player?.start();
    };
    const code = this.#code();
    if (look === "blocked") {
      return html`<div class="tile-notice" role="status">
        <h3>${t("notice.blocked")}</h3>
        <p>${sentence(code)}</p>
        <button @click=${stop(again)}>${t("notice.retry")}</button>
      </div>`;
    }
    return html`<div class="tile-notice" role="status">
      <h3>${t("notice.retrying")}</h3>
      <p>${sentence(code)} ${this.#nextTry()}</p>
      ${this.player?.state === "retrying" ? html`<button @click=${stop(again)}>${t("notice.retry")}</button>` : nothing}
    </div>`;
  }

  /** The server knows best what is wrong with the camera; problems on the way to it only the player knows. */
  #code() {
    const code = this.player?.code ?? "";
    const camera = this.camera;
    if (code === "" || code === "stalled" || code.startsWith("camera_")) {
      return camera?.reason?.code ?? camera?.problem?.code ?? code;
    }
    return code;
  }

  #nextTry() {
    // If the camera is at fault, the server's next retry is the one that counts.
    const serverSide = this.player?.code.startsWith("camera_") || this.player?.state === "stalled";
    const at = (serverSide ? this.camera?.retry_at : null) ?? (this.player?.state === "retrying" ? this.player.retryAt : 0);
    if (!at) return "";
    const seconds = Math.ceil((at - Date.now()) / 1000);
    return seconds > 0 ? t("notice.next_try", { seconds }) : t("notice.trying");
  }
}

/** @param {string} code */
function sentence(code) {
  if (code === "no_webrtc") return t("notice.no_webrtc");
  if (code === "no_common_codec" && lacksH264()) return t("reason.no_h264");
  return has(`reason.${code}`) ? t(`reason.${code}`) : t("reason.other", { code });
}

/** Firefox decodes H.264 with a plugin, which may be missing or switched off. */
function lacksH264() {
  const codecs = RTCRtpReceiver.getCapabilities?.("video")?.codecs ?? [];
  return navigator.userAgent.includes("Firefox/") && !codecs.some(({ mimeType }) => mimeType.toLowerCase() === "video/h264");
}

/** @param {number} bits */
function rate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`;
}

/** Keeps a click on a tool from counting as a click on the tile. @param {() => void} action */
function stop(action) {
  return (/** @type {Event} */ event) => {
    event.stopPropagation();
    action();
  };
}

/**
 * @param {string} label
 * @param {unknown} icon
 * @param {() => void} action
 * @param {boolean} [pressed]
 * @param {boolean} [disabled]
 */
function tool(label, icon, action, pressed, disabled = false) {
  return html`<button
    type="button"
    title=${t(label)}
    aria-label=${t(label)}
    aria-pressed=${pressed === undefined ? nothing : String(pressed)}
    ?disabled=${disabled}
    @click=${stop(action)}
  >
    ${icon}
  </button>`;
}

customElements.define("gh-camera-tile", CameraTile);
