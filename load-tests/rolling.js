// @ts-check
// Nodes are replaced one after the other while pairs talk: nobody loses a message, nobody loses a session.
//
// ROLL=drain (default) asks the nodes themselves, in turn, to send their clients away, and takes it back. With ROLL=none it only
// watches, while something else rolls them: `kubectl rollout restart`, or `kill -TERM` beside `cargo xtask cluster`.

import { MARGIN, PROMISES, SUMMARY, metrics, number, ready, service, setting, toTheEnd, withPair, world } from "./lib/k6.js";
import { calls, expect } from "./lib/mesh.js";
import { administration, sleep } from "./lib/pair.js";

const PAIRS = number("PAIRS", 50);
const SECONDS = number("SECONDS", 180);
/** Seconds that a node is kept empty: longer than the drain window, 20 s by default. */
const EMPTY = number("EMPTY", 30);
/** Seconds before the first node and after each: load balancers have to see that it is ready again. */
const PAUSE = number("PAUSE", 5);
const ROLL = setting("ROLL", "drain");
if (ROLL !== "drain" && ROLL !== "none") throw new Error(`ROLL must be drain or none, not ${ROLL}`);

const length = { vus: 1, iterations: 1, maxDuration: `${SECONDS + MARGIN}s` };
const pairs = { executor: "per-vu-iterations", ...length, vus: PAIRS };
const operator = { executor: "per-vu-iterations", ...length, exec: "roll", startTime: `${PAUSE}s` };

export const options = {
  ...SUMMARY,
  scenarios: ROLL === "drain" ? { pairs, operator } : { pairs },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    // Everybody was sent away at least once, and took the session along.
    mesh_moved: ["rate==1"],
    mesh_resumed: ["rate>0.999"],
    mesh_relay_ms: ["p(99)<1000"],
  },
};

/** The nodes that are to be rolled: none if something else does it. */
export async function setup() {
  await ready();
  if (ROLL === "none") return { nodes: [] };
  const { gateways } = await expect(world, administration(service, 0), calls.gateways(service.admin), 200);
  if (gateways.length < 2) throw new Error("one node alone cannot be rolled: its clients would have nowhere to go");
  const needed = Math.ceil(PAUSE + gateways.length * (EMPTY + PAUSE));
  if (SECONDS < needed) throw new Error(`${gateways.length} nodes take longer than ${SECONDS} s: set SECONDS to ${needed} or more`);
  return { nodes: gateways.map((/** @type {{ id: string }} */ { id }) => id) };
}

export default function rolling() {
  return withPair(async (pair) => {
    await pair.talk({ every: 100, forMs: SECONDS * 1_000, bytes: 500 });
    metrics.moved.add(pair.sender.returns > 0 && pair.receiver.returns > 0);
  });
}

/** One node after the other. @param {{ nodes: string[] }} shared */
export function roll({ nodes }) {
  return toTheEnd(async () => {
    for (const node of nodes) {
      await expect(world, administration(service, 0), calls.drain(service.admin, node), 200);
      await sleep(world, EMPTY * 1_000);
      await expect(world, administration(service, 0), calls.undrain(service.admin, node), 200);
      metrics.drained.add(1);
      await sleep(world, PAUSE * 1_000);
    }
  });
}

/** Also after Ctrl-C: no node is left empty. @param {{ nodes: string[] }} shared */
export async function teardown({ nodes }) {
  for (const node of nodes) await expect(world, administration(service, 0), calls.undrain(service.admin, node), 200);
}
