// @ts-check
// What the scripts share: k6's sockets, timers and HTTP as a World, the settings, the metrics.

import exec from "k6/execution";
import http from "k6/http";
import { Counter, Rate, Trend } from "k6/metrics";
import { clearTimeout, setTimeout } from "k6/timers";
import { WebSocket } from "k6/websockets";

/** @typedef {import("./mesh.js").World} World */

/** @type {World} */
export const world = {
  connect(url, headers, events) {
    const socket = new WebSocket(url, null, { headers });
    let ended = false;
    const end = () => {
      if (!ended) events.ended();
      ended = true;
    };
    socket.addEventListener("open", () => events.opened());
    socket.addEventListener("message", (event) => events.message(String(/** @type {{ data: unknown }} */ (event).data)));
    socket.addEventListener("close", end);
    // A refused upgrade is an error that no close follows.
    socket.addEventListener("error", end);
    return { send: (text) => socket.send(text), close: (code) => socket.close(code) };
  },
  async call(base, { method, path, headers, body }) {
    // One name for all peers: k6 keeps a series for each name.
    const name = path.replace(/\/(pairing|gateways|peers)\/[^/?]+\//, "/$1/{id}/").replace(/\?.*/, "");
    const answer = await http.asyncRequest(method, base + path, body, { headers, tags: { name }, timeout: "60s" });
    return { status: answer.status, json: decoded(answer) };
  },
  later: (run, ms) => setTimeout(run, ms),
  cancel: (timer) => {
    if (timer !== null) clearTimeout(timer);
  },
  now: () => Date.now(),
  random: () => Math.random(),
};

/** @param {{ body: unknown }} answer */
function decoded(answer) {
  try {
    return JSON.parse(String(answer.body));
  } catch {
    return null;
  }
}

/** A setting of the environment (`k6 run -e NAME=value`). @param {string} name @param {string} [otherwise] */
export function setting(name, otherwise) {
  const value = __ENV[name] ?? otherwise;
  if (value === undefined || value === "") throw new Error(`set ${name}: k6 run -e ${name}=… (load-tests/README.md)`);
  return value;
}

/** @param {string} name @param {number} otherwise */
export function number(name, otherwise) {
  const value = Number(setting(name, String(otherwise)));
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is no number: ${__ENV[name]}`);
  return value;
}

/** Where the service is, and the key to it. */
export const service = {
  bases: setting("HELIOGRAPH_SERVERS", __ENV.HELIOGRAPH_SERVER ?? "http://127.0.0.1:8080").split(",").map((base) => base.trim().replace(/\/+$/, "")),
  admin: setting("HELIOGRAPH_KEY"),
};

/** When this VU was made: part of names, which no earlier run may have used. */
const BORN = Date.now().toString(36);

/** A name for something of this iteration. @param {string} what */
export function named(what) {
  return `load-${BORN}-${exec.vu.idInTest}-${__ITER}-${what}`;
}

export const metrics = {
  /** From the first step of joining (token, upgrade, register) to the list. */
  join: new Trend("mesh_join_ms", true),
  /** Whether a peer had its list in time. */
  joined: new Rate("mesh_joined"),
  /** From the sender to the receiver, both in this VU. */
  relay: new Trend("mesh_relay_ms", true),
  /** Pairs that came to no end. */
  failed: new Counter("mesh_failed"),
  sent: new Counter("mesh_sent"),
  arrived: new Counter("mesh_arrived"),
  /** Neither arrived nor reported. */
  lost: new Counter("mesh_lost"),
  /** Reported undeliverable. */
  refused: new Counter("mesh_refused"),
  /** Under way when a session or the sender's connection ended: the service promises nothing about them. */
  unknown: new Counter("mesh_unknown"),
  disordered: new Counter("mesh_disordered"),
  repeated: new Counter("mesh_repeated"),
  /** From a broken connection until the list is there again. */
  back: new Trend("mesh_back_ms", true),
  /** Whether a session went on where it was. */
  resumed: new Rate("mesh_resumed"),
  /** Nodes that were emptied. */
  drained: new Counter("mesh_drained"),
  /** Until the service answered that a revocation is enforced. */
  enforced: new Trend("mesh_revoke_enforced_ms", true),
  revocations: new Counter("mesh_revocations"),
  /** Messages that arrived before a revocation, and after one that was enforced. */
  beforeRevoke: new Counter("mesh_before_revoke"),
  afterRevoke: new Counter("mesh_after_revoke"),
};

/** Every counter that must stay at zero has to be there to be judged, and every message has to be accounted for. */
export const PROMISES = {
  mesh_failed: ["count==0"],
  mesh_sent: ["count>0"],
  mesh_arrived: ["count>0"],
  mesh_lost: ["count==0"],
  mesh_disordered: ["count==0"],
  mesh_repeated: ["count==0"],
};

/** Adds what a pair's books say. @param {import("./pair.js").Pair} pair */
export function account({ ledger, resumed, fresh }) {
  metrics.sent.add(ledger.sent);
  metrics.arrived.add(ledger.arrived);
  metrics.lost.add(ledger.lost());
  metrics.refused.add(ledger.allRefused());
  metrics.unknown.add(ledger.unknown);
  metrics.disordered.add(ledger.disordered);
  metrics.repeated.add(ledger.repeated);
  for (let n = 0; n < resumed; n += 1) metrics.resumed.add(true);
  for (let n = 0; n < fresh; n += 1) metrics.resumed.add(false);
}

/**
 * Runs what has a promise to its end. A failure is a failed iteration, not a stuck one: k6 ends an iteration when no socket and no
 * timer is left, so everything is stopped first.
 * @template T
 * @param {{ stop: () => void }[]} things @param {() => Promise<T>} run
 */
export async function toTheEnd(things, run) {
  try {
    const result = await run();
    metrics.failed.add(0);
    return result;
  } catch (error) {
    // Its books were not closed, so nothing may be concluded from those of the others alone.
    metrics.failed.add(1);
    throw error;
  } finally {
    things.forEach((thing) => thing.stop());
  }
}

/** Waits for a list, and notes how long it took. @param {() => Promise<unknown>} join */
export async function timedJoin(join) {
  const began = world.now();
  /** @type {any} */
  let timer = null;
  const bound = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error("no list within 60 s")), 60_000);
  });
  try {
    await Promise.race([join(), bound]);
    metrics.join.add(world.now() - began);
    metrics.joined.add(true);
  } catch (error) {
    metrics.joined.add(false);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
