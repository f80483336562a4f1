// @ts-check
// A revocation under traffic: once it is enforced, nothing arrives any more, in either direction.

import { Peer, calls, expect } from "./mesh.js";
import { TYPE, administration, joined, pairDevice, sleep } from "./pair.js";

/**
 * @typedef {import("./mesh.js").World} World
 * @typedef {import("./pair.js").Service} Service
 *
 * @typedef {object} Outcome
 * @property {number} before Messages that arrived before the revocation: without any, nothing would be shown.
 * @property {number} sentAfter Messages sent after the answer "enforced".
 * @property {number} after Messages that arrived though they were sent, or were certainly written, after that answer.
 * @property {boolean} enforced Whether the service answered so.
 * @property {number} waitedMs Until it did.
 */

/** Milliseconds between two messages of each side. */
const EVERY = 10;
/** How long both talk after the answer. */
const AFTERWARDS = 1_500;
/** How many messages must have arrived first, and how long that may take. */
const BEFORE = 20;
const PATIENCE = 20_000;
const LOOK = 20;

/**
 * @param {World} world @param {Service} service @param {string} name @param {number} place
 * @returns {Promise<Outcome>}
 */
export async function revokeUnderTraffic(world, service, name, place) {
  const victim = await pairDevice(world, service, `${name}-victim`, place);
  const witness = await pairDevice(world, service, `${name}-witness`, place + 1);
  /** @type {Outcome} */
  const outcome = { before: 0, sentAfter: 0, after: 0, enforced: false, waitedMs: 0 };
  const scene = { barrier: false, talking: true };
  listen(victim, witness, outcome, () => false);
  listen(witness, victim, outcome, () => scene.barrier);
  /** @type {Promise<void>[]} */
  let talks = [];
  try {
    await joined(witness);
    await joined(victim);
    talks = [talk(world, victim, witness, outcome, scene), talk(world, witness, victim, outcome, scene)];
    const end = world.now() + PATIENCE;
    while (outcome.before < BEFORE && world.now() < end) await sleep(world, LOOK);

    const asked = world.now();
    // Revoked at another node than the victim's.
    const report = await expect(world, administration(service, place + 2), calls.revoke(service.admin, victim.id), 200);
    outcome.enforced = report.enforced === true;
    outcome.waitedMs = world.now() - asked;
    // What was written before the answer may still be on its way to us. It comes before the answers to two pings.
    await pinged(world, witness);
    await pinged(world, witness);
    scene.barrier = outcome.enforced;
    await sleep(world, AFTERWARDS);
  } finally {
    // Also when something failed: nothing may go on talking.
    scene.talking = false;
    await Promise.all(talks);
    victim.stop();
    witness.stop();
  }
  return outcome;
}

/** Counts what comes from the other. @param {Peer} peer @param {Peer} other @param {Outcome} outcome @param {() => boolean} tooLate */
function listen(peer, other, outcome, tooLate) {
  peer.onMessage = (frame) => {
    if (frame.type !== TYPE || frame.peer_id !== other.id) return;
    if (frame.payload.after || tooLate()) outcome.after += 1;
    else if (!outcome.enforced) outcome.before += 1;
  };
}

/** Sends to the other as long as both talk. @param {World} world @param {Peer} peer @param {Peer} other @param {Outcome} outcome @param {{ talking: boolean }} scene */
async function talk(world, peer, other, outcome, scene) {
  while (scene.talking) {
    // A message that was sent after the answer says so itself: there is no doubt about time when it arrives.
    if (peer.send(TYPE, other.id, { after: outcome.enforced }) && outcome.enforced) outcome.sentAfter += 1;
    await sleep(world, EVERY);
  }
}

/** An answer to a ping, or an end of patience. @param {World} world @param {Peer} peer @returns {Promise<void>} */
function pinged(world, peer) {
  return new Promise((done) => {
    const notice = peer.onNotice;
    const timer = world.later(done, PATIENCE);
    peer.onNotice = (frame) => {
      if (frame.type !== "pong") return notice(frame);
      peer.onNotice = notice;
      world.cancel(timer);
      done();
    };
    peer.send("ping", null, {});
  });
}
