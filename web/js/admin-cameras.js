// Administration: cameras. Those from the file are only shown, those added here can be edited; all can be shared.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { api } from "./api.js";
import { at } from "./base.js";
import { ask, redraw, showOnce } from "./dialog.js";
import { has, t } from "./i18n.js";
import { subjects, subjectWords } from "./subjects.js";
import { sorry } from "./words.js";

/** @typedef {{ name: string, url: string, sub_url: string | null, username: string | null, transport: string, on_demand: boolean, enabled: boolean, public: boolean }} Settings */
/** @typedef {{ id: string, origin: "file" | "page" | "demo", settings: Settings, has_password: boolean, allow: string[], allow_origin: "file" | "page" | "default", status: import("./api.js").Camera | null }} AdminCamera */

const path = (/** @type {string[]} */ ...parts) => `/api/admin/cameras${parts.map((part) => `/${encodeURIComponent(part)}`).join("")}`;

export class CamerasTab {
  /** @param {import("./admin-page.js").AdminPage} page */
  constructor(page) {
    this.page = page;
    this.interval = 3_000;
    /** @type {AdminCamera[]} */
    this.cameras = [];
  }

  async load() {
    this.cameras = (await api("GET", path())).cameras;
  }

  /** @param {AdminCamera | null} camera */
  async #edit(camera) {
    /** @type {unknown} */
    let findings = nothing;
    const settings = camera?.settings;
    const read = (/** @type {FormData} */ data) => {
      const password = String(data.get("password"));
      return {
        name: String(data.get("name")).trim() || camera?.id || String(data.get("id")).trim(),
        url: String(data.get("url")).trim(),
        sub_url: String(data.get("sub_url")).trim() || null,
        username: String(data.get("username")).trim() || null,
        transport: data.get("transport"),
        on_demand: data.has("on_demand"),
        enabled: data.has("enabled"),
        public: data.has("public"),
        ...(password || data.has("no_password") ? { password } : {}),
      };
    };
    const test = async (/** @type {Event} */ event) => {
      const form = /** @type {HTMLButtonElement} */ (event.currentTarget).form;
      if (!form?.reportValidity()) return;
      findings = html`<p class="notice warn" role="status">${t("probe.running")}</p>`;
      redraw();
      const use = (/** @type {string} */ sub) => {
        const field = form.elements.namedItem("sub_url");
        if (field instanceof HTMLInputElement) field.value = sub;
      };
      try {
        findings = report(use, await api("POST", "/api/admin/probe", { ...(camera ? { id: camera.id } : {}), ...read(new FormData(form)) }));
      } catch (error) {
        findings = html`<p class="notice bad" role="alert">${sorry(error)}</p>`;
      }
      redraw();
      // Otherwise the end of it, which says what to do, is below the dialog's edge.
      form.querySelector(".notice")?.scrollIntoView({ block: "nearest" });
    };
    const done = await ask({
      title: camera ? camera.settings.name : t("admin.cameras.add"),
      action: camera ? t("account.save") : t("admin.cameras.add"),
      content: () => html`${fields(camera, settings)} ${findings}`,
      extra: () => html`<button type="button" class="button" @click=${test}>${t("probe.test")}</button>`,
      submit: (data) => (camera ? api("PUT", path(camera.id), read(data)) : api("POST", path(), { id: String(data.get("id")).trim(), ...read(data) })),
    });
    if (done) await this.page.reload();
  }

  /** @param {AdminCamera} camera */
  async #allow(camera) {
    const [{ users }, { groups }] = await Promise.all([api("GET", "/api/admin/users"), api("GET", "/api/admin/groups")]);
    const possible = [
      "everyone",
      ...["dispatcher", "member", "guest"].map((role) => `role:${role}`),
      ...groups.map((/** @type {{ name: string }} */ group) => `group:${group.name}`),
      ...users.map((/** @type {{ name: string }} */ user) => `user:${user.name}`),
    ];
    let chosen = [...camera.allow];
    let byDefault = camera.allow_origin === "default";
    const change = (/** @type {string[]} */ subjects) => {
      chosen = subjects;
      redraw();
    };
    const done = await ask({
      title: t("allow.title", { name: camera.settings.name }),
      action: t("account.save"),
      content: () => html`<label class="check">
          <input type="checkbox" ?checked=${byDefault} @change=${() => ((byDefault = !byDefault), redraw())} /> ${t("allow.default")}
        </label>
        ${byDefault ? nothing : subjects(chosen, possible, change)}`,
      submit: () => api("PUT", path(camera.id, "allow"), { allow: byDefault ? null : chosen }),
    });
    if (done) await this.page.reload();
  }

  /** @param {AdminCamera} camera */
  async #share(camera) {
    let link = "";
    const done = await ask({
      title: t("share.title", { name: camera.settings.name }),
      action: t("share.make"),
      content: () => html`<p class="quiet">${t("share.text")}</p>
        <label class="field"><span>${t("share.time")}</span>
          <select name="seconds">
            ${[600, 3600, 28_800, 86_400].map((seconds) => html`<option value=${String(seconds)} ?selected=${seconds === 3600}>${t(`share.time.${seconds}`)}</option>`)}
          </select>
        </label>`,
      submit: async (data) => {
        const ticket = await api("POST", "/api/tickets", { camera: camera.id, seconds: Number(data.get("seconds")) });
        link = location.origin + at(ticket.path);
      },
    });
    if (done) await showOnce(t("share.title", { name: camera.settings.name }), t("share.once"), link);
  }

  /** @param {AdminCamera} camera */
  async #remove(camera) {
    const done = await ask({
      title: t("cameras.remove.title", { name: camera.settings.name }),
      action: t("users.remove"),
      danger: true,
      content: () => html`<p class="quiet">${t("cameras.remove.text")}</p>`,
      submit: () => api("DELETE", path(camera.id)),
    });
    if (done) await this.page.reload();
  }

  view() {
    return html`<section class="card">
      <div class="row between">
        <h2>${t("admin.cameras")}</h2>
        <button class="button primary" @click=${() => this.#edit(null)}>${t("admin.cameras.add")}</button>
      </div>
      <p class="quiet">${t("cameras.text")}</p>
      <div class="scroll"><table class="stack" id="cameras">
        <thead><tr><th>${t("cameras.name")}</th><th>${t("cameras.state")}</th><th>${t("cameras.allow")}</th><th></th></tr></thead>
        <tbody>${repeat(this.cameras, ({ id }) => id, (camera) => this.#row(camera))}</tbody>
      </table></div>
    </section>`;
  }

  /** @param {AdminCamera} camera */
  #row(camera) {
    const { settings, status } = camera;
    const reason = status?.problem ?? status?.reason;
    const sub = status?.sub?.problem ?? status?.sub?.reason;
    // Nobody watches it now, but it failed the last time.
    const broken = status?.state === "idle" && reason && reason.code !== "not_published";
    const shown = broken ? "failed" : (status?.state ?? "idle");
    const state = !settings.enabled ? t("users.disabled") : t(`camera.state.${shown}`);
    const page = camera.origin === "page";
    return html`<tr data-camera=${camera.id}>
      <td>${settings.name}<small>${camera.id} · ${settings.url}</small>
        ${page ? nothing : html`<span class="chip">${t(`cameras.origin.${camera.origin}`)}</span>`}</td>
      <td><span class="dot" data-state=${settings.enabled && status ? shown : ""}></span>${state}
        ${reason && has(`reason.${reason.code}`) ? html`<small>${t(`reason.${reason.code}`)}</small>` : nothing}
        ${sub && has(`reason.${sub.code}`) ? html`<small data-sub-fault>${t("cameras.sub.failed", { reason: t(`reason.${sub.code}`) })}</small>` : nothing}
        ${(status?.notes ?? []).map(({ code }) => (has(`note.${code}`) ? html`<small>${t(`note.${code}`)}</small>` : nothing))}</td>
      <td><span class="chips">
        ${settings.public ? html`<span class="chip">${t("cameras.public")}</span>` : nothing}
        ${camera.allow.length === 0 ? html`<span class="chip">${t("subject.role", { role: t("role.admin") })}</span>` : nothing}
        ${camera.allow.map((subject) => html`<span class="chip">${subjectWords(subject)}</span>`)}
      </span></td>
      <td class="actions">
        ${page ? html`<button class="button small" @click=${() => this.#edit(camera)}>${t("users.edit")}</button>` : nothing}
        ${camera.allow_origin === "file" ? nothing : html`<button class="button small" @click=${() => this.#allow(camera)}>${t("cameras.allow")}</button>`}
        <button class="button small" @click=${() => this.#share(camera)}>${t("cameras.share")}</button>
        ${page ? html`<button class="button small danger" @click=${() => this.#remove(camera)}>${t("users.remove")}</button>` : nothing}
      </td>
    </tr>`;
  }
}

/**
 * @param {AdminCamera | null} camera
 * @param {Settings | undefined} settings
 */
function fields(camera, settings) {
  const check = (/** @type {string} */ name, /** @type {boolean} */ on) =>
    html`<label class="check"><input type="checkbox" name=${name} ?checked=${on} /> ${t(`cameras.${name}`)}</label>`;
  return html`<div class="two">
      ${camera
        ? nothing
        : html`<label class="field"><span>${t("cameras.id")}</span>
            <input type="text" name="id" required pattern="[A-Za-z0-9_\\-][A-Za-z0-9._\\-]{0,63}" autocomplete="off" autocapitalize="none" autofocus />
            <small>${t("cameras.id.hint")}</small></label>`}
      <label class="field"><span>${t("cameras.name")}</span>
        <input type="text" name="name" maxlength="64" .value=${settings?.name ?? ""} autocomplete="off" /></label>
    </div>
    <label class="field"><span>${t("cameras.url")}</span>
      <input type="text" name="url" required placeholder="rtsp://192.168.1.20/stream1" .value=${settings?.url ?? ""} autocomplete="off" spellcheck="false" />
      <small>${t("cameras.url.hint")}</small></label>
    <label class="field"><span>${t("cameras.sub_url")}</span>
      <input type="text" name="sub_url" placeholder="rtsp://192.168.1.20/stream2" .value=${settings?.sub_url ?? ""} autocomplete="off" spellcheck="false" />
      <small>${t("cameras.sub_url.hint")}</small></label>
    <div class="two">
      <label class="field"><span>${t("cameras.username")}</span>
        <input type="text" name="username" .value=${settings?.username ?? ""} autocomplete="off" autocapitalize="none" /></label>
      <label class="field"><span>${t("cameras.password")}</span>
        <input type="password" name="password" autocomplete="new-password" placeholder=${camera?.has_password ? t("cameras.password.kept") : ""} /></label>
    </div>
    <label class="field"><span>${t("cameras.transport")}</span>
      <select name="transport">
        ${["auto", "tcp", "udp"].map((word) => html`<option value=${word} ?selected=${(settings?.transport ?? "auto") === word}>${t(`cameras.transport.${word}`)}</option>`)}
      </select></label>
    <div>${check("on_demand", settings?.on_demand ?? true)}<br />${check("enabled", settings?.enabled ?? true)}<br />${check("public", settings?.public ?? false)}</div>`;
}

/**
 * The result of the probe.
 * @param {(sub: string) => void} use takes over the address of the sub stream
 * @param {any} found
 */
function report(use, found) {
  const info = found.stream?.info;
  const good = !found.error && !found.advice.some((/** @type {any} */ advice) => advice.severity === "problem");
  const words = (/** @type {string} */ kind, /** @type {{ code: string, message?: string, text?: string }} */ thing) =>
    has(`${kind}.${thing.code}`) ? t(`${kind}.${thing.code}`) : (thing.text ?? thing.message ?? thing.code);
  return html`<div class="notice ${good ? "good" : "bad"}" role="status" id="findings">
    <strong>${good ? t("probe.good") : t("probe.bad")}</strong>
    ${found.error ? html`<div>${words("reason", found.error)}</div>` : nothing}
    ${info
      ? html`<div>${t("probe.video", { width: info.width, height: info.height, fps: found.stream.fps.toFixed(1), rate: Math.round(found.stream.bitrate / 1000) })}</div>`
      : nothing}
    ${found.sub_url
      ? html`<div class="row">${t("probe.sub", { url: found.sub_url })} <button type="button" class="button small" data-use-sub @click=${() => use(found.sub_url)}>${t("probe.sub.use")}</button></div>`
      : nothing}
    ${found.advice.map((/** @type {any} */ advice) => html`<div>• ${words("advice", advice)}</div>`)}
  </div>`;
}
