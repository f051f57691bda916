// Checks that both languages have the same keys and placeholders, and that every key used in the scripts exists.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "../../web");
const texts = (language) => JSON.parse(readFileSync(join(web, `i18n/${language}.json`), "utf8"));
const [en, zh] = [texts("en"), texts("zh")];
// Names of signaling frames look like keys.
const frames = readFileSync(join(web, "../docs/signaling.md"), "utf8");
const problems = [];
const placeholders = (text) => [...(text ?? "").matchAll(/\{\w+\}/g)].map(([name]) => name).sort().join(" ");
for (const key of new Set([...Object.keys(en), ...Object.keys(zh)])) {
  if (!(key in en) || !(key in zh)) problems.push(`${key} is missing in ${key in en ? "zh" : "en"}`);
  else if (placeholders(en[key]) !== placeholders(zh[key])) problems.push(`${key}: different placeholders`);
}
for (const file of readdirSync(join(web, "js"))) {
  const source = readFileSync(join(web, "js", file), "utf8");
  for (const [, key] of source.matchAll(/["'`]((?:app|wall|tile|state|notice|reason|bar|login|account|logins|tokens|tickets|scope|role|dialog|admin|users|groups|cameras|camera|allow|subject|share|embed|probe|advice|permissions|log|trust|error|people|call|watch|device)\.[a-z0-9_.]+)["'`]/g)) {
    if (frames.includes(`"${key}"`) || frames.includes(`\`${key}\``) || frames.includes(`\`${key} `)) continue;
    if (!(key in en) && !(`log.did.${key}` in en)) problems.push(`${file} uses ${key}, which has no text`);
  }
}
// Every error code from the server must have a text.
const sources = ["streams/rtsp.rs", "streams/whep/mod.rs", "streams/stream.rs", "streams/live.rs", "streams/front/camera.rs", "streams/front/pump.rs", "media/mod.rs", "http/whip_whep.rs"];
for (const file of sources) {
  const source = readFileSync(join(web, "../src", file), "utf8");
  for (const [, code] of source.matchAll(/"(camera_[a-z0-9_]+|too_many_[a-z_]+|no_common_codec|internal)"/g)) {
    if (!(`reason.${code}` in en)) problems.push(`${file} returns ${code}, which has no text`);
  }
}
// Every problem that the server reports about itself, too.
const [, codes] = /CODES[^=]*= \[([^\]]*)\]/.exec(readFileSync(join(web, "../src/health.rs"), "utf8")) ?? [];
const reported = [...(codes ?? "").matchAll(/"([a-z_]+)"/g)];
if (reported.length === 0) problems.push("src/health.rs has no codes");
for (const [, code] of reported) {
  if (!(`health.${code}` in en)) problems.push(`the server reports ${code}, which has no text`);
}
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
console.log(`${Object.keys(en).length} texts in both languages`);
