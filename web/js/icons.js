// Icons: strokes on a 24 × 24 grid, in the colour of the text.
import { svg } from "../vendor/lit-html/lit-html.js";

/** @param {unknown} content */
const icon = (content) => svg`<svg viewBox="0 0 24 24" aria-hidden="true">${content}</svg>`;

export const soundOn = icon(svg`<path d="M4 9v6h4l5 4V5L8 9z"/><path d="M16.5 8.5a5 5 0 0 1 0 7M19 6a8.5 8.5 0 0 1 0 12"/>`);
export const soundOff = icon(svg`<path d="M4 9v6h4l5 4V5L8 9z"/><path d="m17 9.5 5 5m0-5-5 5"/>`);
export const chart = icon(svg`<path d="M4 20V10m6 10V4m6 16v-7m5 7H2"/>`);
export const enlarge = icon(svg`<rect x="3" y="4" width="18" height="16" rx="2"/><path d="M13 8h4v4M11 16H7v-4"/>`);
export const shrink = icon(svg`<rect x="3" y="3" width="8" height="8" rx="1"/><rect x="13" y="3" width="8" height="8" rx="1"/><rect x="3" y="13" width="8" height="8" rx="1"/><rect x="13" y="13" width="8" height="8" rx="1"/>`);
export const fullscreen = icon(svg`<path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"/>`);

export const minimize = icon(svg`<path d="M5 19h14"/><path d="m8 9 4 4 4-4"/>`);
export const close = icon(svg`<path d="m6 6 12 12M18 6 6 18"/>`);
export const phone = icon(svg`<path d="M6 3h3l2 5-2.5 1.5a11 11 0 0 0 6 6L16 13l5 2v3a3 3 0 0 1-3.3 3A16 16 0 0 1 3 6.3 3 3 0 0 1 6 3z"/>`);
export const hangUp = icon(svg`<path d="M3 14c0-3.5 4-6 9-6s9 2.5 9 6l-1 2.2-4.6-1.4-.3-2.9a11 11 0 0 0-6.2 0l-.3 2.9L4 16.2z"/>`);
export const camera = icon(svg`<rect x="2.5" y="6" width="13" height="12" rx="2"/><path d="m15.5 11 6-3.5v9l-6-3.5z"/>`);
export const cameraOff = icon(svg`<path d="M9 6h4.500a2 2 0 0 1 2 2v5m0 3a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2V8a2 2 0 0 1 1.500-1.900M15.500 11l6-3.500v9l-3-1.700M3 3l18 18"/>`);
export const mic = icon(svg`<rect x="9" y="3" width="6" height="11" rx="3"/><path d="M5.500 11.500a6.500 6.500 0 0 0 13 0M12 18v3"/>`);
export const micOff = icon(svg`<path d="M9 9v2a3 3 0 0 0 4.500 2.600M15 11V6a3 3 0 0 0-5.700-1.300M5.500 11.500a6.500 6.500 0 0 0 10 5.500m2.500-2.500a6.500 6.500 0 0 0 .5-3M12 18v3M3 3l18 18"/>`);
export const screen = icon(svg`<rect x="3" y="4" width="18" height="12" rx="2"/><path d="M8 20h8M12 13V8m-2.500 2L12 7.500 14.500 10"/>`);
export const float = icon(svg`<rect x="3" y="5" width="18" height="14" rx="2"/><rect x="12" y="11" width="7" height="6" rx="1"/>`);
export const gear = icon(svg`<circle cx="12" cy="12" r="3"/><path d="M12 3v3m0 12v3M3 12h3m12 0h3M5.600 5.600l2.100 2.100m8.600 8.600 2.100 2.100m0-12.800-2.100 2.100m-8.600 8.600-2.100 2.100"/>`);
export const pause = icon(svg`<path d="M9 5v14M15 5v14"/>`);
export const resume = icon(svg`<path d="M8 5v14l11-7z"/>`);
export const eye = icon(svg`<path d="M2.500 12S6 5.500 12 5.500 21.500 12 21.500 12 18 18.500 12 18.500 2.500 12 2.500 12z"/><circle cx="12" cy="12" r="2.700"/>`);
export const outgoing = icon(svg`<path d="M7 17 17 7m-7 0h7v7"/>`);
export const incoming = icon(svg`<path d="M17 7 7 17m7 0H7v-7"/>`);

/** @type {Record<string, unknown>} */
export const themeIcons = {
  auto: icon(svg`<circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/>`),
  light: icon(svg`<circle cx="12" cy="12" r="4"/><path d="M12 3v2m0 14v2M3 12h2m14 0h2M5.6 5.6 7 7m10 10 1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4"/>`),
  dark: icon(svg`<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>`),
};
