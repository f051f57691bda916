// The time from a browser's POST to its first frame, and until it is live. A benchmark, not a test:
//   TOKEN=ght_… node join-bench.js SERVER_URL STREAM [JOINS]
// One player watches continuously and is the live reference; others join at random moments of the GOP. The stream's RTP
// timestamps are the same for all viewers, so the players can be compared frame by frame.
import { browser } from "./support.js";

const [server, stream, joins = "20"] = process.argv.slice(2);
const chromium = await browser();
const page = await chromium.newPage();
await page.goto(`${server}/health`);
const results = await page.evaluate(
  async ({ server, stream, joins, token }) => {
    const { WhepPlayer } = await import(`${server}/js/whep-player.js`);
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    /** Calls `take` for each rendered frame. */
    const follow = (video, take) => {
      const next = (now, metadata) => {
        take(now, metadata.rtpTimestamp);
        video.requestVideoFrameCallback(next);
      };
      video.requestVideoFrameCallback(next);
    };
    const watch = () => {
      const video = document.createElement("video");
      video.muted = true;
      document.body.append(video);
      return { video, player: new WhepPlayer(video, `${server}/whep/${stream}`, { token }) };
    };
    const reference = watch();
    let live = 0;
    follow(reference.video, (_, timestamp) => (live = timestamp));
    reference.player.start();
    while (!live) await pause(20);
    await pause(3000);
    const results = [];
    for (let join = 0; join < joins; join += 1) {
      await pause(500 + Math.random() * 2000);
      const { video, player } = watch();
      const start = performance.now();
      const result = { first: 0, live: 0, freezes: 0 };
      follow(video, (now, timestamp) => {
        result.first ||= performance.now() - start;
        const behind = ((live - timestamp) | 0) / 90;
        if (behind < 120) result.live ||= performance.now() - start;
      });
      player.start();
      while (!result.live) await pause(5);
      await pause(2000);
      const report = await player.session.peer.getStats();
      result.freezes = [...report.values()].find((entry) => entry.type === "inbound-rtp" && entry.kind === "video").freezeCount;
      player.stop();
      video.remove();
      results.push(result);
    }
    return results;
  },
  { server, stream, joins: Number(joins), token: process.env.TOKEN ?? "" },
);
await chromium.close();
const sorted = (key) => results.map((result) => result[key]).sort((a, b) => a - b);
for (const key of ["first", "live"]) {
  const values = sorted(key);
  const at = (part) => Math.round(values[Math.min(values.length - 1, Math.floor(values.length * part))]);
  console.log(`${key}: median ${at(0.5)} ms, p95 ${at(0.95)} ms, worst ${at(1)} ms of ${values.length}`);
}
console.log(`freezes: ${results.reduce((sum, result) => sum + result.freezes, 0)}`);
