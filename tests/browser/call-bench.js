// Connection times between people, in two browsers on one machine. A benchmark, not a test:
//   GATEHOUSE_BIN=… node call-bench.js [ROUNDS]
// Measures from the click on "Accept" to the first video frame of the other side, directly and through the server; and
// from "Watch", allowed by a rule, to the first video frame.
import { accept, call, fakeBrowser, incoming, person, press, silent } from "./people.js";
import { gatehouse, until } from "./support.js";

const rounds = Number(process.argv[2] ?? 10);

/** Milliseconds from an event in one page (`begin`) to the first video frame in another; both use the system clock. */
async function measure(page, selector, begin) {
  const seen = page.evaluate(
    (selector) =>
      new Promise((resolve) => {
        const look = () => {
          const video = document.querySelector(selector);
          if (video && video.getVideoPlaybackQuality().totalVideoFrames > 0) return resolve(Date.now());
          setTimeout(look, 2);
        };
        look();
      }),
    selector,
  );
  const start = await begin();
  return (await seen) - start;
}

/** Clicks a button, and returns the time of the click. */
const pressed = (page, selector) =>
  page.locator(selector).evaluate((button) => {
    const now = Date.now();
    button.click();
    return now;
  });

const tell = (what, times) => {
  times.sort((a, b) => a - b);
  console.log(`${what}: median ${times[Math.floor(times.length / 2)]} ms, worst ${times.at(-1)} ms of ${times.length}`);
};

for (const media of ["auto", "server"]) {
  const server = await gatehouse(`[calls]\nmedia = "${media}"\n`);
  for (const name of ["anna", "bert"]) server.addUser(name);
  const browsers = await Promise.all([fakeBrowser(), fakeBrowser()]);
  const [anna, bert] = await Promise.all([person(browsers[0], server, "anna"), person(browsers[1], server, "bert", { path: "/account" })]);
  const [a, b] = [anna.page, bert.page];
  const calls = [];
  for (let round = 0; round < rounds; round += 1) {
    await call(a, "bert");
    await incoming(b);
    calls.push(await measure(a, ".call-face video", () => pressed(b, "[data-accept]")));
    await a.locator("[data-hangup]").click();
    await Promise.all([silent(a), silent(b)]);
  }
  tell(`accept to first frame, ${media === "auto" ? "directly" : "through the server"}`, calls);
  if (media === "auto") {
    await b.locator("#reach select").first().selectOption("user:anna");
    await b.locator("#reach .notice.good").waitFor();
    const watches = [];
    for (let round = 0; round < rounds; round += 1) {
      watches.push(await measure(a, ".watch-stage video", () => pressed(a, '[data-person="bert"] [data-watch]')));
      await a.keyboard.press("Escape");
      await until("the camera is off", () => b.evaluate(() => globalThis.desk.watched.stream === null));
    }
    tell("watch to first frame, by a rule", watches);
  }
  await Promise.all(browsers.map((browser) => browser.close()));
  await server.stop();
}
