// @ts-check
// A day in little: pairs talk quietly for hours, and now and then one of them comes back from somewhere else. Beside it one watches
// the memory of the nodes (docs/scale-and-capacity.md): it must not go on rising.

import { MARGIN, PROMISES, SUMMARY, metrics, number, ready, timeReturns, withPair, world } from "./lib/k6.js";
import { sleep } from "./lib/pair.js";

const PAIRS = number("PAIRS", 200);
/** How long new pairs begin; the last ones then live to their end. */
const HOURS = number("HOURS", 8);
/** How long a pair lives before another takes its place: joins and leaves go on all the time. */
const LIFE = number("LIFE_SECONDS", 900);
/** In each life a message may wait for the receiver to come back. In a short one that is a large share of all. */
const RELAY = LIFE >= 300 ? ["p(95)<100", "p(99)<500"] : ["p(50)<100", "p(99)<2000"];

const SECONDS = Math.ceil(HOURS * 3_600);

export const options = {
  ...SUMMARY,
  scenarios: { pairs: { executor: "constant-vus", vus: PAIRS, duration: `${SECONDS}s`, gracefulStop: `${LIFE + MARGIN}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_moved: ["rate==1"],
    mesh_resumed: ["rate>0.999"],
    mesh_relay_ms: RELAY,
    mesh_back_ms: ["p(99)<5000"],
  },
};

export const setup = ready;

export default async function soak() {
  await sleep(world, 10_000 * world.random());
  await withPair(async (pair) => {
    timeReturns(pair.receiver);
    const talk = pair.talk({ every: 2_000, forMs: LIFE * 1_000, bytes: 1_500 });
    await sleep(world, LIFE * 500);
    pair.receiver.breakOff();
    await talk;
    metrics.moved.add(pair.receiver.returns > 0);
  });
}
