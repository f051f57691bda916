// The camera wall: 1, 4, 9 or 16 tiles, pages of them, one enlarged on demand. Tiles keep their streams while the
// wall changes around them.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { listCameras } from "./api.js";
import { CameraTile } from "./camera-tile.js";
import { choose, language, preferred, t, use } from "./i18n.js";
import { themeIcons } from "./icons.js";
import { remember, setting } from "./settings.js";

/** @typedef {import("./api.js").Camera} Camera */

const LAYOUTS = [1, 4, 9, 16];
const THEMES = ["auto", "light", "dark"];
/** Between two looks at the cameras. */
const INTERVAL = 2_000;

class Wall {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Camera[] | null} */
    this.cameras = null;
    this.offline = false;
    this.page = 0;
    this.enlarged = "";
    this.layout = Number(setting("layout", "4"));
    if (!LAYOUTS.includes(this.layout)) this.layout = 4;
    this.theme = setting("theme", "auto");
    /** @type {Map<string, CameraTile>} */
    this.tiles = new Map();
    this.grid = document.createElement("div");
    this.grid.className = "grid";
    this.grid.addEventListener("enlarge", (event) => {
      if (event.target instanceof CameraTile) this.#toggleEnlarged(event.target);
    });
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  async run() {
    await use(preferred());
    this.draw();
    for (;;) {
      if (!document.hidden) await this.#refresh();
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  }

  async #refresh() {
    try {
      this.cameras = await listCameras();
      this.offline = false;
    } catch {
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
    if (step && tile instanceof CameraTile) {
      const shown = [...this.grid.querySelectorAll("gh-camera-tile")];
      const next = shown[shown.indexOf(tile) + step];
      if (next instanceof HTMLElement) {
        event.preventDefault();
        next.focus();
      }
    }
  }

  /** @param {CameraTile} tile */
  #toggleEnlarged(tile) {
    const id = tile.camera?.id ?? "";
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

  #nextTheme() {
    this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? "auto";
    remember("theme", this.theme);
    if (this.theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
    this.draw();
  }

  async #otherLanguage() {
    await choose(language() === "zh" ? "en" : "zh");
    this.draw();
  }

  draw() {
    /** @type {Camera[]} */
    const cameras = this.cameras ?? [];
    const pages = Math.max(1, Math.ceil(cameras.length / this.layout));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    if (!cameras.some((camera) => camera.id === this.enlarged)) this.enlarged = "";
    const live = cameras.filter((camera) => camera.state === "live" && !camera.problem).length;
    document.title = `${t("app.cameras")} · Gatehouse`;
    this.#drawTiles(cameras);
    render(
      html`
        <header class="bar">
          <h1 class="brand"><img src="/favicon.svg" alt="" /><span>Gatehouse</span></h1>
          ${this.cameras ? html`<span class="summary">${t("wall.summary", { live, total: cameras.length })}</span>` : nothing}
          <span class="spacer"></span>
          ${pages > 1 && !this.enlarged ? this.#pager(pages) : nothing}
          ${this.enlarged
            ? html`<button class="tool" id="back" @click=${() => this.#back()}>${t("wall.back")}</button>`
            : this.#layouts()}
          ${this.#themeButton()}
          <button class="tool" id="language" aria-label=${t("wall.language.label")} @click=${() => this.#otherLanguage()}>
            ${t("wall.language")}
          </button>
        </header>
        ${this.offline ? html`<div class="banner" role="alert">${t("app.offline")}</div>` : nothing}
        <main class="stage">${this.cameras && cameras.length === 0 ? this.#empty() : this.grid}</main>
      `,
      this.root,
    );
  }

  #themeButton() {
    const label = t("wall.theme", { theme: t(`wall.theme.${this.theme}`) });
    return html`<button class="tool icon" id="theme" title=${label} aria-label=${label} @click=${() => this.#nextTheme()}>
      ${themeIcons[this.theme] ?? themeIcons.auto}
    </button>`;
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
    return html`<div class="empty"><h2>${t("wall.empty")}</h2><p>${t("wall.empty.text")}</p></div>`;
  }

  /** Puts the tiles that belong on the screen there, and touches the others as little as possible. @param {Camera[]} cameras */
  #drawTiles(cameras) {
    const first = this.page * this.layout;
    const shown = this.enlarged
      ? cameras.filter((camera) => camera.id === this.enlarged)
      : cameras.slice(first, first + this.layout);
    // One or two cameras on a wall of four look lost: the layout is what fits, up to the chosen one.
    const fitting = LAYOUTS.find((layout) => layout >= shown.length) ?? this.layout;
    this.grid.dataset.layout = String(this.enlarged ? 1 : Math.min(this.layout, fitting));
    const wanted = new Set(shown.map((camera) => camera.id));
    for (const [id, tile] of this.tiles) {
      if (!wanted.has(id)) {
        tile.remove();
        this.tiles.delete(id);
      }
    }
    shown.forEach((camera, place) => {
      let tile = this.tiles.get(camera.id);
      if (!tile) {
        tile = new CameraTile();
        tile.dataset.camera = camera.id;
        this.tiles.set(camera.id, tile);
      }
      // Moving an element stops its video: only where the order has changed.
      if (this.grid.children[place] !== tile) this.grid.insertBefore(tile, this.grid.children[place] ?? null);
      tile.update(camera, { active: true, enlarged: camera.id === this.enlarged });
    });
  }
}

const root = document.getElementById("app");
if (root) new Wall(root).run();
