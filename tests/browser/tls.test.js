// HTTPS with Gatehouse's local certificate authority, as seen from another machine.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { PASSWORD, browser, gatehouse, mediaProtocol, moreFrames, openPage, tileState, until } from "./support.js";

/** A browser with its own certificate store that sees this machine as a remote one. */
async function stranger(home) {
  return browser({ env: { HOME: home }, args: ["--host-resolver-rules=MAP gate.local 127.0.0.1"] });
}

function trust(home, certificate) {
  const store = join(home, ".pki/nssdb");
  mkdirSync(store, { recursive: true });
  execFileSync("certutil", ["-N", "--empty-password", "-d", `sql:${store}`]);
  execFileSync("certutil", ["-A", "-d", `sql:${store}`, "-n", "gatehouse", "-t", "C,,", "-i", certificate]);
}

test("a new client is shown how to trust the certificate, and then gets no warnings", async () => {
  const home = mkdtempSync(join(tmpdir(), "gatehouse-home-"));
  const server = await gatehouse(`[tls]\nnames = ["gate.local"]\n`);
  const plain = `http://gate.local:${server.port}`;
  const secure = `https://gate.local:${server.port}`;

  const before = await stranger(home);
  const first = await openPage(before, null, { locale: "zh-CN" });
  // All other pages redirect to https, where the browser warns.
  const warned = await first.page.context().newPage();
  await assert.rejects(warned.goto(`${plain}/account`), /ERR_CERT_AUTHORITY_INVALID/);
  await first.page.goto(plain);
  await first.page.getByRole("heading", { name: "信任此 Gatehouse" }).waitFor();
  assert.equal(await first.page.locator("#trusted").getAttribute("data-trusted"), "false");
  const fingerprint = await first.page.locator(".code").innerText();
  assert.ok(server.output().includes(fingerprint), "the console shows the same fingerprint");
  const [download] = await Promise.all([first.page.waitForEvent("download"), first.page.getByRole("link", { name: "证书 (.crt)" }).click()]);
  const certificate = join(home, "ca.crt");
  await download.saveAs(certificate);
  await before.close();

  trust(home, certificate);
  const chromium = await stranger(home);
  const { page, close, check } = await openPage(chromium);
  await page.goto(plain);
  await page.locator('#trusted[data-trusted="true"]').waitFor();
  await page.getByRole("link", { name: "Open Gatehouse" }).click();
  await page.getByLabel("User name").fill("admin");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await tileState(page, "demo", "live");
  assert.equal(new URL(page.url()).origin, secure);
  assert.equal(await page.evaluate(() => window.isSecureContext), true);
  assert.ok(await page.evaluate(() => "mediaDevices" in navigator), "camera and microphone are available");
  const [cookie] = await page.context().cookies();
  assert.ok(cookie.secure && cookie.httpOnly && cookie.sameSite === "Lax" && cookie.name.startsWith("__Host-"));
  // The page requests cameras before the login.
  check(/status of 401/);
  await close();
  await chromium.close();
  await server.stop();
  rmSync(home, { recursive: true });
});

test("ICE over TCP and HTTPS share the port under load", async () => {
  const server = await gatehouse();
  const chromium = await browser();
  const { page, close, check, rewriteAnswers } = await openPage(chromium, server);
  await rewriteAnswers((answer) => answer.replace(/a=candidate:.* udp .*\r\n/g, ""));
  await page.goto(server.url);
  await tileState(page, "demo", "live");
  const ca = readFileSync(join(server.data, "tls/ca.crt"));
  let asked = 0;
  let stop = false;
  const ask = () =>
    new Promise((resolve, reject) => {
      const options = { ca, agent: false };
      https.get(`https://localhost:${server.port}/js/api.js`, options, (response) => {
        response.resume().on("end", () => {
          assert.equal(response.statusCode, 200);
          asked += 1;
          resolve();
        });
      }).on("error", reject);
    });
  const hammer = async () => {
    while (!stop) {
      await ask();
      await new Promise((resolve) => setTimeout(resolve, 80));
    }
  };
  const hammers = Array.from({ length: 6 }, hammer);
  await moreFrames(page, "demo", 75);
  stop = true;
  await Promise.all(hammers);
  assert.ok(asked > 20, `${asked} connections`);
  assert.equal(await mediaProtocol(page, "demo"), "tcp");
  await until("video still plays", async () => (await page.locator("gh-camera-tile").getAttribute("data-state")) === "live");
  check();
  await close();
  await chromium.close();
  await server.stop();
});
