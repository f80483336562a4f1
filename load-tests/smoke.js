// @ts-check
// Does it work at all? Two pairs talk for a few seconds, across nodes where there are several.

import { MARGIN, PROMISES, SUMMARY, number, ready, withPair } from "./lib/k6.js";

const SECONDS = number("SECONDS", 3);

export const options = {
  ...SUMMARY,
  scenarios: { pairs: { executor: "per-vu-iterations", vus: 2, iterations: 1, maxDuration: `${SECONDS + MARGIN}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_refused: ["count==0"],
    mesh_relay_ms: ["p(95)<500"],
  },
};

export const setup = ready;

export default function smoke() {
  return withPair((pair) => pair.talk({ every: 50, forMs: SECONDS * 1_000, bytes: 500 }));
}
