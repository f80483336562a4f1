// Clients in processes of their own, and a line between them and their gateway that can be cut.

import { spawn } from "node:child_process";
import { createServer, connect } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "../cluster.mjs";

const PROGRAM = fileURLToPath(new URL("peer.mjs", import.meta.url));

export class Peer {
  #child;
  #ended;
  #orders = 0;
  events = [];

  /** A client at the gateway with this address; the original chooses its id unless it is given one. */
  static async start(url, id) {
    const peer = new Peer();
    peer.#child = spawn(process.execPath, [PROGRAM, url, ...(id === undefined ? [] : [id])], { stdio: ["pipe", "pipe", "inherit"] });
    peer.#ended = new Promise((resolve) => peer.#child.once("exit", resolve));
    createInterface({ input: peer.#child.stdout }).on("line", (line) => peer.events.push(JSON.parse(line)));
    peer.id = (await peer.sees("id")).args[0];
    await peer.sees("connected");
    return peer;
  }

  #order(order) {
    this.#orders += 1;
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
  }

  announce(data) {
    this.#order({ do: "announce", data });
  }

  send(...args) {
    this.#order({ do: "send", args });
  }

  to(target, ...args) {
    this.#order({ do: "to", target, args });
  }

  leave() {
    this.#order({ do: "leave" });
  }

  /** Into a room, and the count that the service answered with. */
  async enters(room, more = {}) {
    const before = this.all("message.roominfo").length;
    this.announce({ room, ...more });
    await until(() => this.all("message.roominfo").length > before, () => `${this.id} is told who many are in ${room}`);
    return this.all("message.roominfo").at(-1).args[0].memberCount;
  }

  /** All events of that name that `fits`. */
  all(name, fits = () => true) {
    return this.events.filter((event) => event.name === name && fits(...event.args));
  }

  /** Waits for one. */
  async sees(name, fits = () => true) {
    return until(
      () => this.all(name, fits)[0],
      () => `${this.id} sees ${name}; it saw\n${this.events.map((event) => JSON.stringify(event)).join("\n")}`,
    );
  }

  /** As a power cut would. */
  async kill() {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

/** A line to `url` with an address of its own. */
export async function line(url) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      open.add(socket);
      socket.pipe(other);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => open.forEach((socket) => socket.resetAndDestroy()),
    close: () => {
      open.forEach((socket) => socket.destroy());
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
