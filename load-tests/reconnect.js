// @ts-check
// A storm: all connections break in the same second, and everybody comes back with the session it had.

import { MARGIN, PROMISES, SUMMARY, metrics, number, ready, timeReturns, withPair, world } from "./lib/k6.js";
import { sleep } from "./lib/pair.js";

/** Two peers each. */
const PAIRS = number("PAIRS", 500);
const STORMS = number("STORMS", 3);
/** Seconds until the first storm, for all to join in, between two storms, and after the last one. */
const CALM = number("CALM", 30);

/** Milliseconds from one pair's beginning to the next one's: two connections each, and one address may open 200 per second. */
const APART = 15;
if (PAIRS * APART > CALM * 1_000) throw new Error(`${PAIRS} pairs are not there in ${CALM} s: set CALM to ${Math.ceil((PAIRS * APART) / 1_000)} or more`);

export const options = {
  ...SUMMARY,
  scenarios: { pairs: { executor: "per-vu-iterations", vus: PAIRS, iterations: 1, maxDuration: `${CALM * (STORMS + 1) + MARGIN}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    // Every peer was there when a storm broke, and came back from each.
    mesh_moved: ["rate==1"],
    mesh_back_ms: ["p(95)<10000", "max<30000"],
    mesh_resumed: ["rate>0.999"],
  },
};

/** All VUs count from the same moment. */
export async function setup() {
  await ready();
  return { begin: Date.now() };
}

/** @param {{ begin: number }} shared */
export default async function reconnect({ begin }) {
  await sleep(world, __VU * APART);
  await withPair(async (pair) => {
    const peers = [pair.sender, pair.receiver];
    peers.forEach(timeReturns);
    const end = begin + 1_000 * CALM * (STORMS + 1);
    const talk = pair.talk({ every: 1_000, forMs: end - world.now(), bytes: 500 });
    for (let storm = 1; storm <= STORMS; storm += 1) {
      await sleep(world, Math.max(0, begin + 1_000 * CALM * storm - world.now()));
      peers.forEach((peer) => peer.breakOff());
    }
    await talk;
    metrics.moved.add(peers.every((peer) => peer.returns >= STORMS));
  });
}
