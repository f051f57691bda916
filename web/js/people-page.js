// The people page: who is online, calling and watching them, and the call history.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api, goToLogin, needsLogin, whoAmI } from "./api.js";
import { bar } from "./bar.js";
import { openDesk } from "./desk.js";
import { checkDevices, help, wasChecked } from "./device-check.js";
import { isBlocked } from "./devices.js";
import { ask } from "./dialog.js";
import * as icons from "./icons.js";
import { has, preferred, t, use } from "./i18n.js";
import { isOnWall, toggleOnWall } from "./wall-people.js";
import { PersonWatch } from "./person-watch.js";
import { watchWords } from "./person-tile.js";
import { initial, span, sorry, when } from "./words.js";

/** @typedef {import("./people.js").Person} Person */
/** @typedef {{ id: number, at: number, outgoing: boolean, peer: string, display: string, video: boolean, talked: number | null, reason: string, message: string, missed: boolean }} PastCall */

class PeoplePage {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {import("./api.js").Me | null} */
    this.me = null;
    /** @type {import("./desk.js").Desk | null} */
    this.desk = null;
    this.search = "";
    this.group = "";
    /** The names as last drawn. @type {string[]} */
    this.order = [];
    /** What is in the list. @type {Set<"pointer" | "keyboard">} */
    this.inside = new Set();
    /** @type {PastCall[]} */
    this.history = [];
    this.more = false;
    this.historySearch = "";
    this.error = "";
  }

  async run() {
    await use(preferred());
    try {
      this.me = await whoAmI();
    } catch (error) {
      this.error = sorry(error);
    }
    if (!this.error && (!this.me || this.me.must_change)) return goToLogin();
    if (this.me) this.#open(this.me);
    this.draw();
    addEventListener("hashchange", () => this.#shown());
    await this.#shown();
  }

  /** @param {import("./api.js").Me} me */
  #open(me) {
    const desk = openDesk(me);
    this.desk = desk;
    for (const name of ["people", "change"]) desk.addEventListener(name, () => this.draw());
    desk.addEventListener("missed", () => this.#inHistory && this.#loadHistory());
  }

  get #inHistory() {
    return location.hash === "#history";
  }

  async #shown() {
    this.draw();
    if (this.#inHistory) await this.#loadHistory();
  }

  /** @param {number} [before] */
  async #loadHistory(before) {
    const query = new URLSearchParams();
    if (this.historySearch) query.set("search", this.historySearch);
    if (before) query.set("before", String(before));
    try {
      const { calls, page } = await api("GET", `/api/calls?${query}`);
      this.history = before ? [...this.history, ...calls] : calls;
      this.more = calls.length === page;
      if (!before && !this.historySearch && this.desk && this.desk.missed > 0) {
        await api("PUT", "/api/calls/seen");
        await this.desk.countMissed();
      }
    } catch (error) {
      if (!needsLogin(error)) this.error = sorry(error);
    }
    this.draw();
  }

  /**
   * @param {string} name
   * @param {boolean} video
   */
  async #call(name, video) {
    const desk = this.desk;
    if (!desk) return;
    const display = desk.people.display(name);
    if (!(await ready(video, t("people.call.now", { name: display })))) return;
    await desk.calls.invite(name, video);
  }

  /** @param {string} name */
  async #watch(name) {
    const desk = this.desk;
    if (!desk) return;
    const display = desk.people.display(name);
    const video = document.createElement("video");
    Object.assign(video, { autoplay: true, playsInline: true, controls: false });
    const watch = new PersonWatch(desk, name, video);
    const closed = ask({
      title: t("watch.title", { name: display }),
      content: () => html`<div class="watch-stage" data-watch=${watch.state}>
          ${video}
          ${watch.state === "playing" ? nothing : html`<div class="tile-notice" role="status">${watchWords(watch, display)}</div>`}
        </div>`,
      extra: () => html`<button type="button" class="button" aria-pressed=${String(isOnWall(name))} @click=${() => this.#toWall(name)}>
        ${t(isOnWall(name) ? "watch.off_wall" : "watch.on_wall")}
      </button>`,
    });
    watch.addEventListener("change", redrawDialog);
    watch.start();
    await closed;
    watch.stop();
  }

  /** @param {string} name */
  #toWall(name) {
    toggleOnWall(name);
    redrawDialog();
  }

  draw() {
    const { me, desk } = this;
    document.title = `${t("people.title")} · Gatehouse`;
    render(
      html`${bar({ me, page: "people", changed: () => this.draw(), missed: desk?.missed ?? 0 })}
        ${desk && !desk.connected && desk.people.known ? html`<div class="banner" role="alert">${t("app.offline")}</div>` : nothing}
        <main class="page">
          <div class="row between">
            <h1>${t("people.title")}</h1>
            <div class="row">
              <label class="check"><input type="checkbox" id="dnd" .checked=${desk?.dnd ?? false} @change=${(/** @type {Event} */ event) => desk?.setDnd(/** @type {HTMLInputElement} */ (event.currentTarget).checked)} /> ${t("people.dnd")}</label>
              <button class="button small" @click=${() => checkDevices({ video: true })}>${t("device.check")}</button>
            </div>
          </div>
          <nav class="tabs" aria-label=${t("people.title")}>
            <a href="#all" aria-current=${this.#inHistory ? nothing : "page"}>${t("people.all")}</a>
            <a href="#history" aria-current=${this.#inHistory ? "page" : nothing}>${t("people.history")}${desk?.missed ? html` <span class="badge" data-missed>${desk.missed}</span>` : nothing}</a>
          </nav>
          ${this.error ? html`<p class="notice bad" role="alert">${this.error}</p>` : nothing}
          ${this.#inHistory ? this.#historyList() : this.#list()}
        </main>`,
      this.root,
    );
  }

  #list() {
    const people = this.desk?.people;
    if (!people?.known) return html`<p class="quiet" role="status">${t("people.loading")}</p>`;
    const wanted = this.search.trim().toLowerCase();
    const fits = (/** @type {Person} */ person) =>
      (!this.group || person.groups.includes(this.group)) &&
      (!wanted || `${person.name} ${person.display} ${person.groups.join(" ")}`.toLowerCase().includes(wanted));
    const all = people.sorted(this.inside.size > 0 ? this.order : []);
    this.order = all.map(({ name }) => name);
    const shown = all.filter(fits);
    const groups = [...new Set(all.flatMap((person) => person.groups))].sort();
    return html`<div class="row people-find">
        <input type="search" name="search" aria-label=${t("people.search")} placeholder=${t("people.search")} .value=${this.search} @input=${(/** @type {Event} */ event) => this.#find(event)} />
        ${groups.length > 0
          ? html`<select name="group" aria-label=${t("people.group")} @change=${(/** @type {Event} */ event) => this.#choose(event)}>
              <option value="">${t("people.group.all")}</option>
              ${groups.map((group) => html`<option value=${group} ?selected=${group === this.group}>${group}</option>`)}
            </select>`
          : nothing}
      </div>
      ${shown.length === 0 ? html`<p class="quiet">${t(all.length === 0 ? "people.none" : "people.none.found")}</p>` : nothing}
      <ul class="people" @pointerenter=${() => this.#enter("pointer")} @pointerleave=${() => this.#leave("pointer")}
        @focusin=${(/** @type {FocusEvent} */ { target }) => target instanceof Element && target.matches(":focus-visible") && this.#enter("keyboard")}
        @focusout=${() => this.#leave("keyboard")}>
        ${repeat(shown, ({ name }) => name, (person) => this.#person(person))}
      </ul>`;
  }

  /**
   * While the pointer or the keyboard is in the list, its rows stay where they are: one that moved under the pointer
   * would call somebody else.
   * @param {"pointer" | "keyboard"} what
   */
  #enter(what) {
    this.inside.add(what);
  }

  /** @param {"pointer" | "keyboard"} what */
  #leave(what) {
    if (this.inside.delete(what) && this.inside.size === 0) this.draw();
  }

  /** @param {Event} event */
  #find(event) {
    this.search = /** @type {HTMLInputElement} */ (event.currentTarget).value;
    this.draw();
  }

  /** @param {Event} event */
  #choose(event) {
    this.group = /** @type {HTMLSelectElement} */ (event.currentTarget).value;
    this.draw();
  }

  /** @param {Person} person */
  #person(person) {
    const away = person.state === "offline";
    const state = person.dnd && !away ? "dnd" : person.state;
    const { name, display } = person;
    return html`<li class="person" data-person=${name} data-state=${state}>
      <span class="avatar" aria-hidden="true">${initial(display)}<i class="presence" data-state=${state}></i></span>
      <div class="person-words">
        <strong>${display}</strong>
        <small>${t(`people.state.${state}`)}${person.groups.map((group) => ` · ${group}`)}${away ? nothing : person.devices.filter(Boolean).map((device) => ` · ${device}`)}</small>
      </div>
      <div class="person-actions">
        ${person.may_call
          ? html`<button class="button" ?disabled=${away} data-call-video aria-label=${t("people.call.video", { name: display })} title=${t("people.call.video", { name: display })} @click=${() => this.#call(name, true)}>${icons.camera} <span>${t("people.call")}</span></button>
              <button class="button icon" ?disabled=${away} data-call-sound aria-label=${t("people.call.sound", { name: display })} title=${t("people.call.sound", { name: display })} @click=${() => this.#call(name, false)}>${icons.phone}</button>`
          : nothing}
        ${person.may_watch
          ? html`<button class="button" ?disabled=${away} data-watch aria-label=${t("people.watch.name", { name: display })} title=${t("people.watch.name", { name: display })} @click=${() => this.#watch(name)}>${icons.eye} <span>${t("people.watch")}</span></button>`
          : nothing}
      </div>
    </li>`;
  }

  #historyList() {
    return html`<div class="row people-find">
        <input type="search" name="history-search" aria-label=${t("people.history.search")} placeholder=${t("people.history.search")} .value=${this.historySearch} @change=${(/** @type {Event} */ event) => this.#findHistory(event)} />
      </div>
      ${this.history.length === 0 ? html`<p class="quiet">${t("people.history.none")}</p>` : nothing}
      <ul class="people">${repeat(this.history, ({ id }) => id, (call) => this.#past(call))}</ul>
      ${this.more ? html`<button class="button" @click=${() => this.#loadHistory(this.history.at(-1)?.id)}>${t("log.older")}</button>` : nothing}`;
  }

  /** @param {Event} event */
  async #findHistory(event) {
    this.historySearch = /** @type {HTMLInputElement} */ (event.currentTarget).value.trim();
    await this.#loadHistory();
  }

  /** @param {PastCall} call */
  #past(call) {
    const reason = has(`people.ended.${call.reason}`) ? t(`people.ended.${call.reason}`) : call.reason;
    const how = call.talked === null ? reason : span(call.talked);
    const missed = !call.outgoing && ["no_answer", "cancelled"].includes(call.reason);
    const person = this.desk?.people.get(call.peer);
    return html`<li class="person" data-past=${call.id} data-missed=${String(missed)}>
      <span class="past-way ${missed ? "missed" : ""}" aria-hidden="true">${call.outgoing ? icons.outgoing : icons.incoming}</span>
      <div class="person-words">
        <strong>${call.display}</strong>
        <small>${t(missed ? "people.past.missed" : call.outgoing ? "people.past.out" : "people.past.in")} · ${t(call.video ? "people.past.video" : "people.past.sound")} · ${how}${call.message ? html` · “${call.message}”` : nothing}</small>
        <small>${when(call.at)}</small>
      </div>
      <div class="person-actions">
        ${person?.may_call
          ? html`<button class="button" ?disabled=${person.state === "offline"} @click=${() => this.#call(call.peer, call.video)}>${call.video ? icons.camera : icons.phone} <span>${t("people.call.back")}</span></button>`
          : nothing}
      </div>
    </li>`;
  }
}

/** Redraws the open dialog. */
async function redrawDialog() {
  (await import("./dialog.js")).redraw();
}

/**
 * Whether a call can be started with the devices there are: shows the check before the first call, and help whenever
 * the browser blocks them.
 * @param {boolean} video
 * @param {string} action
 */
async function ready(video, action) {
  if (!navigator.mediaDevices || (await isBlocked("microphone"))) {
    const code = navigator.mediaDevices ? "media_blocked" : "media_insecure";
    await ask({ title: t("device.check"), content: () => help(code) });
    return false;
  }
  return wasChecked() || checkDevices({ video, action });
}

const root = document.getElementById("app");
if (root) new PeoplePage(root).run();
