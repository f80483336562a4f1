// @ts-check
// Two peers that talk to each other, each at a node of its own where there are several.

import { Ledger } from "./ledger.js";
import { Peer, calls, expect } from "./mesh.js";

/** How long messages that are under way at the end may take before they count as lost, in milliseconds. */
const LAST_WORDS = 5_000;
/** How long a peer may take until its first list, and until it is back at the end, in milliseconds. */
const PATIENCE = 60_000;
/** How often it is looked whether the last ones have come. */
const LOOK = 50;
/** The type of the messages: one that the service does not know and passes on as it is. */
export const TYPE = "load.message";

/** @typedef {import("./mesh.js").World} World */

/**
 * @typedef {object} Service
 * @property {string[]} bases Addresses of nodes, or of a load balancer.
 * @property {string} [administration] Where administration is, if it is on an address of its own.
 * @property {string} admin An admin key.
 */

/**
 * A peer with a new API key.
 * @param {World} world @param {Service} service @param {string} id @param {string} mesh @param {number} place Which node it comes to first.
 */
export async function enrol(world, service, id, mesh, place) {
  const { key } = await expect(world, administration(service, place), calls.createKey(service.admin, id, mesh), 201);
  return new Peer(world, { id, credential: { "x-api-key": key }, bases: from(service, place) });
}

/**
 * A device that was invited and approved. Devices live in the mesh of the admin key.
 * @param {World} world @param {Service} service @param {string} name @param {number} place
 */
export async function pairDevice(world, service, name, place) {
  const base = at(service, place);
  const { code } = await expect(world, base, calls.invite(service.admin), 200);
  const { id } = await expect(world, base, calls.redeem(code, name), 200);
  const approved = await expect(world, administration(service, place), calls.approve(service.admin, id), 200);
  return new Peer(world, {
    id: approved.peer_id,
    credential: { "x-device-token": approved.device_token },
    bases: from(service, place),
  });
}

/** @param {Service} service @param {number} place */
function at(service, place) {
  return service.bases[place % service.bases.length] ?? "";
}

/** Where to ask for what takes an admin key. @param {Service} service @param {number} place */
export function administration(service, place) {
  return service.administration ?? at(service, place);
}

/** All addresses, beginning at one. @param {Service} service @param {number} place */
function from(service, place) {
  const begin = place % service.bases.length;
  return [...service.bases.slice(begin), ...service.bases.slice(0, begin)];
}

/** Starts a peer and waits for its list, within a bound. @param {Peer} peer @returns {Promise<any>} */
export function joined(peer) {
  return new Promise((done, fail) => {
    const timer = peer.world.later(() => fail(new Error(`${peer.id} has no list within ${PATIENCE / 1_000} s`)), PATIENCE);
    peer.onList = (list) => {
      peer.world.cancel(timer);
      done(list);
    };
    peer.start();
  });
}

/** @param {World} world @param {number} ms @returns {Promise<void>} */
export function sleep(world, ms) {
  return new Promise((done) => world.later(done, ms));
}

/** One direction: `from` sends numbered messages to `to`. */
export class Pair {
  /**
   * @param {World} world @param {Peer} sender @param {Peer} receiver
   * @param {(ms: number) => void} relayed Told how long each message took.
   */
  constructor(world, sender, receiver, relayed) {
    this.world = world;
    this.sender = sender;
    this.receiver = receiver;
    this.ledger = new Ledger();
    /** Answers to `resume`, of both. */
    this.resumed = 0;
    this.fresh = 0;
    /** What the service says it lost, in answers to `resume`. */
    this.toldLost = 0;

    receiver.onMessage = (frame) => {
      if (frame.type !== TYPE) return;
      const took = this.ledger.arrive(frame.payload.n, world.now());
      if (took !== null) relayed(took);
    };
    sender.onNotice = (frame) => {
      if (frame.type === "undeliverable" && frame.payload.id) this.ledger.refuse(Number(frame.payload.id), frame.payload.reason);
    };
    sender.onEnded = (connection) => this.ledger.ended(connection);
    for (const peer of [sender, receiver]) {
      peer.onResumed = (payload) => {
        if (payload.fresh) {
          this.fresh += 1;
          // A session that begins anew promises nothing of what was under way.
          this.ledger.forget();
        } else {
          this.resumed += 1;
          this.toldLost += payload.lost ?? 0;
        }
      };
    }
  }

  /** Both join; the receiver first, so that the sender has it in its list. */
  async join() {
    await joined(this.receiver);
    return joined(this.sender);
  }

  /** @param {number} bytes */
  sendOne(bytes) {
    // While there is no connection there is nothing to count.
    if (!this.sender.connected) return;
    const n = this.ledger.send(this.world.now(), this.sender.connection);
    this.sender.send(TYPE, this.receiver.id, { n, fill: "x".repeat(bytes) }, String(n));
  }

  /**
   * Sends every so many milliseconds for a while, then waits for what is under way.
   * @param {{ every: number, forMs: number, bytes: number }} how
   */
  async talk({ every, forMs, bytes }) {
    const end = this.world.now() + forMs;
    // Not all pairs at the same moment.
    let next = this.world.now() + every * this.world.random();
    while (next < end) {
      await sleep(this.world, Math.max(0, next - this.world.now()));
      this.sendOne(bytes);
      // By the clock, so that a generator that is late now and then still sends at its rate; what it missed it does not send in a burst.
      next = Math.max(next + every, this.world.now());
    }
    await this.settle();
  }

  /** Waits, within bounds, until both are there and nothing is on its way. Whoever is not back by then has failed. */
  async settle() {
    const back = this.world.now() + PATIENCE;
    while (this.absent().length > 0 && this.world.now() < back) await sleep(this.world, LOOK);
    if (this.absent().length > 0) throw new Error(`not back within ${PATIENCE / 1_000} s: ${this.absent().join(", ")}`);
    const end = this.world.now() + LAST_WORDS;
    while (this.ledger.open.size > 0 && this.world.now() < end) await sleep(this.world, LOOK);
    this.ledger.conclude();
  }

  /** Who is not connected. */
  absent() {
    return [this.sender, this.receiver].filter((peer) => !peer.online).map((peer) => peer.id);
  }

  stop() {
    this.sender.stop();
    this.receiver.stop();
  }
}
