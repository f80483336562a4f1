// @ts-check
// Directed pairs across nodes: how long a message takes, and whether each one is accounted for, in order, once.

import { PROMISES, account, metrics, named, number, service, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { Pair, enrol } from "./lib/pair.js";

const PAIRS = number("PAIRS", 100);
const SECONDS = number("SECONDS", 60);
/** Messages per second and pair; the service takes 200 of one session. */
const RATE = number("RATE", 10);
/** An offer with its candidates is about this long. */
const BYTES = number("BYTES", 1_500);

export const options = {
  scenarios: { pairs: { executor: "per-vu-iterations", vus: PAIRS, iterations: 1, maxDuration: `${SECONDS + 120}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_refused: ["count==0"],
    mesh_relay_ms: ["p(50)<25", "p(95)<100", "p(99)<250"],
  },
};

export default async function relay() {
  const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
  const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
  const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
  await toTheEnd([pair], async () => {
    await timedJoin(() => pair.join());
    await pair.talk({ every: 1_000 / RATE, forMs: SECONDS * 1_000, bytes: BYTES });
    account(pair);
  });
}
