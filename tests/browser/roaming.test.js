// A change of network in mid-call, in network namespaces that this test creates: the server is also the router, anna is
// on a cable, and bert switches from a first network to a second. Requires root and network namespaces.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromiumIn, connect, inNamespace, network, plug, run } from "./networks.js";
import { accept, call, fakeBrowser, incoming, person, seeAndHear, talking } from "./people.js";
import { gatehouse, until } from "./support.js";

const NET = "10.77";
const SERVER = `${NET}.0.1`;
const PORT = 8080;

/** Removes address and route, as when a device leaves the range of the Wi-Fi. */
function unplug(network, name) {
  network.inside(`ip addr flush dev ${name}`);
  network.inside(`ip link set ${name} down`);
}

/** The local address on which a page receives its call. */
const address = (page) =>
  page.evaluate(async () => {
    const report = await globalThis.desk.calls.current.receiving?.getStats();
    const transport = [...(report?.values() ?? [])].find((entry) => entry.type === "transport");
    const pair = report?.get(transport?.selectedCandidatePairId);
    return pair ? report.get(pair.localCandidateId).address : "";
  });

/** A browser in a network. */
const browserIn = (network, folder) =>
  fakeBrowser([`--unsafely-treat-insecure-origin-as-secure=http://${SERVER}:${PORT}`], { program: chromiumIn(network, folder) });

inNamespace(import.meta.url, () => {
  describe("a change of network in mid-call", () => {
    let [folder, cable, walker, server, first, second] = [];
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "gatehouse-roaming-"));
      run("ip link set lo up");
      run(`ip addr add ${SERVER}/32 dev lo`);
      writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
      [cable, walker] = [network(), network()];
      for (const network of [cable, walker]) network.inside("ip link set lo up");
      connect(cable, "cable", NET, 3);
      connect(walker, "wifi", NET, 1);
      connect(walker, "mobile", NET, 2);
      plug(cable, "cable", NET, 3);
    });
    after(async () => {
      await Promise.all([first?.close(), second?.close()]);
      await server?.stop();
      cable.remove();
      walker.remove();
      rmSync(folder, { recursive: true });
    });

    for (const [media, caller] of [["auto", "anna"], ["auto", "bert"], ["server", "anna"]]) {
      test(`audio and video recover on the other network: ${media}, called by ${caller}`, async (t) => {
        plug(walker, "wifi", NET, 1);
        const route = media === "server" ? "server" : "peer";
        await server?.stop();
        server = await gatehouse(`[tls]\nmode = "off"\noff_anywhere = true\n[calls]\nmedia = "${media}"\n`, { host: SERVER, port: PORT });
        for (const name of ["anna", "bert"]) server.addUser(name);
        first ??= await browserIn(cable, folder);
        second ??= await browserIn(walker, folder);
        const [anna, bert] = await Promise.all([person(first, server, "anna"), person(second, server, "bert")]);
        t.after(() => Promise.all([anna.close(), bert.close()]));
        const [a, b] = [anna.page, bert.page];
        const [from, to] = caller === "anna" ? [a, b] : [b, a];
        await call(from, caller === "anna" ? "bert" : "anna");
        await incoming(to);
        await accept(to);
        await Promise.all([talking(a, route), talking(b, route)]);
        await seeAndHear(a, b);
        const start = Date.now();
        unplug(walker, "wifi");
        plug(walker, "mobile", NET, 2);
        await until("bert's end has moved", async () => (await address(b)) === "10.77.2.2");
        await Promise.all([talking(a, route), talking(b, route)]);
        await seeAndHear(a, b);
        t.diagnostic(`seen and heard after ${Date.now() - start} ms`);
        await b.locator("[data-hangup]").click();
        await a.locator(".call").waitFor({ state: "detached" });
        unplug(walker, "mobile");
      });
    }
  });
});
