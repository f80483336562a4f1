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
    /** Numbers that were given up, and why: the reason of a refusal, or null. One of them may come all the same. @type {Map<number, string | null>} */
    this.givenUp = new Map();
  }

  /** The next number. @param {number} now Milliseconds. @param {number} connection */
  send(now, connection) {
    this.sent += 1;
    this.open.set(this.sent, { at: now, connection, ended: false });
    return this.sent;
  }

  /**
   * @param {number} number @param {number} now
   * @returns {number | null} Milliseconds that it took; null if it came twice or had been given up.
   */
  arrive(number, now) {
    if (number <= this.last) this.disordered += 1;
    this.last = Math.max(this.last, number);
    const sent = this.open.get(number);
    if (sent === undefined) {
      if (!this.takeBack(number)) this.repeated += 1;
      return null;
    }
    this.open.delete(number);
    this.arrived += 1;
    return now - sent.at;
  }

  /** What was given up has arrived all the same. @param {number} number @returns {boolean} Whether it had been. */
  takeBack(number) {
    const reason = this.givenUp.get(number);
    if (reason === undefined) return false;
    this.givenUp.delete(number);
    if (reason === null) this.unknown -= 1;
    else this.refused.set(reason, (this.refused.get(reason) ?? 0) - 1);
    this.arrived += 1;
    return true;
  }

  /** The sender was told that it is not delivered. @param {number} number @param {string} reason */
  refuse(number, reason) {
    // With some reasons it may have arrived all the same; then it has.
    if (!this.open.delete(number)) return;
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1);
    this.givenUp.set(number, reason);
  }

  /** A connection of the sender ended. @param {number} connection */
  ended(connection) {
    for (const sent of this.open.values()) if (sent.connection === connection) sent.ended = true;
  }

  /** What is open now has an unknown fate. */
  forget() {
    for (const number of this.open.keys()) this.lose(number);
  }

  /** @param {number} number Open until now. */
  lose(number) {
    this.open.delete(number);
    this.unknown += 1;
    this.givenUp.set(number, null);
  }

  /** Nothing is on its way any more: what is open has vanished, or was perhaps never read. */
  conclude() {
    for (const [number, { ended }] of this.open) if (ended) this.lose(number);
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
