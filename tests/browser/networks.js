// Network namespaces for tests: the server runs in one that is also the router, browsers in others. Requires root.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromiumProgram } from "./support.js";

/** Runs a command line and waits for it to end. */
export function run(line) {
  const [program, ...args] = line.split(" ");
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
}

/** A network namespace, which exists as long as its process. */
export function network() {
  const child = spawn("unshare", ["--net", "sleep", "3600"], { stdio: "ignore" });
  const inside = (line) => run(`nsenter --target ${child.pid} --net ${line}`);
  return { pid: child.pid, inside, remove: () => child.kill() };
}

/** A link between the router, `{prefix}.{number}.1`, and a network, `{prefix}.{number}.2`. */
export function connect(network, name, prefix, number) {
  run(`ip link add r-${name} type veth peer name ${name}`);
  run(`ip link set ${name} netns ${network.pid}`);
  run(`ip addr add ${prefix}.${number}.1/24 dev r-${name}`);
  run(`ip link set r-${name} up`);
}

/** Brings a link up as a network's default route. */
export function plug(network, name, prefix, number) {
  network.inside(`ip addr add ${prefix}.${number}.2/24 dev ${name}`);
  network.inside(`ip link set ${name} up`);
  network.inside(`ip route add default via ${prefix}.${number}.1`);
}

/** A script that starts Chromium in a network. */
export function chromiumIn(network, folder) {
  const program = join(folder, `chromium-${network.pid}`);
  writeFileSync(program, `#!/bin/sh\nexec nsenter --target ${network.pid} --net ${chromiumProgram} "$@"\n`);
  chmodSync(program, 0o755);
  return program;
}

/** Defines the tests of a file in a namespace of their own: runs the file again in there. */
export function inNamespace(file, define) {
  if (process.env.GATEHOUSE_TEST_INSIDE === "1") return define();
  const possible = spawnSync("unshare", ["--net", "true"]).status === 0;
  test("in separate network namespaces", { skip: possible ? false : "needs root and network namespaces" }, async () => {
    const env = { ...process.env, GATEHOUSE_TEST_INSIDE: "1", NODE_TEST_CONTEXT: "" };
    const args = ["--net", process.execPath, "--test-reporter=spec", fileURLToPath(file)];
    const inner = spawn("unshare", args, { env, stdio: "inherit" });
    const status = await new Promise((resolve) => inner.on("exit", resolve));
    assert.equal(status, 0, "the inner tests pass");
  });
}
