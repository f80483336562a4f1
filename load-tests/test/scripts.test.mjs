// Every script, short, against a real gateway; with k6 where there is one, else with the runner beside this file.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Gateway } from "./node.mjs";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..");
const run = promisify(execFile);
/** How each script is made short: about three seconds. */
const SHORT = {
  "smoke.js": { SECONDS: "1" },
  "relay.js": { PAIRS: "2", SECONDS: "2", RATE: "50" },
  "ramp.js": { PEERS: "2", RATE: "2", HOLD: "1", MESH: "2" },
  "revoke.js": { AT_ONCE: "1", REVOCATIONS: "1" },
  "reconnect.js": { PAIRS: "1", STORMS: "1", CALM: "3" },
  "rolling.js": { PAIRS: "1", SECONDS: "3", EMPTY: "1", ROLL: "none" },
  "soak.js": { PAIRS: "1", HOURS: "0.001", LIFE_SECONDS: "6" },
};

let gateway;
before(async () => {
  gateway = await Gateway.start({ HELIOGRAPH_MAX_UPGRADES_PER_SECOND: "0" });
});
after(() => gateway?.stop());

function k6() {
  try {
    return execFileSync("sh", ["-c", "command -v k6"], { encoding: "utf8" }).trim();
  } catch {
    return null;
  }
}

const program = process.env.K6 || k6();
console.log(program ? `k6: ${program}` : "k6 is NOT here: the scripts are run by test/runner.mjs, and k6 itself is not tried. Install it or set K6.");

test("there is a short form of every script", () => {
  const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));
  assert.deepEqual(scripts.sort(), Object.keys(SHORT).sort());
});

for (const [script, settings] of Object.entries(SHORT)) {
  test(`${script} runs and keeps its promises`, { timeout: 120_000 }, async () => {
    const { bases, admin } = gateway.service;
    const environment = { ...settings, HELIOGRAPH_SERVERS: bases.join(","), HELIOGRAPH_KEY: admin };
    const path = join(folder, script);
    if (program) {
      const given = Object.entries(environment).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
      // Latency thresholds are for machines that do nothing else; the counts are judged below all the same.
      await run(program, ["run", "--no-usage-report", "--quiet", ...given, path]);
      return;
    }
    const { stdout } = await run(process.execPath, [join(folder, "test/runner.mjs"), path], { env: { ...process.env, ...environment } });
    judge(JSON.parse(stdout.trim().split("\n").at(-1)));
  });
}

/** The thresholds about counts and shares, as k6 judges them. */
function judge({ thresholds, metrics }) {
  let judged = 0;
  for (const [name, rules] of Object.entries(thresholds)) {
    const values = metrics[name];
    assert.ok(values, `a threshold for ${name}, which no script has`);
    for (const rule of rules) {
      const [, kind, sign, bound] = /^(\S+?)(==|>=|>|<=|<)(\S+)$/.exec(rule) ?? assert.fail(`no rule: ${rule}`);
      const sum = values.reduce((all, value) => all + value, 0);
      const value = { count: sum, rate: sum / values.length }[kind];
      // Times are not judged here: the machine may be busy.
      if (value === undefined || values.length === 0) continue;
      const holds = { "==": value === Number(bound), ">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound }[sign];
      assert.ok(holds, `${name} is ${value}, and not ${rule}`);
      judged += 1;
    }
  }
  assert.ok(judged > 0, "nothing was judged");
}

test("the manifests for Kubernetes name scripts, settings and modules that exist", () => {
  const manifests = readdirSync(join(folder, "k8s"));
  assert.ok(manifests.length > 0);
  const modules = readdirSync(join(folder, "lib"));
  for (const name of manifests) {
    const text = readFileSync(join(folder, "k8s", name), "utf8");
    const script = /localFile: \/scripts\/(\S+)/.exec(text)?.[1];
    const source = readFileSync(join(folder, script), "utf8");
    const mounted = [...text.matchAll(/key: (\S+), path: lib\/(\S+) /g)].map(([, key, path]) => (assert.equal(key, path), key));
    assert.deepEqual(mounted.sort(), modules.sort(), name);
    assert.ok(text.includes(`key: ${script}, path: ${script}`), name);
    for (const [, setting] of text.matchAll(/-e (\w+)=/g)) assert.ok(source.includes(`"${setting}"`), `${name}: ${script} has no ${setting}`);
  }
});
