// @ts-check
// Devices are paired, talk, and are revoked while they do. When the service has answered "enforced", nothing may arrive any more.

import { MARGIN, SUMMARY, metrics, named, number, ready, service, toTheEnd, world } from "./lib/k6.js";
import { revokeUnderTraffic } from "./lib/revocation.js";

const AT_ONCE = number("AT_ONCE", 10);
const REVOCATIONS = number("REVOCATIONS", 100);

/** One takes about two seconds, and more where the machine is busy. */
const LONGEST = 30 * Math.ceil(REVOCATIONS / AT_ONCE) + MARGIN;

export const options = {
  ...SUMMARY,
  scenarios: { revocations: { executor: "shared-iterations", vus: AT_ONCE, iterations: REVOCATIONS, maxDuration: `${LONGEST}s` } },
  thresholds: {
    mesh_failed: ["count==0"],
    // Whoever saw no traffic before has shown nothing.
    mesh_before_revoke: [`count>=${REVOCATIONS * 20}`],
    mesh_revocations: [`count==${REVOCATIONS}`],
    mesh_after_revoke: ["count==0"],
    // With all nodes well an acknowledgement takes milliseconds; one that hangs is waited for until its lease has run out.
    mesh_revoke_enforced_ms: ["p(95)<1000", "max<10000"],
  },
};

export const setup = ready;

export default function revoke() {
  return toTheEnd(async () => {
    const outcome = await revokeUnderTraffic(world, service, named("device"), __VU);
    metrics.beforeRevoke.add(outcome.before);
    metrics.afterRevoke.add(outcome.after);
    metrics.revocations.add(outcome.enforced && outcome.before > 0 && outcome.sentAfter > 0 ? 1 : 0);
    metrics.enforced.add(outcome.waitedMs);
  });
}
