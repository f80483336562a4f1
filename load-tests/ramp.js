// @ts-check
// More and more peers, which stay: how long it takes to join while the service fills up, and whether idle sockets are kept.

import { metrics, named, number, service, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { enrol, joined, sleep } from "./lib/pair.js";

const PEERS = number("PEERS", 1_000);
/** Peers per second. One address may open 200 connections per second. */
const RATE = number("RATE", 50);
/** How long all stay when the last one has come. */
const HOLD = number("HOLD", 60);
/** Peers in one mesh: each of them is in the lists of the others. */
const MESH = number("MESH", 10);

const RISE = PEERS / RATE;

export const options = {
  scenarios: { peers: { executor: "per-vu-iterations", vus: PEERS, iterations: 1, maxDuration: `${RISE + HOLD + 120}s` } },
  thresholds: {
    mesh_joined: ["rate>0.999"],
    mesh_join_ms: ["p(95)<1000", "p(99)<3000"],
    // A socket that stands idle is not to be closed.
    mesh_back_ms: ["max<10000"],
    mesh_resumed: ["rate==1"],
  },
};

/** Meshes have members of several VUs. */
export function setup() {
  return { run: Date.now().toString(36) };
}

/** @param {{ run: string }} shared */
export default async function ramp({ run }) {
  await sleep(world, (1_000 * __VU) / RATE);
  const peer = await enrol(world, service, named("peer"), `load-${run}-${Math.floor(__VU / MESH)}`, __VU);
  await toTheEnd([peer], async () => {
    await timedJoin(() => joined(peer));
    let lost = 0;
    peer.onLost = () => (lost = world.now());
    peer.onResumed = (payload) => metrics.resumed.add(!payload.fresh);
    peer.onList = () => {
      if (lost > 0) metrics.back.add(world.now() - lost);
      lost = 0;
    };
    await sleep(world, 1_000 * (RISE + HOLD - __VU / RATE));
  });
}
