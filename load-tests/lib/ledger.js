// @ts-check
// What became of numbered messages from one peer to another.

/** @typedef {{ at: number, connection: number, ended: boolean }} Sent */

/** Keeps book of one direction. Numbers begin at 1. */
export class Ledger {
  constructor() {
    this.sent = 0;
    this.arrived = 0;
    /** Arrivals after a later number. */
    this.disordered = 0;
    this.repeated = 0;
    /** The last number that arrived. */
    this.last = 0;
    /** Numbers on their way: when they were sent, on which connection, and whether that has ended. @type {Map<number, Sent>} */
    this.open = new Map();
    /** Numbers that the sender was told are not delivered, by reason. @type {Map<string, number>} */
    this.refused = new Map();
    /**
     * Numbers whose fate the service does not promise: a session ended meanwhile, or the sender's connection did before the
     * service had read them.
     */
    this.unknown = 0;
  }

  /** The next number. @param {number} now Milliseconds. @param {number} connection */
  send(now, connection) {
    this.sent += 1;
    this.open.set(this.sent, { at: now, connection, ended: false });
    return this.sent;
  }

  /**
   * @param {number} number @param {number} now
   * @returns {number | null} Milliseconds that it took; null if it came twice or was given up.
   */
  arrive(number, now) {
    if (number <= this.last) this.disordered += 1;
    this.last = Math.max(this.last, number);
    const sent = this.open.get(number);
    if (sent === undefined) {
      this.repeated += 1;
      return null;
    }
    this.open.delete(number);
    this.arrived += 1;
    return now - sent.at;
  }

  /** The sender was told that it is not delivered. @param {number} number @param {string} reason */
  refuse(number, reason) {
    // With some reasons it may have arrived all the same; then it has.
    if (this.open.delete(number)) this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1);
  }

  /** A connection of the sender ended. @param {number} connection */
  ended(connection) {
    for (const sent of this.open.values()) if (sent.connection === connection) sent.ended = true;
  }

  /** What is open now has an unknown fate. */
  forget() {
    this.unknown += this.open.size;
    this.open.clear();
  }

  /** Nothing is on its way any more: what is open has vanished, or was perhaps never read. */
  conclude() {
    for (const [number, { ended }] of this.open) {
      if (!ended) continue;
      this.open.delete(number);
      this.unknown += 1;
    }
  }

  /** Messages that vanished without a word, after `conclude`. */
  lost() {
    return this.open.size;
  }

  /** Numbers that the sender was told of. */
  allRefused() {
    let all = 0;
    for (const count of this.refused.values()) all += count;
    return all;
  }
}
