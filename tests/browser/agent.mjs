// An agent as a process, and a local program that speaks to it over its bridge.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import assert from "node:assert/strict";
import { BOUND_MS, binary, cleanEnvironment, until } from "./support.mjs";

/** `heliograph agent run` for a device that is enrolled already. */
export class Agent {
  #child = null;
  #log = "";
  #programs = [];

  static async start(server, device) {
    const agent = new Agent();
    agent.id = device.peer_id;
    agent.server = server;
    agent.token = device.device_token;
    agent.folder = await mkdtemp(join(tmpdir(), "heliograph-agent-"));
    agent.socket = join(agent.folder, "agent.sock");
    agent.startAgain();
    return agent;
  }

  /** What it has logged; for the message of a test that fails. */
  get log() {
    return this.#log;
  }

  startAgain() {
    const child = spawn(binary(), ["agent", "run", "--server", this.server.url, "--socket", this.socket], {
      cwd: this.folder,
      env: { ...cleanEnvironment(), HELIOGRAPH_KEY: this.token, HELIOGRAPH_LOG: process.env.HELIOGRAPH_TEST_LOG ?? "info" },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr.on("data", (chunk) => {
      this.#log = (this.#log + chunk).slice(-20_000);
    });
    child.once("error", (error) => {
      this.#log += `\n${error}`;
    });
    this.#child = child;
  }

  /** A program that attaches once the bridge is there. */
  async attach() {
    const socket = await until(() => {
      const { exitCode, signalCode } = this.#child;
      assert.ok(exitCode === null && signalCode === null, `The agent ended (${exitCode ?? signalCode}):\n${this.#log}`);
      return open(this.socket);
    }, "the agent's bridge is there");
    const program = new Program(this, socket);
    this.#programs.push(program);
    return program;
  }

  /** Ends it the hard way, as a power cut would; what was attached is gone. */
  async kill() {
    for (const program of this.#programs.splice(0)) program.close();
    const child = this.#child;
    if (child === null || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise((resolve) => {
      child.once("exit", resolve);
      child.kill("SIGKILL");
    });
  }

  async stop() {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

function open(path) {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => resolve(socket));
    socket.once("error", () => resolve(null));
  });
}

/** A local program. It keeps what the bridge says until a test asks for it. */
class Program {
  #agent;
  #socket;
  #seen = [];
  #wake = () => {};

  constructor(agent, socket) {
    this.#agent = agent;
    this.#socket = socket;
    // A killed agent ends the socket in any way it likes; what a test misses by that, it misses by name.
    socket.on("error", () => {});
    createInterface({ input: socket }).on("line", (line) => {
      this.#seen.push(JSON.parse(line));
      this.#wake();
    });
  }

  say(command) {
    this.#socket.write(`${JSON.stringify(command)}\n`);
  }

  send(peer, message) {
    this.say({ type: "send", payload: { target_peer: peer, message } });
  }

  connect(peer) {
    this.say({ type: "connect", payload: { target_peer_id: peer } });
  }

  /** The payload of the next notice of this type for which `check` holds; what comes before it is passed over. */
  async expect(type, check = () => true) {
    const end = Date.now() + BOUND_MS;
    const passed = [];
    for (;;) {
      const notice = this.#seen.shift();
      if (notice !== undefined) {
        if (notice.type === type && check(notice.payload)) return notice.payload;
        passed.push(JSON.stringify(notice).slice(0, 200));
        continue;
      }
      const left = end - Date.now();
      const what = `${type} at the bridge of ${this.#agent.id}`;
      assert.ok(left > 0, `Not within ${BOUND_MS} ms: ${what}. What came:\n${passed.slice(-20).join("\n")}\nIts log:\n${this.#agent.log.slice(-4_000)}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  connected(peer) {
    return this.expect("peer_connected", ({ peer_id }) => peer_id === peer);
  }

  disconnected(peer) {
    return this.expect("peer_disconnected", ({ peer_id }) => peer_id === peer);
  }

  /** The next message of this peer. */
  async heard(peer) {
    return (await this.expect("message", ({ from_peer }) => from_peer === peer)).message;
  }

  /** Waits until the agent is registered with the service. */
  online() {
    return until(async () => (await this.status()).state === "online", "the agent is online");
  }

  async status() {
    this.say({ type: "status", id: "asked" });
    return this.expect("status");
  }

  /** What `status` says of a peer. */
  async peer(id) {
    return (await this.status()).peers.find(({ peer_id }) => peer_id === id);
  }

  close() {
    this.#socket.destroy();
  }
}
