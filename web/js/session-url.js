// The address of a WHEP or WHIP session.

/**
 * From the endpoint and the `Location` of its response. A proxy may serve the server below a sub-path without telling
 * it: the server leaves it out of `Location` then, but it is part of the endpoint's address.
 * @param {string} endpoint
 * @param {string} location
 */
export function sessionUrl(endpoint, location) {
  const from = new URL(endpoint, window.location.href);
  const url = new URL(location, from);
  const sub = /^(.+)\/(?:whep|whip)\//.exec(from.pathname)?.[1] ?? "";
  if (url.origin === from.origin && url.pathname.startsWith("/session/")) url.pathname = sub + url.pathname;
  return url.href;
}
