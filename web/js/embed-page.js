// One camera embedded in another site: /embed/camera/{id}?token=…
import { html, render } from "../vendor/lit-html/lit-html.js";
import { ApiError, api } from "./api.js";
import { CameraTile } from "./camera-tile.js";
import { preferred, t, use } from "./i18n.js";
import { sorry } from "./words.js";

const INTERVAL = 5_000;

/** @param {HTMLElement} root */
async function run(root) {
  await use(preferred());
  const id = decodeURIComponent(location.pathname.split("/").pop() ?? "");
  const token = new URLSearchParams(location.search).get("token") ?? "";
  const tile = new CameraTile();
  tile.token = token;
  tile.dataset.camera = id;
  for (;;) {
    try {
      const camera = await api("GET", `/api/cameras/${encodeURIComponent(id)}`, undefined, token);
      document.title = camera.name;
      if (!tile.isConnected) root.replaceChildren(tile);
      tile.update(camera, { active: true, enlarged: false });
    } catch (error) {
      const final = error instanceof ApiError && [401, 403, 404].includes(error.status);
      if (final) {
        tile.remove();
        root.replaceChildren();
        const text = error.status === 404 ? t("reason.not_found") : t("embed.no_ticket");
        return render(html`<div class="embed-notice" role="alert">${text}</div>`, root);
      }
      if (!tile.isConnected) render(html`<div class="embed-notice" role="status">${sorry(error)}</div>`, root);
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

const root = document.getElementById("app");
if (root) run(root);
