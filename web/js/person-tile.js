// <gh-person-tile>: a person's camera on the wall. Like a camera tile it only plays while it is visible; starting may
// mean that the person is asked for consent.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import * as icons from "./icons.js";
import { has, t } from "./i18n.js";
import { PersonWatch } from "./person-watch.js";

export class PersonTile extends HTMLElement {
  constructor() {
    super();
    /** @type {PersonWatch | null} */
    this.watch = null;
    this.name = "";
    this.enlarged = false;
    this.muted = true;
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, autoplay: true, playsInline: true });
    this.shell = document.createElement("div");
    this.onVisibility = () => !document.hidden && this.watch?.start();
  }

  connectedCallback() {
    this.tabIndex = 0;
    this.setAttribute("role", "group");
    if (!this.video.isConnected) this.append(this.video, this.shell);
    this.onclick = () => this.#wish("enlarge");
    this.onkeydown = (event) => {
      if (event.target !== this || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      this.#wish("enlarge");
    };
    document.addEventListener("visibilitychange", this.onVisibility);
    this.watch?.start();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.watch?.stop();
  }

  /** @param {string} what */
  #wish(what) {
    this.dispatchEvent(new CustomEvent(what, { bubbles: true }));
  }

  /**
   * @param {import("./desk.js").Desk} desk
   * @param {string} name
   * @param {{ enlarged: boolean }} wanted
   */
  update(desk, name, { enlarged }) {
    this.enlarged = enlarged;
    this.desk = desk;
    if (this.name !== name) {
      this.name = name;
      this.watch?.stop();
      this.watch = new PersonWatch(desk, name, this.video);
      this.watch.addEventListener("change", () => this.#draw());
      if (this.isConnected) this.watch.start();
    }
    this.#draw();
  }

  #draw() {
    const { watch, desk } = this;
    if (!watch || !desk || !this.isConnected) return;
    const display = desk.people.display(this.name);
    this.dataset.state = watch.state;
    this.setAttribute("aria-label", t("watch.tile", { name: display, state: t(`watch.state.${watch.state}`) }));
    const looks = { playing: "live", asking: "connecting", connecting: "connecting", ended: "failed", idle: "idle" };
    const sound = () => {
      this.muted = !this.muted;
      this.video.muted = this.muted;
      this.#draw();
    };
    render(
      html`
        ${this.#notice(watch, display)}
        <div class="tile-head">
          <span class="tile-dot" data-state=${looks[watch.state]}></span>
          <span class="tile-name">${display}</span>
          ${watch.state === "playing" ? nothing : html`<span class="tile-state">${t(`watch.state.${watch.state}`)}</span>`}
        </div>
        <div class="tile-tools">
          ${button(this.muted ? "tile.sound.on" : "tile.sound.off", this.muted ? icons.soundOff : icons.soundOn, sound)}
          ${desk.people.get(this.name)?.may_call ? button("people.call", icons.phone, () => desk.calls.invite(this.name, true)) : nothing}
          ${button(this.enlarged ? "tile.shrink" : "tile.enlarge", this.enlarged ? icons.shrink : icons.enlarge, () => this.#wish("enlarge"))}
          ${button("watch.off_wall", icons.close, () => this.#wish("remove-person"))}
        </div>
      `,
      this.shell,
    );
  }

  /**
   * @param {PersonWatch} watch
   * @param {string} display
   */
  #notice(watch, display) {
    if (watch.state === "playing") return nothing;
    return html`<div class="tile-notice" role="status">${watchWords(watch, display)}</div>`;
  }
}

/**
 * The state in words, with the available actions.
 * @param {PersonWatch} watch
 * @param {string} display
 */
export function watchWords(watch, display) {
  if (watch.state === "asking" || watch.state === "connecting" || watch.state === "idle") {
    return html`<div class="spinner"></div>
      <h3>${t(watch.state === "asking" ? "watch.asking" : "watch.connecting", { name: display })}</h3>`;
  }
  const key = `watch.ended.${watch.code}`;
  const again = (/** @type {Event} */ event) => {
    event.stopPropagation();
    watch.start();
  };
  return html`<h3>${t("watch.ended")}</h3>
    <p data-code=${watch.code}>${has(key) ? t(key, { name: display }) : t("reason.other", { code: watch.code })}</p>
    <button class="button small" @click=${again}>${t("watch.again")}</button>`;
}

/**
 * @param {string} label
 * @param {unknown} icon
 * @param {() => void} action
 */
function button(label, icon, action) {
  const click = (/** @type {Event} */ event) => {
    event.stopPropagation();
    action();
  };
  return html`<button type="button" title=${t(label)} aria-label=${t(label)} @click=${click}>${icon}</button>`;
}

customElements.define("gh-person-tile", PersonTile);
