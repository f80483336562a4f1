// A cluster of the tests' own: Postgres, Redis, gateways, a load balancer, all real processes on free ports.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";

/** Bound of every wait. Generous: the machine may be busy building; nothing waits longer than it has to. */
export const BOUND_MS = 60_000;

function required(name, how) {
  const path = process.env[name];
  assert.ok(path, `Set ${name} to the built program: ${how}`);
  assert.ok(existsSync(path), `${name} names ${path}, which does not exist: ${how}`);
  return path;
}

export class Cluster {
  #child;
  #ended;

  /** Starts it; `cluster.gateways` have a `url`, an `ops` address and a `pid` each. */
  static async start(gateways) {
    const program = required("HELIOGRAPH_CLUSTER_BIN", "cargo build -p heliograph-sandbox");
    const heliograph = required("HELIOGRAPH_BIN", "cargo build -p heliograph");
    const cluster = new Cluster();
    const child = spawn(program, ["--json", "--port", "0", "--gateways", String(gateways), "--heliograph", heliograph], { stdio: ["ignore", "pipe", "pipe"] });
    cluster.#child = child;
    let complaints = "";
    child.stderr.on("data", (chunk) => {
      complaints = (complaints + chunk).slice(-8_000);
    });
    cluster.#ended = new Promise((resolve) => child.once("exit", resolve));
    const line = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`The cluster was not up within ${BOUND_MS} ms.\n${complaints}`)), BOUND_MS);
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`The cluster ended (${code ?? signal}) before it was up.\n${complaints}`)));
      createInterface({ input: child.stdout }).once("line", (text) => {
        clearTimeout(timer);
        resolve(text);
      });
    }).catch(async (error) => {
      await cluster.stop();
      throw error;
    });
    return Object.assign(cluster, JSON.parse(line));
  }

  /** The sum of a metric over all gateways and labels that `labels` are among. */
  async metric(name, labels = "") {
    let sum = 0;
    for (const gateway of this.gateways) {
      const text = await (await fetch(`${gateway.ops}/metrics`)).text();
      for (const line of text.split("\n")) {
        if (line.startsWith(`${name}{`) || line.startsWith(`${name} `)) {
          if (line.includes(labels)) sum += Number(line.slice(line.lastIndexOf(" ")));
        }
      }
    }
    return sum;
  }

  async stop() {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }
}

/** Waits for `check` to be truthy, with a bound. Returns what it returned. */
export async function until(check, what) {
  const end = Date.now() + BOUND_MS;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`Not within ${BOUND_MS} ms: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
