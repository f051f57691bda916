// Login, account, administration and sharing in the browser, in both languages.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { PASSWORD, browser, camera, freePort, gatehouse, moreFrames, openPage, tileState, until } from "./support.js";

let chromium;
before(async () => {
  chromium = await browser();
});
after(() => chromium.close());

const NEW_PASSWORD = "a-quiet-lantern-7";
const refused = /Failed to load resource|WebSocket connection/;

test("the first start: from an empty folder to live video", async () => {
  const server = await gatehouse("", { first: true });
  const password = server.output().match(/password {2}(\S+) /)[1];
  assert.match(server.output(), /([0-9A-F]{2}:){31}[0-9A-F]{2}/, "the fingerprint is on the console");
  const { page, close, check } = await openPage(chromium, null, { locale: "zh-CN" });
  await page.goto(server.url);
  await page.getByLabel("用户名").fill("admin");
  await page.getByLabel("密码").fill(password);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "请设置您的密码" }).waitFor();
  await page.locator("[name=new]").fill("12345678");
  await page.locator("[name=again]").fill("12345678");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("密码过于简单").waitFor();
  await page.locator("[name=new]").fill(NEW_PASSWORD);
  await page.locator("[name=again]").fill(NEW_PASSWORD + "x");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("不一致").waitFor();
  // Until the password is changed, other pages redirect here, and afterwards it leads back to them.
  await page.goto(`${server.url}/admin`);
  await page.getByLabel("当前密码").fill(password);
  await page.locator("[name=new]").fill(NEW_PASSWORD);
  await page.locator("[name=again]").fill(NEW_PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/admin");
  await page.getByRole("link", { name: "摄像头" }).first().click();
  await tileState(page, "demo", "live");
  await moreFrames(page, "demo", 10);
  check(refused);
  await close();
  await server.stop();
});

describe("on a server", () => {
  let server;
  before(async () => {
    server = await gatehouse();
  });
  after(() => server.stop());

  test("logging in: wrong password, too many attempts, success, and redirects only to our own pages", async () => {
    server.addUser("wally");
    const { page, close, check } = await openPage(chromium);
    await page.goto(`${server.url}/login?next=/%09/evil.example/`);
    const tries = async (password) => {
      await page.getByLabel("User name").fill("wally");
      await page.getByLabel("Password").fill(password);
      const answer = page.waitForResponse("**/api/login");
      await page.keyboard.press("Enter");
      await answer;
    };
    await tries("wrong-password");
    await page.getByRole("alert").getByText("The user name or the password is wrong.").waitFor();
    for (let i = 0; i < 5; i += 1) await tries("wrong-password");
    await page.getByRole("alert").getByText(/Too many attempts. Try again in \d+ s./).waitFor();
    await until("the delay is over", async () => {
      const answer = page.waitForResponse("**/api/login");
      await page.locator("[name=password]").fill(PASSWORD);
      await page.keyboard.press("Enter");
      return (await answer).ok();
    });
    await tileState(page, "demo", "live");
    assert.equal(new URL(page.url()).host, `localhost:${server.port}`);
    check(refused);
    await close();
  });

  test("ending a login ends its page and its video at once", async () => {
    server.addUser("anna");
    const here = await openPage(chromium, server, { user: "anna" });
    const there = await openPage(chromium, server, { user: "anna" });
    await there.page.goto(server.url);
    await tileState(there.page, "demo", "live");
    await here.page.goto(`${server.url}/account`);
    await here.page.getByRole("button", { name: "End all others" }).click();
    const start = Date.now();
    await there.page.waitForURL("**/login*");
    assert.ok(Date.now() - start < 3_000);
    await until("nobody watches", async () => (await server.cameras())[0].viewers === 0);
    await here.page.getByText("Ended.").waitFor();
    here.check();
    there.check(refused);
    await here.close();
    await there.close();
  });

  test("video stops when its permission is revoked, although the page stays open", async () => {
    server.addUser("carl");
    const { page, close, check } = await openPage(chromium, server, { user: "carl" });
    await page.goto(server.url);
    await tileState(page, "demo", "live");
    await server.api("PUT", "/api/admin/cameras/demo/allow", { allow: ["role:dispatcher"] });
    await page.getByRole("heading", { name: "No camera for you yet" }).waitFor();
    await until("nobody watches", async () => (await server.cameras())[0].viewers === 0);
    await server.api("PUT", "/api/admin/cameras/demo/allow", { allow: null });
    await tileState(page, "demo", "live");
    check(refused);
    await close();
  });

  test("the account page: language, name, password, a token that works", async () => {
    server.addUser("dora");
    const { page, close, check } = await openPage(chromium, server, { user: "dora" });
    await page.goto(`${server.url}/account`);
    await page.getByLabel("Name as others see it").fill("Dora <b>D</b>");
    await page.locator("[name=language]").selectOption("zh");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("已保存。").waitFor();
    await page.getByRole("heading", { name: "Dora <b>D</b>" }).waitFor();
    await page.getByRole("button", { name: "新建令牌" }).click();
    await page.locator("dialog [name=name]").fill("OBS 车间");
    await page.getByRole("button", { name: "创建令牌" }).click();
    const token = await page.locator("#shown-once").innerText();
    const status = async () => (await fetch(`${server.url}/whep/camera/demo`, { headers: { Authorization: `Bearer ${token}` } })).status;
    assert.equal(await status(), 200);
    await page.keyboard.press("Escape");
    await page.locator("#tokens").getByRole("button", { name: "作废" }).click();
    await page.getByText("已作废。").waitFor();
    assert.equal(await status(), 401);
    await page.getByLabel("当前密码").fill(PASSWORD);
    await page.locator("[name=new]").fill(NEW_PASSWORD);
    await page.locator("[name=again]").fill(NEW_PASSWORD);
    await page.getByRole("button", { name: "修改密码" }).click();
    await page.getByText("已修改，其他登录均已退出。").waitFor();
    await page.getByRole("button", { name: "退出登录" }).click();
    await page.waitForURL("**/login");
    await page.getByLabel("用户名").fill("dora");
    await page.getByLabel("密码").fill(NEW_PASSWORD);
    await page.keyboard.press("Enter");
    await tileState(page, "demo", "live");
    check();
    await close();
  });

  test("shared cameras are listed and revoked; everything is ended at once", async () => {
    server.addUser("dina", "dispatcher");
    const { page, close, check } = await openPage(chromium, server, { user: "dina" });
    await page.goto(`${server.url}/account`);
    const ticket = () => page.evaluate(async () => {
      const body = JSON.stringify({ camera: "demo", seconds: 600 });
      return (await fetch("/api/tickets", { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();
    });
    const { path } = await ticket();
    assert.match(path, /#token=ghv_/, "the ticket is in the fragment, which reaches no server");
    const embedded = await openPage(chromium, server);
    await embedded.page.goto(server.url + path);
    await embedded.page.locator('gh-camera-tile[data-state="live"]').waitFor();
    await page.reload();
    await page.locator("#tickets").getByText("demo").waitFor();
    await page.locator("#tickets").getByRole("button").click();
    await embedded.page.locator('gh-camera-tile[data-state="live"]').waitFor({ state: "detached" });
    await embedded.close();
    const second = await ticket();
    await page.getByRole("button", { name: "End everything" }).click();
    await page.locator("dialog").getByRole("button", { name: "End everything" }).click();
    await page.waitForURL("**/login**");
    const token = second.path.split("#token=")[1];
    const answer = await fetch(`${server.url}/whep/camera/demo`, { headers: { Authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 401);
    check(refused);
    await close();
  });

  test("an admin adds a user, who logs in, sees no administration, and is disabled", async () => {
    const admin = await openPage(chromium, server);
    await admin.page.goto(`${server.url}/admin`);
    await admin.page.getByRole("button", { name: "Add a group" }).click();
    await admin.page.getByLabel("Name of the group").fill("Night");
    await admin.page.locator("dialog").getByRole("button", { name: "Add a group" }).click();
    await admin.page.locator("#groups").getByText("Night").waitFor();
    await admin.page.getByRole("button", { name: "Add a user" }).click();
    await admin.page.getByLabel("User name").fill("emil");
    await admin.page.getByLabel("Night").check();
    await admin.page.locator("dialog").getByRole("button", { name: "Add a user" }).click();
    const password = await admin.page.locator("#shown-once").innerText();
    await admin.page.keyboard.press("Escape");
    await admin.page.locator('tr[data-user="emil"]').getByText("Night", { exact: true }).waitFor();

    const emil = await openPage(chromium);
    await emil.page.goto(`${server.url}/login`);
    await emil.page.getByLabel("User name").fill("emil");
    await emil.page.getByLabel("Password").fill(password);
    await emil.page.keyboard.press("Enter");
    await emil.page.locator("[name=new]").fill(NEW_PASSWORD);
    await emil.page.locator("[name=again]").fill(NEW_PASSWORD);
    await emil.page.keyboard.press("Enter");
    await tileState(emil.page, "demo", "live");
    assert.equal(await emil.page.getByRole("link", { name: "Administration" }).count(), 0);
    const row = admin.page.locator('tr[data-user="emil"]');
    await row.getByRole("button", { name: "Disable" }).click();
    await row.getByRole("button", { name: "Enable" }).waitFor();
    await emil.page.waitForURL("**/login*");
    // The last admin cannot be removed by accident.
    await admin.page.locator('tr[data-user="admin"]').getByRole("button", { name: "Disable" }).click();
    await admin.page.getByRole("alert").getByText("last administrator").waitFor();
    admin.check(refused);
    emil.check(refused);
    await admin.close();
    await emil.close();
  });

  test("permissions are changed and the log is filtered and downloaded", async () => {
    const { page, close, check } = await openPage(chromium, server, { locale: "zh-CN" });
    await page.goto(`${server.url}/admin#permissions`);
    const box = page.getByLabel("访客可以呼叫成员");
    assert.equal(await box.isChecked(), false);
    await box.check();
    await page.getByRole("button", { name: "保存" }).click();
    await page.getByText("已保存。").waitFor();
    await page.reload();
    await page.getByLabel("访客可以呼叫成员").waitFor();
    assert.equal(await page.getByLabel("访客可以呼叫成员").isChecked(), true);
    await page.goto(`${server.url}/admin#log`);
    await page.locator("#log").getByText("修改权限").first().waitFor();
    await page.getByLabel("操作").selectOption("watch");
    await until("only watching is left", async () => {
      const actions = await page.locator("#log tbody tr td:nth-child(3)").allInnerTexts();
      return actions.length > 0 && actions.every((text) => text === "观看");
    });
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "下载 (CSV)" }).click()]);
    let text = "";
    for await (const chunk of await download.createReadStream()) text += chunk;
    assert.match(text, /^at,until,actor,address,action,target,detail\r?\n.*,watch,demo/);
    check();
    await close();
  });

  test("a phone gets the same pages without scrolling sideways", async () => {
    const { page, close, check } = await openPage(chromium, server, { viewport: { width: 375, height: 700 }, hasTouch: true });
    for (const path of ["/", "/account", "/people", "/admin#users", "/admin#cameras", "/admin#log", "/trust"]) {
      await page.goto(server.url + path);
      await page.locator("main").waitFor();
      await page.waitForLoadState("networkidle").catch(() => {});
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wider <= 0, `${path} is ${wider} pixels too wide`);
    }
    // The last page checks whether the certificate is trusted.
    check(/ERR_CERT_AUTHORITY_INVALID/);
    await close();
  });
});

test("a camera is added on the page, tested, watched, shared, and removed", async () => {
  const source = await camera(await freePort(), "--login", "viewer:secret-pw");
  const server = await gatehouse();
  server.addUser("gus", "guest");
  const { page, close, check } = await openPage(chromium, server);
  await page.goto(`${server.url}/admin#cameras`);
  await page.getByText("simulated").waitFor();
  await page.getByRole("button", { name: "Add a camera" }).click();
  await page.getByLabel("Short name").fill("door");
  await page.locator("dialog [name=name]").fill("Front door");
  await page.locator("[name=url]").fill(source.url);
  await page.getByLabel("User name of the camera").fill("viewer");
  await page.getByLabel("Password of the camera").fill("wrong");
  await page.getByRole("button", { name: "Test" }).click();
  await page.locator("#findings").getByText("refuses the user name or password").waitFor();
  await page.getByLabel("Password of the camera").fill("secret-pw");
  await page.getByRole("button", { name: "Test" }).click();
  await page.locator("#findings").getByText("A browser can show this camera.").waitFor();
  await page.locator("dialog").getByRole("button", { name: "Add a camera" }).click();
  const row = page.locator('tr[data-camera="door"]');
  await row.getByText("Front door").waitFor();
  assert.equal(await page.getByText("simulated").count(), 0);
  await row.getByRole("button", { name: "Edit" }).click();
  assert.equal(await page.getByLabel("Password of the camera").inputValue(), "", "it is never shown again");
  await page.locator("dialog [name=name]").fill("Back door");
  await page.getByRole("button", { name: "Save" }).click();
  await row.getByText("Back door").waitFor();

  const guest = await openPage(chromium, server, { user: "gus" });
  await guest.page.goto(server.url);
  await guest.page.getByRole("heading", { name: "No camera for you yet" }).waitFor();
  await row.getByRole("button", { name: "Who may watch" }).click();
  await page.getByLabel("The default").uncheck();
  await page.getByLabel("Add…").selectOption("user:gus");
  await page.getByRole("button", { name: "Save" }).click();
  await tileState(guest.page, "door", "live");
  await moreFrames(guest.page, "door", 10);
  await row.getByRole("button", { name: "Remove" }).click();
  await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
  await page.getByText("simulated").waitFor();
  await guest.page.getByRole("heading", { name: "No camera for you yet" }).waitFor();
  check();
  guest.check(refused);
  await guest.close();
  await close();
  await server.stop();
  await source.stop();
});

test("a shared camera plays in a frame of another site, if that is allowed", async () => {
  const site = createServer((request, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><link rel="icon" href="data:,"><iframe width="640" height="360" src="${decodeURIComponent(request.url.slice(1))}"></iframe>`);
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${site.address().port}`;
  for (const allowed of [true, false]) {
    const server = await gatehouse(allowed ? `[server]\nembed_from = ["${origin}"]\n` : "");
    const ticket = await server.api("POST", "/api/tickets", { camera: "demo", seconds: 600 });
    const { page, close, check } = await openPage(chromium);
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    await page.goto(`${origin}/${encodeURIComponent(server.url + ticket.path)}`);
    if (allowed) {
      const tile = page.frameLocator("iframe").locator('gh-camera-tile[data-state="live"]');
      await tile.waitFor();
      await until("frames in the frame", () => tile.evaluate((tile) => tile.video.getVideoPlaybackQuality().totalVideoFrames > 20));
      check();
    } else {
      await until("the browser refuses it", () => said.some((text) => text.includes("frame-ancestors")));
      assert.equal(await page.frameLocator("iframe").locator("gh-camera-tile").count(), 0);
    }
    await close();
    // Without a ticket nothing is shown.
    const plain = await openPage(chromium);
    await plain.page.goto(`${server.url}/embed/camera/demo`);
    await plain.page.getByText("This picture is not shared").waitFor();
    plain.check(refused);
    await plain.close();
    await server.stop();
  }
  await new Promise((resolve) => site.close(resolve));
});

test("a public camera is watched without a login, and nothing else is", async () => {
  const source = await camera(await freePort());
  const one = (id, more) => `[[camera]]\nid = "${id}"\nurl = "${source.url}"\n${more}\n`;
  const server = await gatehouse(one("street", "public = true") + one("office", ""));
  const { page, close, check } = await openPage(chromium);
  await page.goto(server.url);
  await tileState(page, "street", "live");
  await moreFrames(page, "street", 10);
  assert.equal(await page.locator("gh-camera-tile").count(), 1);
  await page.getByRole("link", { name: "Log in" }).click();
  await page.getByLabel("User name").waitFor();
  check();
  await close();
  await server.stop();
  await source.stop();
});

test("names are shown as text, whatever they contain", async () => {
  const evil = `<img src=x onerror="window.pwned=1">`;
  const server = await gatehouse();
  server.user(["add", "eve", "--role", "admin", "--display", evil], `${PASSWORD}\n`);
  await server.api("PUT", `/api/admin/groups/${encodeURIComponent(evil.replace("/", ""))}`, { members: ["eve"] });
  await server.api("POST", "/api/admin/cameras", { id: "evil", name: evil, url: "rtsp://127.0.0.1:1/<img>" });
  await server.api("PUT", "/api/admin/cameras/evil/allow", { allow: [`group:${evil}`] });
  const { page, close, check } = await openPage(chromium, server, { user: "eve" });
  await page.route("**/api/login", (route) => route.abort());
  for (const path of ["/", "/account", "/people", "/admin#users", "/admin#cameras", "/admin#log"]) {
    await page.goto(server.url + path);
    await page.getByText("<img src=x").first().waitFor();
    assert.equal(await page.evaluate(() => window.pwned), undefined, path);
  }
  assert.equal(await page.locator('img[src="x"]').count(), 0);
  check(refused);
  await close();
  await server.stop();
});

test("a page that fails to load completely is reloaded, and says so if that does not help", async () => {
  const server = await gatehouse();
  try {
    const { page, close } = await openPage(chromium, server);
    let missing = 2;
    await page.route("**/js/icons.js", (route) => (missing-- > 0 ? route.abort("internetdisconnected") : route.continue()));
    await page.goto(`${server.url}/`);
    await page.locator("gh-camera-tile").first().waitFor();
    assert.ok(missing < 0, "it was missing, and then loaded");
    await page.unroute("**/js/icons.js");
    let broken = 1;
    await page.route("**/api/me", (route) => (broken-- > 0 ? route.abort("internetdisconnected") : route.continue()));
    await page.goto(`${server.url}/people`);
    await page.locator('.desk-cards').waitFor({ state: "attached" });
    await page.waitForFunction(() => globalThis.desk?.connected);
    assert.ok(broken < 0, "it was requested again");
    await page.unroute("**/api/me");
    await page.route("**/i18n/*.json", (route) => route.abort("internetdisconnected"));
    await page.goto(`${server.url}/people`);
    await page.getByRole("alert").getByText("could not be loaded").waitFor();
    await page.unroute("**/i18n/*.json");
    await page.getByRole("button", { name: "Try now" }).click();
    await page.getByRole("heading", { name: "People" }).waitFor();
    await close();
  } finally {
    await server.stop();
  }
});

test("every page is complete in both languages", async () => {
  const server = await gatehouse();
  await server.api("POST", "/api/admin/cameras", { id: "door", name: "Door", url: "rtsp://127.0.0.1:1/x" });
  const ticket = await server.api("POST", "/api/tickets", { camera: "door" });
  const pages = ["/", "/account", "/people", "/people#history", "/trust", "/admin#users", "/admin#cameras", "/admin#permissions", "/admin#log", ticket.path];
  for (const [locale, lang] of [["en-US", "en"], ["zh-CN", "zh-CN"]]) {
    const { page, close, check } = await openPage(chromium, server, { locale });
    const out = await openPage(chromium, null, { locale });
    for (const [where, path] of [[out.page, "/login"], ...pages.map((path) => [page, path])]) {
      await where.goto(server.url + path);
      await where.locator("html[lang]").waitFor();
      const text = await until(`${path} is loaded`, async () => {
        const text = await where.locator("body").innerText();
        return text.length > 15 || path.startsWith("/embed") ? text || " " : "";
      });
      assert.equal(await where.evaluate(() => document.documentElement.lang), lang, path);
      assert.doesNotMatch(text, /\b[a-z]+\.[a-z_]+(\.[a-z_]+)*\b(?<!crt|mobileconfig|local)/, `${path} shows a key: ${text}`);
      // The bar of every page contains the other language's name.
      const chinese = /[\u4e00-\u9fff]/.test(text.replaceAll("中文", ""));
      if (!path.startsWith("/embed")) assert.equal(chinese, lang === "zh-CN", `${path} in ${lang}: ${text}`);
    }
    // A page that is left while its socket is being opened says so.
    check(refused);
    out.check(refused);
    await close();
    await out.close();
  }
  await server.stop();
});
