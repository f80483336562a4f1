// The World of lib/mesh.js under Node, and a real gateway to speak to.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";

/** Bound of every wait: the machine may be busy. */
export const BOUND_MS = 30_000;

/** @type {import("../lib/mesh.js").World} */
export const world = {
  connect(url, headers, events) {
    const socket = new WebSocket(url, { headers });
    let ended = false;
    const end = () => {
      if (!ended) events.ended();
      ended = true;
    };
    socket.on("open", events.opened);
    socket.on("message", (data) => events.message(data.toString()));
    socket.on("close", end);
    socket.on("error", end);
    return { isOpen: () => socket.readyState === WebSocket.OPEN, send: (text) => socket.send(text), close: (code) => socket.close(code) };
  },
  async call(base, { method, path, headers, body }) {
    const answer = await fetch(base + path, { method, headers, body });
    return { status: answer.status, json: await answer.json().catch(() => null) };
  },
  later: (run, ms) => setTimeout(run, ms),
  cancel: (timer) => clearTimeout(timer),
  now: () => Date.now(),
  random: () => Math.random(),
};

/** `heliograph dev` with a data directory of its own. */
export class Gateway {
  static async start(settings = {}) {
    const binary = process.env.HELIOGRAPH_BIN;
    assert.ok(binary && existsSync(binary), `set HELIOGRAPH_BIN to the built binary (cargo build -p heliograph), not to ${binary}`);
    const gateway = new Gateway();
    gateway.data = await mkdtemp(join(tmpdir(), "heliograph-load-"));
    // Nothing of the caller's own configuration may reach it.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(HELIOGRAPH_|OTEL_|SIGNALING_|API_KEY|TURN_)/.test(name)));
    gateway.child = spawn(binary, ["dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data-dir", gateway.data], {
      env: { ...env, NO_COLOR: "1", HELIOGRAPH_LOG: "warn", ...settings },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    await new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`it says no address within ${BOUND_MS} ms:\n${text}`)), BOUND_MS);
      gateway.child.once("exit", (code) => fail(new Error(`it ended with ${code}:\n${text}`)));
      gateway.child.stdout.on("data", (chunk) => {
        text += chunk;
        const url = /http:\/\/[^\s"']+/.exec(text);
        const key = /\bak_[A-Za-z0-9_-]+/.exec(text);
        if (!url || !key) return;
        clearTimeout(timer);
        gateway.service = { bases: [new URL(url[0]).origin], admin: key[0] };
        done();
      });
    });
    await until("it is ready", async () => (await fetch(`${gateway.service.bases[0]}/api/config`).catch(() => null))?.ok);
    return gateway;
  }

  async stop() {
    this.child.removeAllListeners("exit");
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGKILL");
    await ended;
    await rm(this.data, { recursive: true, force: true });
  }
}

/** Waits for `check` to be truthy, within a bound. */
export async function until(what, check) {
  const end = Date.now() + BOUND_MS;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < end, `not within ${BOUND_MS} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
