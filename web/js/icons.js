// Icons: strokes on a grid of 24, in the colour of the text.
import { svg } from "../vendor/lit-html/lit-html.js";

/** @param {unknown} content */
const icon = (content) => svg`<svg viewBox="0 0 24 24" aria-hidden="true">${content}</svg>`;

export const soundOn = icon(svg`<path d="M4 9v6h4l5 4V5L8 9z"/><path d="M16.5 8.5a5 5 0 0 1 0 7M19 6a8.5 8.5 0 0 1 0 12"/>`);
export const soundOff = icon(svg`<path d="M4 9v6h4l5 4V5L8 9z"/><path d="m17 9.5 5 5m0-5-5 5"/>`);
export const chart = icon(svg`<path d="M4 20V10m6 10V4m6 16v-7m5 7H2"/>`);
export const enlarge = icon(svg`<rect x="3" y="4" width="18" height="16" rx="2"/><path d="M13 8h4v4M11 16H7v-4"/>`);
export const shrink = icon(svg`<rect x="3" y="3" width="8" height="8" rx="1"/><rect x="13" y="3" width="8" height="8" rx="1"/><rect x="3" y="13" width="8" height="8" rx="1"/><rect x="13" y="13" width="8" height="8" rx="1"/>`);
export const fullscreen = icon(svg`<path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"/>`);

/** @type {Record<string, unknown>} */
export const themeIcons = {
  auto: icon(svg`<circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/>`),
  light: icon(svg`<circle cx="12" cy="12" r="4"/><path d="M12 3v2m0 14v2M3 12h2m14 0h2M5.6 5.6 7 7m10 10 1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4"/>`),
  dark: icon(svg`<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>`),
};
