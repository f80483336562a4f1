// @ts-check
// Does it work at all? Two pairs talk for a few seconds, across nodes where there are several.

import { PROMISES, account, metrics, named, number, service, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { Pair, enrol } from "./lib/pair.js";

export const options = {
  vus: 2,
  iterations: 2,
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_refused: ["count==0"],
    mesh_relay_ms: ["p(95)<500"],
  },
};

export default async function smoke() {
  const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
  const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
  const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
  await toTheEnd([pair], async () => {
    await timedJoin(() => pair.join());
    await pair.talk({ every: 50, forMs: number("SECONDS", 3) * 1_000, bytes: 500 });
    account(pair);
  });
}
