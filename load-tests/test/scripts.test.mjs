// Every script, short, against a real cluster; with k6 where there is one, else with the runner beside this file.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Cluster } from "../../tests/cluster.mjs";
import { LIES, Liar } from "./liar.mjs";
import { folder, runScript, whichProgram } from "./program.mjs";

/** How each script is made short: a few seconds, except that a node sends its clients away over more than half of its drain window (20 s). */
const SHORT = {
  "smoke.js": { SECONDS: "1" },
  "relay.js": { PAIRS: "2", SECONDS: "2", RATE: "50" },
  "ramp.js": { PEERS: "2", RATE: "2", HOLD: "1", MESH: "2" },
  "revoke.js": { AT_ONCE: "1", REVOCATIONS: "1" },
  "reconnect.js": { PAIRS: "1", STORMS: "1", CALM: "3" },
  "rolling.js": { PAIRS: "2", SECONDS: "49", EMPTY: "15", PAUSE: "1" },
  "soak.js": { PAIRS: "1", HOURS: "0.001", LIFE_SECONDS: "6" },
};

let cluster;
before(async () => {
  console.log(whichProgram());
  cluster = await Cluster.start(3);
});
after(() => cluster?.stop());

/** A run of one script, in its short form, with other settings on top. */
function run(script, settings = {}) {
  const servers = cluster.gateways.map(({ url }) => url).join(",");
  return runScript(script, { HELIOGRAPH_SERVERS: servers, HELIOGRAPH_KEY: cluster.admin_key, ...SHORT[script], ...settings });
}

test("there is a short form of every script", () => {
  const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));
  assert.deepEqual(scripts.sort(), Object.keys(SHORT).sort());
});

for (const script of Object.keys(SHORT)) {
  test(`${script} runs and keeps its promises`, { timeout: 120_000 }, async () => {
    const { crossed, output } = await run(script);
    assert.deepEqual(crossed, [], output);
  });
}

test("a revocation that is answered as enforced and is not is found out", { timeout: 120_000 }, async () => {
  const { crossed, output } = await throughLiar(LIES.claimed);
  assert.deepEqual(crossed, ["mesh_after_revoke"], output);
});

test("a revocation that is not yet enforced when it is answered is found out", { timeout: 120_000 }, async () => {
  const { crossed, output } = await throughLiar(LIES.unwaited);
  assert.deepEqual(crossed.sort(), ["mesh_before_revoke", "mesh_failed", "mesh_revocations"], output);
});

async function throughLiar(lie) {
  const liar = await Liar.start(cluster.gateways[0].url, lie);
  try {
    return await run("revoke.js", { HELIOGRAPH_SERVERS: liar.base });
  } finally {
    liar.stop();
  }
}

test("a rolling restart in which nobody had to move has shown nothing", { timeout: 120_000 }, async () => {
  const { crossed, output } = await run("rolling.js", { ROLL: "none", SECONDS: "1" });
  assert.deepEqual(crossed, ["mesh_moved"], output);
});

/** Settings with which a script says at once what is wrong, in one line, and exits with an error. */
const MISTAKES = {
  "no key": [{ HELIOGRAPH_KEY: "" }, "set HELIOGRAPH_KEY"],
  "another's key": [{ HELIOGRAPH_KEY: "wrong" }, "does not know HELIOGRAPH_KEY"],
  "an address without a scheme": [{ HELIOGRAPH_SERVERS: "gw-1:8080" }, "gw-1:8080 is no address"],
  "a node that is not there": [{ HELIOGRAPH_SERVERS: "http://127.0.0.1:1" }, "nobody answers at http://127.0.0.1:1"],
  "a number that is none": [{ SECONDS: "soon" }, "SECONDS must be a number above 0, not soon"],
};

for (const [mistake, [settings, expected]] of Object.entries(MISTAKES)) {
  test(`${mistake}: the script says so`, { timeout: 120_000 }, async () => {
    const { code, output } = await run("smoke.js", settings);
    assert.notEqual(code, 0);
    assert.ok(output.includes(expected), output);
  });
}

test("the manifests for Kubernetes name scripts, settings and modules that exist", () => {
  const manifests = readdirSync(join(folder, "k8s"));
  assert.ok(manifests.length > 0);
  const modules = readdirSync(join(folder, "lib"));
  const [, port] = /^admin:\n {2}separate: true\n {2}port: (\d+)$/m.exec(readFileSync(join(folder, "../helm/heliograph/values.yaml"), "utf8"));
  for (const name of manifests) {
    const text = readFileSync(join(folder, "k8s", name), "utf8");
    const script = /localFile: \/scripts\/(\S+)/.exec(text)?.[1];
    const source = readFileSync(join(folder, script), "utf8");
    const mounted = [...text.matchAll(/key: (\S+), path: lib\/(\S+) /g)].map(([, key, path]) => (assert.equal(key, path), key));
    assert.deepEqual(mounted.sort(), modules.sort(), name);
    assert.ok(text.includes(`key: ${script}, path: ${script}`), name);
    assert.ok(text.includes(`value: http://heliograph-admin:${port}\n`), `${name}: administration is on port ${port} of the chart`);
    for (const [, setting] of text.matchAll(/-e (\w+)=/g)) assert.ok(source.includes(`"${setting}"`), `${name}: ${script} has no ${setting}`);
  }
});
