// A device that walks from one network to another: connections that have died of it do not say so. What notices it, and
// whether a connection still carries anything.

/**
 * Calls whenever something points to another network: the browser's word, which comes for estimates of the speed, too.
 * @param {() => void} callback
 * @param {AbortSignal} [signal]
 */
export function onNetworkDoubt(callback, signal) {
  const options = signal ? { signal } : {};
  window.addEventListener("online", callback, options);
  // @ts-ignore Not all browsers have it. It tells of Wi-Fi to mobile data, without being offline in between.
  navigator.connection?.addEventListener?.("change", callback, options);
}

/** Silence that tells: pictures come more often, as do reports, which the server sends every second. */
const SILENCE = 1_500;

/** Whether a connection that has carried media has fallen silent. @param {RTCPeerConnection} peer */
export async function isSilent(peer) {
  const before = await peer.getStats();
  if (!hasCarried(before)) return false;
  await new Promise((resolve) => setTimeout(resolve, SILENCE));
  return received(await peer.getStats()) <= received(before);
}

/** Whether media has come, or a report on media that went. @param {RTCStatsReport} report */
function hasCarried(report) {
  const tells = (/** @type {any} */ { type, packetsReceived }) => type === "remote-inbound-rtp" || (type === "inbound-rtp" && packetsReceived > 0);
  return [...report.values()].some(tells);
}

/** Bytes of media and of reports that have come. @param {RTCStatsReport} report */
export function received(report) {
  let bytes = 0;
  for (const entry of report.values()) {
    if (entry.type === "candidate-pair") bytes += entry.bytesReceived ?? 0;
  }
  return bytes;
}
