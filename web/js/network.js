// Devices that move from one network to another: connections that break in the process do not report it. Detects such
// changes, and whether a connection still carries anything.

/**
 * Calls back on signs of a network change. Browsers also fire these events for new estimates of the network's speed.
 * @param {() => void} callback
 * @param {AbortSignal} [signal]
 */
export function onNetworkDoubt(callback, signal) {
  const options = signal ? { signal } : {};
  window.addEventListener("online", callback, options);
  // @ts-ignore Not in all browsers. It reports a switch from Wi-Fi to mobile data without going offline in between.
  navigator.connection?.addEventListener?.("change", callback, options);
}

/** Silence this long means a broken connection: frames and the server's reports (every second) are more frequent. */
const SILENCE = 1_500;

/** Whether a connection that used to carry media has gone silent. @param {RTCPeerConnection} peer */
export async function isSilent(peer) {
  const before = await peer.getStats();
  if (!hasCarried(before)) return false;
  await new Promise((resolve) => setTimeout(resolve, SILENCE));
  return received(await peer.getStats()) <= received(before);
}

/** Whether media was received, or a report about media that was sent. @param {RTCStatsReport} report */
function hasCarried(report) {
  const tells = (/** @type {any} */ { type, packetsReceived }) => type === "remote-inbound-rtp" || (type === "inbound-rtp" && packetsReceived > 0);
  return [...report.values()].some(tells);
}

/** Bytes received, media and reports. @param {RTCStatsReport} report */
export function received(report) {
  let bytes = 0;
  for (const entry of report.values()) {
    if (entry.type === "candidate-pair") bytes += entry.bytesReceived ?? 0;
  }
  return bytes;
}
