// @ts-check
// Nodes are replaced one after the other while pairs talk: nobody loses a message, nobody loses a session.
//
// ROLL=drain (default) asks the nodes themselves, in turn, to send their clients away, and takes it back. With ROLL=none it only
// watches, while something else rolls them: `kubectl rollout restart`, or `kill -TERM` beside `cargo xtask cluster`.

import { PROMISES, account, metrics, named, number, service, setting, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { calls, expect } from "./lib/mesh.js";
import { Pair, enrol, sleep } from "./lib/pair.js";

const PAIRS = number("PAIRS", 50);
const SECONDS = number("SECONDS", 180);
/** Seconds that a node is kept empty: longer than the drain window, 20 s by default. */
const EMPTY = number("EMPTY", 30);
const ROLL = setting("ROLL", "drain");

const pairs = { executor: "per-vu-iterations", vus: PAIRS, iterations: 1, maxDuration: `${SECONDS + 120}s` };
const operator = { executor: "per-vu-iterations", exec: "roll", vus: 1, iterations: 1, startTime: "10s", maxDuration: `${SECONDS + 120}s` };

export const options = {
  scenarios: ROLL === "drain" ? { pairs, operator } : { pairs },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    // Everybody was sent away at least once, and took the session along.
    mesh_resumed: ["rate>0.999"],
    mesh_relay_ms: ["p(99)<1000"],
    ...(ROLL === "drain" ? { mesh_drained: ["count>0"] } : {}),
  },
};

export default async function rolling() {
  const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
  const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
  const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
  await toTheEnd([pair], async () => {
    await timedJoin(() => pair.join());
    await pair.talk({ every: 100, forMs: SECONDS * 1_000, bytes: 500 });
    account(pair);
  });
}

/** One node after the other. */
export async function roll() {
  const base = service.bases[0] ?? "";
  const { gateways } = await expect(world, base, calls.gateways(service.admin), 200);
  if (gateways.length < 2) throw new Error("one node alone cannot be rolled: its clients would have nowhere to go");
  for (const gateway of gateways) {
    await expect(world, base, calls.drain(service.admin, gateway.id), 200);
    await sleep(world, EMPTY * 1_000);
    await expect(world, base, calls.undrain(service.admin, gateway.id), 200);
    metrics.drained.add(1);
    // Load balancers have to see that it is ready again.
    await sleep(world, 5_000);
  }
}
