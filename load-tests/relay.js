// @ts-check
// Directed pairs across nodes: how long a message takes, and whether each one is accounted for, in order, once.

import { MARGIN, PROMISES, SUMMARY, number, ready, withPair } from "./lib/k6.js";

const PAIRS = number("PAIRS", 100);
const SECONDS = number("SECONDS", 60);
/** Messages per second and pair; the service takes 200 of one session. */
const RATE = number("RATE", 10);
/** An offer with its candidates is about this long. */
const BYTES = number("BYTES", 1_500);

export const options = {
  ...SUMMARY,
  scenarios: { pairs: { executor: "per-vu-iterations", vus: PAIRS, iterations: 1, maxDuration: `${SECONDS + MARGIN}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_refused: ["count==0"],
    mesh_relay_ms: ["p(50)<25", "p(95)<100", "p(99)<250"],
  },
};

export const setup = ready;

export default function relay() {
  return withPair((pair) => pair.talk({ every: 1_000 / RATE, forMs: SECONDS * 1_000, bytes: BYTES }));
}
