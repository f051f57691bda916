// One dialog at a time, using the browser's <dialog>, which handles focus, Escape and the backdrop.
import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { t } from "./i18n.js";
import { sorry } from "./words.js";

/** @type {HTMLDialogElement | null} */
let open = null;

/**
 * Shows a dialog with a form. `submit` does the work; if it throws, the error is shown and the dialog stays open.
 * @param {object} options
 * @param {string} options.title
 * @param {() => unknown} options.content
 * @param {string} [options.action] the button's label; without it there is only "Close"
 * @param {boolean} [options.danger]
 * @param {(data: FormData) => Promise<unknown>} [options.submit]
 * @param {() => unknown} [options.extra] a button on the left
 * @returns {Promise<boolean>} whether it was submitted
 */
export function ask({ title, content, action, danger = false, submit, extra }) {
  open?.close();
  const dialog = document.createElement("dialog");
  open = dialog;
  let error = "";
  let busy = false;
  let done = false;
  const draw = () =>
    render(
      html`<form method="dialog" novalidate @submit=${send} aria-label=${title}>
        <h2>${title}</h2>
        ${content()} ${error ? html`<p class="notice bad" role="alert">${error}</p>` : nothing}
        <div class="end">
          ${extra ? html`<span class="push">${extra()}</span>` : nothing}
          <button type="button" class="button" @click=${() => dialog.close()}>${action ? t("dialog.cancel") : t("dialog.close")}</button>
          ${action
            ? html`<button class=${danger ? "button danger" : "button primary"} ?disabled=${busy}>${action}</button>`
            : nothing}
        </div>
      </form>`,
      dialog,
    );
  /** @param {SubmitEvent} event */
  async function send(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    if (!form.reportValidity() || busy || !submit) return;
    busy = true;
    error = "";
    draw();
    try {
      await submit(new FormData(form));
      done = true;
      dialog.close();
    } catch (problem) {
      error = sorry(problem);
    }
    busy = false;
    draw();
  }
  document.body.append(dialog);
  draw();
  redraw = draw;
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (open === dialog) open = null;
      resolve(done);
    });
  });
}

/** Redraws the open dialog. */
export let redraw = () => {};

/**
 * Shows a secret once, to be copied.
 * @param {string} title
 * @param {string} text
 * @param {string} secret
 */
export function showOnce(title, text, secret) {
  const copy = () => navigator.clipboard?.writeText(secret).catch(() => {});
  return ask({
    title,
    content: () => html`<p class="quiet">${text}</p>
      <div class="code" id="shown-once">${secret}</div>`,
    extra: () => (navigator.clipboard ? html`<button type="button" class="button" @click=${copy}>${t("dialog.copy")}</button>` : nothing),
  });
}
