// @ts-check
// A storm: all connections break in the same second, and everybody comes back with the session it had.

import { PROMISES, account, metrics, named, number, service, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { Pair, enrol, sleep } from "./lib/pair.js";

/** Two peers each. */
const PAIRS = number("PAIRS", 500);
const STORMS = number("STORMS", 3);
/** Seconds until the first storm, for all to join in, and between two storms. */
const CALM = number("CALM", 30);

export const options = {
  scenarios: { pairs: { executor: "per-vu-iterations", vus: PAIRS, iterations: 1, maxDuration: `${CALM * (STORMS + 2) + 120}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate==1"],
    mesh_back_ms: ["p(95)<10000", "max<30000"],
    mesh_resumed: ["rate>0.999"],
  },
};

/** All VUs count from the same moment. */
export function setup() {
  return { begin: Date.now() };
}

/** @param {{ begin: number }} shared */
export default async function reconnect({ begin }) {
  // Two connections each, and one address may open 200 per second.
  await sleep(world, __VU * 15);
  const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
  const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
  const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
  await toTheEnd([pair], async () => {
    await timedJoin(() => pair.join());
    for (const peer of [sender, receiver]) {
      let broken = 0;
      peer.onLost = () => (broken = broken || world.now());
      peer.onList = () => {
        if (broken > 0) metrics.back.add(world.now() - broken);
        broken = 0;
      };
    }
    const end = begin + 1_000 * CALM * (STORMS + 1);
    const talk = pair.talk({ every: 1_000, forMs: end - world.now(), bytes: 500 });
    for (let storm = 1; storm <= STORMS; storm += 1) {
      await sleep(world, Math.max(0, begin + 1_000 * CALM * storm - world.now()));
      sender.breakOff();
      receiver.breakOff();
    }
    await talk;
    account(pair);
  });
}
