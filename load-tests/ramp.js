// @ts-check
// More and more peers, which stay: how long it takes to join while the service fills up, and whether idle sockets are kept.

import { MARGIN, SUMMARY, metrics, named, number, ready, service, timeReturns, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { enrol, joined, sleep } from "./lib/pair.js";

const PEERS = number("PEERS", 1_000);
/** Peers per second. One address may open 200 connections per second. */
const RATE = number("RATE", 50);
/** Seconds that all stay when the last one has come. */
const HOLD = number("HOLD", 60);
/** Peers in one mesh: each of them is in the lists of the others. */
const MESH = number("MESH", 10);

const RISE = PEERS / RATE;

export const options = {
  ...SUMMARY,
  scenarios: { peers: { executor: "per-vu-iterations", vus: PEERS, iterations: 1, maxDuration: `${Math.ceil(RISE + HOLD) + MARGIN}s` } },
  thresholds: {
    mesh_failed: ["count==0"],
    mesh_joined: ["rate==1"],
    mesh_join_ms: ["p(95)<1000", "p(99)<3000"],
    // A socket that stands idle is not to be closed; if it is, its peer comes back with its session.
    mesh_back_ms: ["max<10000"],
    mesh_resumed: ["rate==1"],
  },
};

/** Meshes have members of several VUs. */
export async function setup() {
  await ready();
  return { run: Date.now().toString(36) };
}

/** @param {{ run: string }} shared */
export default async function ramp({ run }) {
  await sleep(world, (1_000 * __VU) / RATE);
  await toTheEnd(async (things) => {
    const peer = await enrol(world, service, named("peer"), `load-${run}-${Math.floor(__VU / MESH)}`, __VU);
    things.push(peer);
    await timedJoin(() => joined(peer));
    peer.onResumed = (payload) => metrics.resumed.add(!payload.fresh);
    timeReturns(peer);
    await sleep(world, 1_000 * (RISE + HOLD - __VU / RATE));
    if (!peer.online) throw new Error(`${peer.id} lost its connection and is not back`);
  });
}
