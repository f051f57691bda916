// Behind Debian's nginx, Caddy and HAProxy, with the examples of docs/proxies.md as they stand, and with typical mistakes.
// The browser is in another network. Requires root and network namespaces.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromiumIn, connect, inNamespace, network, plug, run } from "./networks.js";
import { PASSWORD, browser, gatehouse, moreFrames, openPage, tileState, until } from "./support.js";

const NET = "10.78";
const SERVER = `${NET}.0.1`;
const VIEWER = `${NET}.1.2`;
const PORT = 8443;
/** Issue a notice at the latest after this time. */
const NOTICE_LIMIT = 3_000;

const docs = readFileSync(join(dirname(fileURLToPath(import.meta.url)), "../../docs/proxies.md"), "utf8");

/** An example of the documentation. */
function example(name) {
  const [, text] = new RegExp(`<!-- example: ${name} -->\n\`\`\`\\w+\n([^]*?)\`\`\``).exec(docs) ?? [];
  assert.ok(text, `docs/proxies.md has an example ${name}`);
  return text;
}

/** Removes or replaces a part of an example, which must be there. */
function change(text, part, replacement = "") {
  assert.ok(text.includes(part), part);
  return text.replaceAll(part, replacement);
}

inNamespace(import.meta.url, () => {
  describe("behind a proxy", () => {
    let [folder, viewer, chromium] = [];
    const file = (name, text) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "gatehouse-proxies-"));
      run("ip link set lo up");
      run(`ip addr add ${SERVER}/32 dev lo`);
      viewer = network();
      viewer.inside("ip link set lo up");
      connect(viewer, "viewer", NET, 1);
      plug(viewer, "viewer", NET, 1);
      const names = "subjectAltName=DNS:cameras.example.com,DNS:example.com";
      const args = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -addext ${names}`.split(" ");
      const made = spawnSync("openssl", [...args, "-keyout", join(folder, "cameras.key"), "-out", join(folder, "cameras.pem")], { encoding: "utf8" });
      assert.equal(made.status, 0, made.stderr);
      file("cameras.both", readFileSync(join(folder, "cameras.pem"), "utf8") + readFileSync(join(folder, "cameras.key"), "utf8"));
      const resolve = `--host-resolver-rules=MAP cameras.example.com ${SERVER}, MAP example.com ${SERVER}`;
      chromium = await browser({ args: [resolve], program: chromiumIn(viewer, folder) });
    });
    after(async () => {
      await chromium?.close();
      viewer.remove();
      rmSync(folder, { recursive: true });
    });

    /** Whether the proxy answers, and its server behind it. */
    const answers = (port) =>
      new Promise((resolve) => {
        const options = { host: "127.0.0.1", port, path: "/", servername: "cameras.example.com", headers: { host: "cameras.example.com" }, rejectUnauthorized: false };
        https.get(options, (response) => resolve(response.resume().statusCode < 500)).on("error", () => resolve(false));
      });

    /** Starts a proxy; the test's end stops it. */
    async function proxy(t, program, args, port = 443) {
      let output = "";
      const child = spawn(program, args, { env: { ...process.env, HOME: folder, XDG_DATA_HOME: folder }, stdio: ["ignore", "pipe", "pipe"] });
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
      const ended = new Promise((resolve) => child.on("exit", resolve));
      t.after(async () => {
        child.kill("SIGTERM");
        await ended;
      });
      await until("the proxy answers", async () => {
        assert.equal(child.exitCode, null, output);
        return answers(port);
      });
    }
    const local = (text) => text.replaceAll("/etc/ssl/", `${folder}/`);
    const nginx = (t, text, port) => {
      const head = `user root; daemon off; pid ${folder}/nginx.pid; error_log stderr; events {}\n`;
      const http = `http { access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;\n${local(text)} }\n`;
      return proxy(t, "/usr/sbin/nginx", ["-c", file("nginx.conf", head + http), "-e", "stderr"], port);
    };
    const caddy = (t, text) => {
      const options = "{\n admin off\n skip_install_trust\n local_certs\n auto_https disable_redirects\n}\n";
      return proxy(t, "caddy", ["run", "--adapter", "caddyfile", "--config", file("Caddyfile", options + text)]);
    };
    const haproxy = (t, text) => {
      const defaults = "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n";
      return proxy(t, "/usr/sbin/haproxy", ["-db", "-f", file("haproxy.cfg", defaults + local(text))]);
    };
    const server = async (t, toml) => {
      const running = await gatehouse(toml, { port: PORT, anyMedia: true });
      t.after(running.stop);
      return running;
    };
    const open = async (t) => {
      const opened = await openPage(chromium, null, { ignoreHTTPSErrors: true });
      t.after(opened.close);
      return opened;
    };
    const logIn = async (page) => {
      await page.locator("input[name=name]").fill("admin");
      await page.locator("input[name=password]").fill(PASSWORD);
      await page.locator("form button").click();
    };
    const isConnected = (page) => page.evaluate(() => globalThis.desk?.connected ?? false);

    /** The whole way of a user: login, picture, signaling; and that the server knows who it is. */
    async function works(t, running, root) {
      const opened = await open(t);
      const { page } = opened;
      await page.goto(`${root}people`);
      await page.waitForURL(`${root}login?next=*`);
      await logIn(page);
      await page.waitForURL(`${root}people`);
      await page.locator(`nav a[href$="/admin"]`).click();
      await page.waitForURL(`${root}admin`);
      await page.locator("a.brand").click();
      await page.waitForURL(root);
      await tileState(page, "demo", "live");
      await moreFrames(page, "demo", 10);
      await until("signaling", () => isConnected(page));
      const cookies = await page.context().cookies();
      assert.deepEqual(cookies.map(({ secure, path }) => [secure, path]), [[true, new URL(root).pathname]]);
      // The session ends on the server when the page goes away: its address is right.
      const [before] = await running.cameras();
      assert.equal(before.viewers, 1);
      await page.goto(`${root}account`);
      await until("no viewer is left", async () => (await running.cameras())[0].viewers === 0);
      const { entries } = await running.api("GET", "/api/admin/log?action=login");
      assert.equal(entries[0].address, VIEWER);
      assert.deepEqual((await running.api("GET", "/api/admin/health")).problems, []);
      // The browser also reports that the test has just connected its network.
      opened.check(/401|ERR_NETWORK_CHANGED/);
    }

    const plain = example("gatehouse");
    const withSubPath = change(plain, "[server]\n", example("gatehouse-sub-path"));
    const root = "https://cameras.example.com/";
    const below = "https://example.com/gatehouse/";

    test("nginx", async (t) => {
      const running = await server(t, plain);
      await nginx(t, example("nginx"));
      await works(t, running, root);
    });

    test("nginx on another port, with TLS at both", async (t) => {
      const running = await server(t, change(plain, '[tls]\nmode = "off"\n'));
      const text = change(change(example("nginx"), "443 ssl", "9443 ssl"), "http://127", "https://127");
      await nginx(t, text, 9443);
      await works(t, running, "https://cameras.example.com:9443/");
    });

    test("nginx with a sub-path", async (t) => {
      const running = await server(t, plain);
      const text = example("nginx").replace(/ {4}location[^]*?\n {4}\}\n/, example("nginx-sub-path"));
      await nginx(t, change(text, "cameras.example.com", "example.com"));
      await works(t, running, below);
    });

    test("nginx with a sub-path that nobody names", async (t) => {
      const running = await server(t, plain);
      const text = example("nginx").replace(/ {4}location[^]*?\n {4}\}\n/, change(example("nginx-sub-path"), "proxy_set_header X-Forwarded-Prefix /gatehouse;"));
      await nginx(t, change(text, "cameras.example.com", "example.com"));
      const { page } = await open(t);
      await page.goto(below);
      await page.waitForURL(`${below}login`);
      await logIn(page);
      await tileState(page, "demo", "live");
      await moreFrames(page, "demo", 10);
      await page.goto(`${below}account`);
      await until("no viewer is left", async () => (await running.cameras())[0].viewers === 0);
    });

    test("Caddy", async (t) => {
      const running = await server(t, plain);
      await caddy(t, example("caddy"));
      await works(t, running, root);
    });

    test("Caddy with a sub-path", async (t) => {
      const running = await server(t, plain);
      await caddy(t, `${example("caddy-sub-path")}\ncameras.example.com {\n respond 204\n}\n`);
      await works(t, running, below);
    });

    test("HAProxy", async (t) => {
      const running = await server(t, plain);
      await haproxy(t, example("haproxy"));
      await works(t, running, root);
    });

    test("HAProxy with a sub-path that it keeps", async (t) => {
      const running = await server(t, withSubPath);
      await haproxy(t, change(example("haproxy-sub-path"), " if { path_beg /gatehouse }"));
      await works(t, running, below);
    });

    test("HAProxy forwarding TLS with the PROXY protocol", async (t) => {
      const running = await server(t, change(plain, '[tls]\nmode = "off"\n'));
      await haproxy(t, example("haproxy-tcp"));
      await works(t, running, root);
    });

    test("a proxy that changes the host", async (t) => {
      const running = await server(t, plain);
      await nginx(t, change(example("nginx"), "proxy_set_header Host $http_host;"));
      const { page } = await open(t);
      await page.goto(`${root}login`);
      await logIn(page);
      await page.getByText("changes the Host header").waitFor();
      assert.match(running.output(), /WARN .*Host header.* peer=127\.0\.0\.1 code="proxy_host" seen="host: 127\.0\.0\.1:8443, origin: https:\/\/cameras\.example\.com"/);
    });

    test("a proxy that leaves out the port", async (t) => {
      const running = await server(t, plain);
      await nginx(t, change(change(example("nginx"), "$http_host", "$host"), "443 ssl", "9443 ssl"), 9443);
      const { page } = await open(t);
      await page.goto("https://cameras.example.com:9443/login");
      await logIn(page);
      await page.getByText("leaves out its port").waitFor();
      assert.match(running.output(), /seen="host: cameras\.example\.com, origin: https:\/\/cameras\.example\.com:9443"/);
    });

    test("a proxy without WebSockets: the page says so, and pictures go on", async (t) => {
      const running = await server(t, plain);
      await nginx(t, change(change(example("nginx"), "proxy_set_header Upgrade $http_upgrade;"), "proxy_set_header Connection $connection_upgrade;"));
      const { page } = await open(t);
      await page.goto(`${root}login`);
      await logIn(page);
      await page.waitForURL(root);
      await page.locator('[data-notice="no_websocket"]').waitFor({ timeout: NOTICE_LIMIT });
      await tileState(page, "demo", "live");
      await moreFrames(page, "demo", 10);
      assert.match(running.output(), /WARN .*WebSockets.* peer=127\.0\.0\.1 code="websocket"/);
      await page.locator('[data-notice="no_websocket"] button').click();
      await page.locator('[data-notice="no_websocket"]').waitFor({ state: "detached" });
    });

    test("a proxy that nobody trusts", async (t) => {
      const running = await server(t, change(plain, '["127.0.0.1"]', "[]"));
      await nginx(t, example("nginx"));
      const { page } = await open(t);
      await page.goto(root);
      await page.getByText("trusted_proxies").waitFor();
      assert.match(running.output(), /WARN .* peer=127\.0\.0\.1 code="proxy_untrusted" seen="x-forwarded-for: /);
    });

    test("a proxy that uses HTTP for our HTTPS", async (t) => {
      const running = await server(t, change(plain, '[tls]\nmode = "off"\n'));
      await nginx(t, change(example("nginx"), "proxy_set_header X-Forwarded-Proto $scheme;"));
      const { page } = await open(t);
      await page.goto(root);
      await page.getByText("proxy_plain").waitFor();
      assert.match(running.output(), /WARN .* peer=127\.0\.0\.1 code="proxy_plain" seen="host: cameras\.example\.com"/);
    });
  });
});
