// @ts-check
// A day in little: pairs talk quietly for hours, and now and then one of them comes back from somewhere else. Beside it one watches
// the memory of the nodes (docs/scale-and-capacity.md): it must not go on rising.

import { PROMISES, account, metrics, named, number, service, timedJoin, toTheEnd, world } from "./lib/k6.js";
import { Pair, enrol, sleep } from "./lib/pair.js";

const PAIRS = number("PAIRS", 200);
const HOURS = number("HOURS", 8);
/** How long a pair lives before another takes its place: joins and leaves go on all the time. */
const LIFE = number("LIFE_SECONDS", 900);

const SECONDS = Math.round(HOURS * 3_600);

export const options = {
  scenarios: { pairs: { executor: "constant-vus", vus: PAIRS, duration: `${SECONDS}s`, gracefulStop: `${LIFE + 60}s` } },
  thresholds: {
    ...PROMISES,
    mesh_joined: ["rate>0.9999"],
    mesh_resumed: ["rate>0.999"],
    mesh_relay_ms: ["p(95)<100", "p(99)<500"],
    mesh_back_ms: ["p(99)<5000"],
  },
};

export default async function soak() {
  await sleep(world, 10_000 * world.random());
  const sender = await enrol(world, service, named("a"), named("mesh"), __VU);
  const receiver = await enrol(world, service, named("b"), named("mesh"), __VU + 1);
  const pair = new Pair(world, sender, receiver, (ms) => metrics.relay.add(ms));
  await toTheEnd([pair], async () => {
    await timedJoin(() => pair.join());
    let broken = 0;
    receiver.onList = () => {
      if (broken > 0) metrics.back.add(world.now() - broken);
      broken = 0;
    };
    const talk = pair.talk({ every: 2_000, forMs: LIFE * 1_000, bytes: 1_500 });
    await sleep(world, LIFE * 500);
    broken = world.now();
    receiver.breakOff();
    await talk;
    account(pair);
  });
}
