// Statistics of a call's connection: audio level of the other side, received packets, quality.

/** The current audio level, 0 to 1, and the number of media packets received. @param {RTCStatsReport} report */
export function heard(report) {
  const found = { level: 0, packets: 0 };
  for (const entry of report.values()) {
    if (entry.type !== "inbound-rtp") continue;
    if (entry.kind === "audio") found.level = entry.audioLevel ?? 0;
    found.packets += entry.packetsReceived ?? 0;
  }
  return found;
}

/** The quality of a connection since the last measurement, in bars. */
export class Bars {
  constructor() {
    /** @type {{ lost: number, packets: number } | null} */
    this.counted = null;
  }

  /** 3, 2 or 1; null at the first measurement. @param {RTCStatsReport} report */
  measure(report) {
    let [lost, packets, roundTrip] = [0, 0, 0];
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp") {
        lost += entry.packetsLost ?? 0;
        packets += entry.packetsReceived ?? 0;
      }
      if (entry.type === "candidate-pair" && entry.nominated) roundTrip = Math.max(roundTrip, entry.currentRoundTripTime ?? 0);
    }
    const before = this.counted;
    this.counted = { lost, packets };
    if (!before) return null;
    const expected = lost - before.lost + packets - before.packets;
    const share = expected > 0 ? Math.max(0, lost - before.lost) / expected : 0;
    if (share > 0.08 || roundTrip > 0.6) return 1;
    return share > 0.02 || roundTrip > 0.25 ? 2 : 3;
  }
}
