// @ts-check
// What the scripts share: k6's sockets, timers and HTTP as a World, the settings, the metrics.

import exec from "k6/execution";
import http from "k6/http";
import { Counter, Rate, Trend } from "k6/metrics";
import { clearTimeout, setTimeout } from "k6/timers";
import { WebSocket } from "k6/websockets";
import { calls } from "./mesh.js";
import { Pair, administration, enrol } from "./pair.js";

/** @typedef {import("./mesh.js").World} World */

/** `readyState` of a socket on which one may send. */
const OPEN = 1;

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
    return { isOpen: () => socket.readyState === OPEN, send: (text) => socket.send(text), close: (code) => socket.close(code) };
  },
  async call(base, { method, path, headers, body }) {
    // One name for all peers: k6 keeps a series for each name.
    const name = path.replace(/\/(pairing|gateways|peers)\/[^/?]+\//, "/$1/{id}/").replace(/\?.*/, "");
    const answer = await http.asyncRequest(method, base + path, body, { headers, tags: { name }, timeout: "30s" });
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

/**
 * A setting of the environment: `k6 run -e NAME=value`, or k6's own environment.
 * @param {string} name @param {string} otherwise
 */
export function setting(name, otherwise) {
  return __ENV[name] || otherwise;
}

/** @param {string} name @param {number} otherwise */
export function number(name, otherwise) {
  const value = Number(setting(name, String(otherwise)));
  if (!Number.isFinite(value) || value <= 0) throw new Error(`${name} must be a number above 0, not ${__ENV[name]}`);
  return value;
}

/** @param {string} address */
const trimmed = (address) => address.trim().replace(/\/+$/, "");

/**
 * Where the service is, and the key to it. Nothing is asked of these here: `k6 archive`, with which the operator for Kubernetes
 * begins, runs this without the secret.
 * @type {import("./pair.js").Service}
 */
export const service = {
  bases: setting("HELIOGRAPH_SERVERS", setting("HELIOGRAPH_SERVER", "http://127.0.0.1:8080")).split(",").map(trimmed).filter(Boolean),
  administration: trimmed(setting("HELIOGRAPH_ADMIN_SERVER", "")) || undefined,
  admin: setting("HELIOGRAPH_KEY", ""),
};

/** For `setup`: says what is wrong with the settings before a thousand VUs do. */
export async function ready() {
  if (service.admin === "") throw new Error("set HELIOGRAPH_KEY to an admin key (load-tests/README.md)");
  if (service.bases.length === 0) throw new Error("HELIOGRAPH_SERVERS holds no address (load-tests/README.md)");
  for (const base of [...service.bases, service.administration]) {
    if (base === undefined) continue;
    if (!/^https?:\/\/[^/?#]+/.test(base)) throw new Error(`${base} is no address such as http://gw-1:8080: see HELIOGRAPH_SERVERS`);
    const { status } = await world.call(base, { method: "GET", path: "/api/config", headers: {}, body: null });
    if (status === 0) throw new Error(`nobody answers at ${base}: is Heliograph running there? See HELIOGRAPH_SERVERS`);
  }
  const base = administration(service, 0);
  const { status } = await world.call(base, calls.gateways(service.admin));
  if (status === 401) throw new Error(`${base} does not know HELIOGRAPH_KEY`);
  if (status === 403) throw new Error("HELIOGRAPH_KEY is no admin key for all meshes");
  if (status === 404) throw new Error(`administration is not at ${base}: set HELIOGRAPH_ADMIN_SERVER to where HELIOGRAPH_ADMIN_LISTEN put it`);
  if (status !== 200) throw new Error(`${base}/api/gateways answers ${status}`);
}

/** Seconds that all waits of an iteration beside its talk may take. k6 counts an iteration that it has to interrupt nowhere. */
export const MARGIN = 300;

/** What the summary has of each Trend: what thresholds are about, and the outliers. */
export const SUMMARY = { summaryTrendStats: ["min", "med", "p(95)", "p(99)", "max"] };

/** When this VU was made: part of names, which no earlier run may have used. */
const BORN = Date.now().toString(36);

/** A name for something of this iteration. @param {string} what */
export function named(what) {
  return `load-${BORN}-${exec.vu.idInTest}-${__ITER}-${what}`;
}

/** Trends are plain numbers of milliseconds: k6 would give times to Prometheus in seconds, under the same names. */
export const metrics = {
  /** From the first step of joining (token, upgrade, register) to the list. */
  join: new Trend("mesh_join_ms"),
  /** Whether a peer had its list in time. */
  joined: new Rate("mesh_joined"),
  /** From the sender to the receiver, both in this VU. */
  relay: new Trend("mesh_relay_ms"),
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
  back: new Trend("mesh_back_ms"),
  /** Whether a session went on where it was. */
  resumed: new Rate("mesh_resumed"),
  /** Whether a pair went through what the script is about: its connections broke, or were moved. */
  moved: new Rate("mesh_moved"),
  /** Nodes that were emptied. */
  drained: new Counter("mesh_drained"),
  /** Until the service answered that a revocation is enforced. */
  enforced: new Trend("mesh_revoke_enforced_ms"),
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

/** Adds what a pair's books say. @param {Pair} pair */
function account({ ledger, resumed, fresh }) {
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
 * Runs something to its end. A failure is counted, and not stuck: k6 ends an iteration when no socket and no timer is left, so
 * everything that was made by then is stopped.
 * @template T
 * @param {(things: { stop: () => void }[]) => Promise<T>} run Puts into `things` what is to be stopped.
 */
export async function toTheEnd(run) {
  /** @type {{ stop: () => void }[]} */
  const things = [];
  try {
    const result = await run(things);
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

/**
 * A pair of this iteration: two new keys in a mesh of their own, joined; its books are counted when `run` has ended.
 * @param {(pair: Pair) => Promise<void>} run
 */
export function withPair(run) {
  return toTheEnd(async (things) => {
    const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
    const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
    const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
    things.push(pair);
    await timedJoin(() => pair.join());
    await run(pair);
    account(pair);
  });
}

/** Notes how long it took until there was a list. @param {() => Promise<unknown>} join */
export async function timedJoin(join) {
  const began = world.now();
  try {
    await join();
  } catch (error) {
    metrics.joined.add(false);
    throw error;
  }
  metrics.join.add(world.now() - began);
  metrics.joined.add(true);
}

/** Notes how long a peer is away whenever it loses its connection. @param {import("./mesh.js").Peer} peer */
export function timeReturns(peer) {
  let lost = 0;
  // Further attempts may fail: it counts from the first loss.
  peer.onLost = () => (lost = lost || world.now());
  peer.onList = () => {
    if (lost > 0) metrics.back.add(world.now() - lost);
    lost = 0;
  };
}
