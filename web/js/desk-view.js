// The overlay of calls and watching on every page: incoming calls, the call, watch requests, who is watching. It is
// drawn on top of the page and does not change it.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { CallView } from "./call-view.js";
import * as icons from "./icons.js";
import { initial } from "./words.js";
import { has, t } from "./i18n.js";

/** Canned messages for rejecting a call. */
const WORDS = ["call.reject.later", "call.reject.meeting", "call.reject.where"];
/** The summary of a call that ended normally disappears after this time. */
const SUMMARY = 2_500;

export class DeskView {
  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    this.desk = desk;
    this.root = document.createElement("div");
    this.root.className = "desk";
    this.callView = new CallView(desk, () => this.draw());
    /** The last incoming call that was given the focus. */
    this.focused = 0;
    /** The incoming call whose rejection messages are shown. */
    this.wordsOf = 0;
    /** @type {object | null} */
    this.summarized = null;
    document.body.append(this.root);
    desk.addEventListener("change", () => this.draw());
    document.addEventListener("language", () => this.draw());
    // A closing dialog is removed from the page: move the overlay out of it first.
    document.addEventListener("close", () => document.body.append(this.root), { capture: true });
    // Questions show a countdown.
    setInterval(() => this.desk.watched.questions.length > 0 && this.draw(), 1_000);
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== "Escape" || this.wordsOf === 0) return;
    this.wordsOf = 0;
    this.draw();
  }

  draw() {
    const { calls, watched } = this.desk;
    this.#summarize();
    // The texts are not loaded yet.
    if (!has("call.accept")) return;
    // A modal dialog makes everything outside it inert: the overlay has to be inside.
    const host = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
    if (this.root.parentNode !== host) host.append(this.root);
    render(
      html`
        ${this.callView.draw()}
        <div class="desk-cards" aria-live="assertive">
          ${repeat([...calls.incoming.values()].filter(({ auto }) => !auto), ({ id }) => id, (call) => this.#incoming(call))}
          ${repeat(calls.rejoinable, ({ id }) => id, (call) => this.#rejoin(call))}
          ${repeat(watched.questions, ({ watcher }) => watcher, (question) => this.#question(question))}
          ${this.#over()} ${this.#beingWatched()}
        </div>
      `,
      this.root,
    );
    this.#focus();
  }

  /** Focuses the accept button of an incoming call for keyboard users, but not during another call. */
  #focus() {
    const { calls } = this.desk;
    const ringing = [...calls.incoming.keys()].at(-1) ?? 0;
    if (ringing === this.focused) return;
    this.focused = ringing;
    if (ringing && !calls.current) /** @type {HTMLElement | null} */ (this.root.querySelector("[data-accept]"))?.focus();
  }

  /** @param {import("./calls.js").Incoming} call */
  #incoming({ id, display, video, waiting }) {
    const { calls } = this.desk;
    const busy = Boolean(calls.current);
    const said = t(video ? "call.incoming.video" : "call.incoming.sound", { name: display });
    return html`<section class="desk-card ringing" role="alertdialog" aria-label=${said} data-incoming=${id}>
      <div class="desk-who"><span class="avatar" aria-hidden="true">${initial(display)}</span>
        <div><h2>${display}</h2><p>${t(waiting || busy ? "call.incoming.waiting" : video ? "call.wants.video" : "call.wants.sound")}</p></div>
      </div>
      ${this.wordsOf === id
        ? html`<div class="desk-words">
            ${WORDS.map((key) => html`<button class="button small" @click=${() => this.#reject(id, t(key))}>${t(key)}</button>`)}
            <form @submit=${(/** @type {SubmitEvent} */ event) => this.#rejectWith(id, event)}>
              <input type="text" name="message" maxlength="200" aria-label=${t("call.reject.own")} placeholder=${t("call.reject.own")} />
              <button class="button small">${t("call.reject.send")}</button>
            </form>
          </div>`
        : nothing}
      <div class="desk-actions">
        ${video
          ? html`<button class="button go" data-accept @click=${() => calls.accept(id, { video: true })}>${icons.camera} ${t(busy ? "call.hold_accept" : "call.accept.video")}</button>
              <button class="button" @click=${() => calls.accept(id, { video: false })}>${icons.phone} ${t("call.accept.sound")}</button>`
          : html`<button class="button go" data-accept @click=${() => calls.accept(id, { video: false })}>${icons.phone} ${t(busy ? "call.hold_accept" : "call.accept")}</button>`}
        <button class="button stop" data-reject @click=${() => this.#reject(id)}>${icons.hangUp} ${t("call.reject")}</button>
        <button class="button" aria-expanded=${String(this.wordsOf === id)} @click=${() => this.#toggleWords(id)}>${t("call.reject.words")}</button>
      </div>
    </section>`;
  }

  /** @param {number} id */
  #toggleWords(id) {
    this.wordsOf = this.wordsOf === id ? 0 : id;
    this.draw();
  }

  /** @param {number} id @param {string} [message] */
  #reject(id, message = "") {
    this.wordsOf = 0;
    this.desk.calls.reject(id, message);
  }

  /** @param {number} id @param {SubmitEvent} event */
  #rejectWith(id, event) {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    this.#reject(id, String(data.get("message") ?? "").trim());
  }

  /** @param {import("./calls.js").Rejoinable} call */
  #rejoin(call) {
    const { calls } = this.desk;
    return html`<section class="desk-card" role="alertdialog" aria-label=${t("call.rejoin.title", { name: call.display })}>
      <h2>${t("call.rejoin.title", { name: call.display })}</h2>
      <div class="desk-actions">
        <button class="button go" data-rejoin @click=${() => calls.rejoin(call)}>${t("call.rejoin")}</button>
        <button class="button stop" @click=${() => calls.leave(call)}>${t("call.hangup")}</button>
      </div>
    </section>`;
  }

  /** @param {import("./watched.js").Question} question */
  #question({ watcher, display, until }) {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    const title = t("watch.asked", { name: display });
    return html`<section class="desk-card" role="alertdialog" aria-label=${title} data-question=${watcher}>
      <div class="desk-who"><span class="avatar" aria-hidden="true">${initial(display)}</span>
        <div><h2>${title}</h2><p>${t("watch.asked.text", { seconds })}</p></div>
      </div>
      <div class="desk-actions">
        <button class="button go" data-allow @click=${() => this.desk.watched.answer(watcher, true)}>${t("watch.allow")}</button>
        <button class="button stop" data-refuse @click=${() => this.desk.watched.answer(watcher, false)}>${t("watch.refuse")}</button>
      </div>
    </section>`;
  }

  #beingWatched() {
    const { watched } = this.desk;
    if (watched.watchers.length === 0) return nothing;
    const names = watched.watchers.map(({ display }) => display).join(", ");
    return html`<section class="desk-card watched" role="status" data-watched>
      <span class="live-dot" aria-hidden="true"></span>
      <p>${t(watched.here ? "watch.watched" : "watch.watched.elsewhere", { names })}</p>
      <button class="button small stop" data-stop @click=${() => watched.end()}>${t("watch.stop")}</button>
    </section>`;
  }

  #summarize() {
    const { over } = this.desk.calls;
    if (over === this.summarized) return;
    this.summarized = over;
    if (!over || !["hangup", "cancelled"].includes(over.code)) return;
    setTimeout(() => this.desk.calls.over === over && this.desk.calls.putAway(), SUMMARY);
  }

  #over() {
    const { calls, people } = this.desk;
    const over = calls.over;
    if (!over) return nothing;
    const key = `call.over.${over.code}`;
    const again = !["hangup", "no_such_user", "call_forbidden", "withdrawn", "already_in_call"].includes(over.code);
    const may = people.get(over.peer)?.may_call ?? false;
    return html`<section class="desk-card" role="status" data-over=${over.code}>
      <h2>${over.display}</h2>
      <p>${has(key) ? t(key, { seconds: over.seconds ?? 0 }) : t("call.over.other", { code: over.code })}${over.message ? html` “${over.message}”` : nothing}</p>
      <div class="desk-actions">
        ${again && may ? html`<button class="button go" @click=${() => calls.invite(over.peer, over.video)}>${t("call.again")}</button>` : nothing}
        <button class="button" @click=${() => calls.putAway()}>${t("dialog.close")}</button>
      </div>
    </section>`;
  }
}
