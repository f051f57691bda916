// A list of users, groups and roles with a permission, as chips that can be added and removed.
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { t } from "./i18n.js";

/** The label for `everyone`, `role:…`, `group:…`, `user:…`. @param {string} subject */
export function subjectWords(subject) {
  if (subject === "everyone") return t("subject.everyone");
  const [kind = "", ...rest] = subject.split(":");
  const name = rest.join(":");
  if (kind === "role") return t("subject.role", { role: t(`role.${name}`) });
  return t(kind === "group" ? "subject.group" : "subject.user", { name });
}

/**
 * @param {string[]} chosen
 * @param {string[]} possible
 * @param {(chosen: string[]) => void} changed
 * @param {boolean} [admins] whether administrators are always included
 */
export function subjects(chosen, possible, changed, admins = true) {
  const left = possible.filter((subject) => !chosen.includes(subject));
  const add = (/** @type {Event} */ event) => {
    const select = /** @type {HTMLSelectElement} */ (event.currentTarget);
    const subject = select.value;
    select.value = "";
    if (subject) changed([...chosen, subject]);
  };
  return html`<div class="chips">
      ${admins ? html`<span class="chip">${t("subject.role", { role: t("role.admin") })}</span>` : nothing}
      ${chosen.map(
        (subject) => html`<span class="chip">${subjectWords(subject)}
          <button type="button" aria-label=${t("subject.remove", { name: subjectWords(subject) })} @click=${() => changed(chosen.filter((other) => other !== subject))}>×</button>
        </span>`,
      )}
    </div>
    <select aria-label=${t("subject.add")} @change=${add}>
      <option value="">${t("subject.add")}</option>
      ${left.map((subject) => html`<option value=${subject}>${subjectWords(subject)}</option>`)}
    </select>`;
}
