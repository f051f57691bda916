// The camera wall: 1, 4, 9 or 16 tiles per page, one of them enlarged on demand. Tiles that stay visible keep their
// streams when the wall changes.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { listCameras, needsLogin, whoAmI } from "./api.js";
import { bar } from "./bar.js";
import { at } from "./base.js";
import { CameraTile } from "./camera-tile.js";
import { preferred, t, use } from "./i18n.js";
import { openDesk } from "./desk.js";
import { PersonTile } from "./person-tile.js";
import { onWall, toggleOnWall } from "./wall-people.js";
import { remember, setting } from "./settings.js";

/** @typedef {import("./api.js").Camera} Camera */
/** @typedef {import("./api.js").Me} Me */

const LAYOUTS = [1, 4, 9, 16];
/** Between two requests for the list of cameras. */
const INTERVAL = 2_000;

/** Whether somebody has to look after a camera. One that waits for its publisher is not faulty. @param {Camera} camera */
function isFaulty({ state, reason, problem }) {
  return Boolean(problem) || (state !== "live" && Boolean(reason) && reason?.code !== "not_published");
}

class Wall {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Camera[] | null} */
    this.cameras = null;
    this.offline = false;
    /** @type {Me | null} */
    this.me = null;
    this.page = 0;
    this.enlarged = "";
    this.layout = Number(setting("layout", "4"));
    if (!LAYOUTS.includes(this.layout)) this.layout = 4;
    /** @type {import("./desk.js").Desk | null} */
    this.desk = null;
    /** By key, see `#shown`. @type {Map<string, CameraTile | PersonTile>} */
    this.tiles = new Map();
    this.grid = document.createElement("div");
    this.grid.className = "grid";
    this.grid.addEventListener("enlarge", (event) => {
      if (event.target instanceof CameraTile || event.target instanceof PersonTile) this.#toggleEnlarged(event.target);
    });
    this.grid.addEventListener("remove-person", (event) => {
      if (event.target instanceof PersonTile) toggleOnWall(event.target.name);
      this.draw();
    });
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  async run() {
    await use(preferred());
    this.draw();
    // Without a login there may still be public cameras: the camera list decides.
    this.me = await whoAmI().catch(() => null);
    if (this.me && !this.me.must_change) {
      const desk = openDesk(this.me);
      this.desk = desk;
      for (const name of ["people", "change"]) desk.addEventListener(name, () => this.draw());
    }
    for (;;) {
      if (!document.hidden) await this.#refresh();
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  }

  async #refresh() {
    try {
      this.cameras = await listCameras();
      this.offline = false;
    } catch (error) {
      if (needsLogin(error)) return;
      this.offline = true;
    }
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && this.enlarged && !document.fullscreenElement) {
      this.enlarged = "";
      this.draw();
    }
    const tile = event.target;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: Math.sqrt(this.layout), ArrowUp: -Math.sqrt(this.layout) }[
      event.key
    ];
    if (step && (tile instanceof CameraTile || tile instanceof PersonTile)) {
      const shown = [...this.grid.children];
      const next = shown[shown.indexOf(tile) + step];
      if (next instanceof HTMLElement) {
        event.preventDefault();
        next.focus();
      }
    }
  }

  /** Everything on the wall: cameras, then people. @returns {{ key: string, camera?: Camera, person?: string }[]} */
  get #shown() {
    const cameras = (this.cameras ?? []).map((camera) => ({ key: `camera/${camera.id}`, camera }));
    const there = this.desk?.people;
    const people = there?.known ? onWall().filter((name) => there.get(name)?.may_watch) : [];
    return [...cameras, ...people.map((person) => ({ key: `user/${person}`, person }))];
  }

  /** @param {CameraTile | PersonTile} tile */
  #toggleEnlarged(tile) {
    const id = tile instanceof PersonTile ? `user/${tile.name}` : `camera/${tile.camera?.id}`;
    this.enlarged = this.enlarged === id ? "" : id;
    this.draw();
    if (this.tiles.has(id)) tile.focus();
  }

  /** @param {number} layout */
  #setLayout(layout) {
    const first = this.page * this.layout;
    this.layout = layout;
    this.page = Math.floor(first / layout);
    this.enlarged = "";
    remember("layout", String(layout));
    this.draw();
  }

  /** @param {number} step */
  #turn(step) {
    this.page += step;
    this.draw();
  }

  draw() {
    /** @type {Camera[]} */
    const cameras = this.cameras ?? [];
    const shown = this.#shown;
    const pages = Math.max(1, Math.ceil(shown.length / this.layout));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    if (!shown.some(({ key }) => key === this.enlarged)) this.enlarged = "";
    const faults = cameras.filter(isFaulty).length;
    document.title = `${t("app.cameras")} · Gatehouse`;
    this.#drawTiles(shown);
    render(
      html`
        ${bar({
          me: this.me,
          page: "wall",
          changed: () => this.draw(),
          missed: this.desk?.missed ?? 0,
          left: this.cameras ? html`<span class="summary">${faults > 0 ? t("wall.attention", { count: faults, total: cameras.length }) : cameras.length === 1 ? t("wall.summary.one") : t("wall.summary", { total: cameras.length })}</span>` : nothing,
          right: html`${pages > 1 && !this.enlarged ? this.#pager(pages) : nothing}
          ${this.enlarged
            ? html`<button class="tool" id="back" @click=${() => this.#back()}>${t("wall.back")}</button>`
            : this.#layouts()}`,
        })}
        ${this.offline ? html`<div class="banner" role="alert">${t("app.offline")}</div>` : nothing}
        <main class="stage">${this.cameras && shown.length === 0 ? this.#empty() : this.grid}</main>
      `,
      this.root,
    );
  }

  #back() {
    this.enlarged = "";
    this.draw();
  }

  #layouts() {
    return html`<div class="segmented" role="group" aria-label=${t("wall.layout")}>
      ${LAYOUTS.map(
        (layout) =>
          html`<button
            aria-pressed=${String(layout === this.layout)}
            aria-label=${t("wall.layout.n", { count: layout })}
            @click=${() => this.#setLayout(layout)}
          >
            ${layout}
          </button>`,
      )}
    </div>`;
  }

  /** @param {number} pages */
  #pager(pages) {
    return html`<nav class="pager" aria-label=${t("wall.pages")}>
      <button class="tool" aria-label=${t("wall.previous")} ?disabled=${this.page === 0} @click=${() => this.#turn(-1)}>‹</button>
      <span>${t("wall.page", { page: this.page + 1, pages })}</span>
      <button class="tool" aria-label=${t("wall.next")} ?disabled=${this.page === pages - 1} @click=${() => this.#turn(1)}>›</button>
    </nav>`;
  }

  #empty() {
    const admin = this.me?.may.administer ?? false;
    return html`<div class="empty">
      <h2>${t(admin ? "wall.empty" : "wall.none")}</h2>
      <p>${t(admin ? "wall.empty.text" : "wall.none.text")}</p>
      ${admin ? html`<p><a href=${at("/admin#cameras")}>${t("admin.cameras.add")}</a></p>` : nothing}
    </div>`;
  }

  /**
   * Updates the tiles on the screen, moving existing ones as little as possible.
   * @param {{ key: string, camera?: Camera, person?: string }[]} all
   */
  #drawTiles(all) {
    const first = this.page * this.layout;
    const shown = this.enlarged ? all.filter(({ key }) => key === this.enlarged) : all.slice(first, first + this.layout);
    // One or two cameras look lost on a wall of four: use the smallest layout that fits, up to the chosen one.
    const fitting = LAYOUTS.find((layout) => layout >= shown.length) ?? this.layout;
    this.grid.dataset.layout = String(this.enlarged ? 1 : Math.min(this.layout, fitting));
    const wanted = new Set(shown.map(({ key }) => key));
    for (const [key, tile] of this.tiles) {
      if (!wanted.has(key)) {
        tile.remove();
        this.tiles.delete(key);
      }
    }
    shown.forEach(({ key, camera, person }, place) => {
      const enlarged = key === this.enlarged;
      let tile = this.tiles.get(key);
      if (!tile) {
        tile = camera ? new CameraTile() : new PersonTile();
        if (camera) tile.dataset.camera = camera.id;
        else tile.dataset.person = person;
        this.tiles.set(key, tile);
      }
      // Moving an element stops its video: do so only if the order has changed.
      if (this.grid.children[place] !== tile) this.grid.insertBefore(tile, this.grid.children[place] ?? null);
      if (tile instanceof CameraTile && camera) tile.update(camera, { active: true, enlarged });
      if (tile instanceof PersonTile && person && this.desk) tile.update(this.desk, person, { enlarged });
    });
  }
}

const root = document.getElementById("app");
if (root) new Wall(root).run();
