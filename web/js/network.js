// Roaming between networks: connections that die of it do not report an error. Detects possible network changes, and
// whether a connection still receives anything.

/** A timer of one second that is later than this, in milliseconds: the computer was asleep. */
const ASLEEP = 5_000;

/**
 * Calls back whenever the network may have changed, and after the computer was asleep. The browser's event also fires
 * for new bandwidth estimates.
 * @param {() => void} callback
 * @param {AbortSignal} [signal]
 */
export function onNetworkDoubt(callback, signal) {
  const options = signal ? { signal } : {};
  window.addEventListener("online", callback, options);
  // @ts-ignore Not in all browsers. It reports a switch from Wi-Fi to mobile data that is never offline.
  navigator.connection?.addEventListener?.("change", callback, options);
  let last = Date.now();
  const timer = setInterval(() => {
    const now = Date.now();
    // In a hidden page timers are late, too: the callback finds nothing wrong then.
    if (now - last > ASLEEP) callback();
    last = now;
  }, 1_000);
  signal?.addEventListener("abort", () => clearInterval(timer));
}

/** In ms. A connection this long without data is dead: frames come more often, and the server's RTCP every second. */
const SILENCE = 1_500;

/** Whether a connection that has carried media no longer receives anything. @param {RTCPeerConnection} peer */
export async function isSilent(peer) {
  const before = await peer.getStats();
  if (!hasCarried(before)) return false;
  await new Promise((resolve) => setTimeout(resolve, SILENCE));
  return received(await peer.getStats()) <= received(before);
}

/** Whether media has been received, or an RTCP report on media sent. @param {RTCStatsReport} report */
function hasCarried(report) {
  const tells = (/** @type {any} */ { type, packetsReceived }) => type === "remote-inbound-rtp" || (type === "inbound-rtp" && packetsReceived > 0);
  return [...report.values()].some(tells);
}

/** A number that grows with what is received, media and RTCP; not every browser counts bytes in all of these. @param {RTCStatsReport} report */
export function received(report) {
  let bytes = 0;
  for (const entry of report.values()) {
    if (["candidate-pair", "transport", "inbound-rtp"].includes(entry.type)) bytes += entry.bytesReceived ?? 0;
    if (entry.type === "remote-inbound-rtp") bytes += entry.roundTripTimeMeasurements ?? 0;
  }
  return bytes;
}
