// Runs a script of this folder, with k6 where there is one and else with runner.mjs, and says which of its promises were broken.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const folder = join(dirname(fileURLToPath(import.meta.url)), "..");

/** What k6 exits with when a threshold was crossed. */
const CROSSED = 99;
/** Keys, device tokens and JSON web tokens. */
const SECRETS = /\b(ak|dt)_\w{16}|\beyJ\w{8}/;

export const k6 = process.env.HELIOGRAPH_K6 || inSearchPath();

function inSearchPath() {
  try {
    return execFileSync("sh", ["-c", "command -v k6"], { encoding: "utf8" }).trim();
  } catch {
    return null;
  }
}

/** To be said once: a run without k6 shows less. */
export function whichProgram() {
  if (!k6) return "k6 is NOT here: test/runner.mjs runs the scripts on Node instead, one VU each, and k6 itself is not tried. Install it or set HELIOGRAPH_K6.";
  return `Scripts are run by ${k6}: ${execFileSync(k6, ["version"], { encoding: "utf8" }).trim()}`;
}

/**
 * Runs a script to its end.
 * @returns Its exit code, all it printed, and the metrics of which a threshold was crossed. Those of times are left out: the machine may be
 *   busy, and the programs under test are not optimised.
 */
export async function runScript(script, settings) {
  const { code, output, crossed } = await (k6 ? withK6 : withNode)(join(folder, script), { ...process.env, ...settings });
  assert.doesNotMatch(output, SECRETS, "no secret is printed");
  return { code, output, crossed: crossed.filter((name) => !name.endsWith("_ms")) };
}

async function withK6(path, env) {
  const results = await mkdtemp(join(tmpdir(), "heliograph-k6-"));
  try {
    const points = join(results, "points.json");
    const { code, output } = await ended(k6, ["run", "--no-usage-report", "--no-color", "--quiet", "--out", `json=${points}`, path], env);
    assert.doesNotMatch(await readFile(points, "utf8").catch(() => ""), SECRETS, "no secret is in a tag");
    const names = /thresholds on metrics '([^']*)' have been crossed/.exec(output)?.[1];
    assert.equal(code === CROSSED, names !== undefined, output);
    return { code, output, crossed: names?.split(", ") ?? [] };
  } finally {
    await rm(results, { recursive: true, force: true });
  }
}

async function withNode(path, env) {
  const { code, output, stdout } = await ended(process.execPath, [join(folder, "test/runner.mjs"), path], env);
  return { code, output, crossed: code === 0 ? judge(JSON.parse(stdout.trim().split("\n").at(-1))) : [] };
}

function ended(program, parameters, env) {
  return new Promise((done, fail) => {
    execFile(program, parameters, { env, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== "number") return fail(error);
      done({ code: error?.code ?? 0, stdout, output: stdout + stderr });
    });
  });
}

/** The metrics of which a threshold was crossed, as k6 judges counts and shares. */
function judge({ thresholds, metrics }) {
  return Object.keys(thresholds).filter((name) => {
    assert.ok(metrics[name], `a threshold for ${name}, which no script has`);
    return !thresholds[name].every((rule) => holds(rule, metrics[name]));
  });
}

function holds(rule, values) {
  const [, kind, sign, text] = /^(\S+?)(==|>=|>|<=|<)(\S+)$/.exec(rule) ?? assert.fail(`no rule: ${rule}`);
  const bound = Number(text);
  const sum = values.reduce((all, value) => all + value, 0);
  const value = { count: sum, rate: sum / values.length }[kind];
  // Times are not judged here, and k6 finds no fault with the share of nothing.
  if (value === undefined || Number.isNaN(value)) return true;
  return { "==": value === bound, ">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound }[sign];
}
