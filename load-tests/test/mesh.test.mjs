// The protocol module that the k6 scripts use, against a real gateway.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Ledger } from "../lib/ledger.js";
import { BROKEN_OFF, Peer, calls, expect, pause, socketUrl } from "../lib/mesh.js";
import { Pair, TYPE, enrol, joined } from "../lib/pair.js";
import { revokeUnderTraffic } from "../lib/revocation.js";
import { Gateway, until, world } from "./node.mjs";

let gateway;
let service;
before(async () => {
  gateway = await Gateway.start();
  service = gateway.service;
});
after(() => gateway?.stop());

let names = 0;
async function pair() {
  const mesh = `mesh-${(names += 1)}`;
  const times = [];
  const made = new Pair(world, await enrol(world, service, "a", mesh, 0), await enrol(world, service, "b", mesh, 1), (ms) => times.push(ms));
  return Object.assign(made, { times });
}

test("every message of a pair arrives, once, in order, and is timed", async () => {
  const talkers = await pair();
  const list = await talkers.join();
  assert.deepEqual(list.peers, ["b"], "who came later has the other in its list");
  await talkers.talk({ every: 5, forMs: 500, bytes: 1_500 });
  talkers.stop();
  const { ledger } = talkers;
  assert.ok(ledger.sent >= 20, `${ledger.sent} sent`);
  assert.equal(ledger.arrived, ledger.sent);
  assert.deepEqual([ledger.lost(), ledger.disordered, ledger.repeated, ledger.allRefused()], [0, 0, 0, 0]);
  assert.equal(talkers.times.length, ledger.sent);
});

test("a message to nobody is told of and not lost", async () => {
  const talkers = await pair();
  await joined(talkers.sender);
  talkers.sendOne(10);
  await until("it is refused", () => talkers.ledger.allRefused() === 1);
  assert.deepEqual([...talkers.ledger.refused], [["unavailable", 1]]);
  assert.equal(talkers.ledger.lost(), 0);
  talkers.stop();
});

test("who breaks off comes back with the session and with what waited", async () => {
  const talkers = await pair();
  await talkers.join();
  const back = new Promise((done) => (talkers.receiver.onList = done));
  talkers.receiver.breakOff();
  for (let n = 0; n < 20; n += 1) talkers.sendOne(100);
  await back;
  await talkers.settle();
  const { ledger } = talkers;
  assert.deepEqual([talkers.resumed, talkers.fresh, talkers.toldLost], [1, 0, 0]);
  assert.deepEqual([ledger.sent, ledger.arrived, ledger.lost(), ledger.disordered, ledger.repeated], [20, 20, 0, 0, 0]);
  talkers.stop();
});

test("who is sent away moves before it is closed, and takes the session along", async () => {
  // Only a node alone can be emptied and take the same clients again at once: the drain is taken back while they move.
  const talkers = await pair();
  await talkers.join();
  const lists = [talkers.sender, talkers.receiver].map((peer) => new Promise((done) => (peer.onList = done)));
  const talk = talkers.talk({ every: 10, forMs: 1_500, bytes: 100 });
  const { gateways } = await expect(world, service.bases[0], calls.gateways(service.admin), 200);
  await expect(world, service.bases[0], calls.drain(service.admin, gateways[0].id), 200);
  await until("somebody was sent away", () => talkers.sender.timer !== null || talkers.receiver.timer !== null || talkers.resumed > 0);
  await expect(world, service.bases[0], calls.undrain(service.admin, gateways[0].id), 200);
  await Promise.race(lists);
  await talk;
  const { ledger } = talkers;
  assert.ok(talkers.resumed >= 1, `${talkers.resumed} resumed`);
  assert.equal(talkers.fresh, 0);
  assert.deepEqual([ledger.lost(), ledger.disordered, ledger.repeated, ledger.allRefused()], [0, 0, 0, 0]);
  // What was sent in the moment in which the node closed the connection may be unread (docs/protocol/mesh.md, no silent loss).
  assert.equal(ledger.arrived, ledger.sent - ledger.unknown);
  assert.ok(ledger.unknown < 10, `${ledger.unknown} unread`);
  talkers.stop();
});

test("after a revocation that is enforced nothing arrives, though both go on sending", async () => {
  const outcome = await revokeUnderTraffic(world, service, "device", 0);
  assert.ok(outcome.enforced);
  assert.ok(outcome.before >= 20, `${outcome.before} before`);
  assert.ok(outcome.sentAfter >= 20, `${outcome.sentAfter} sent after`);
  assert.equal(outcome.after, 0);
});

test("a service that answers enforced and goes on delivering is found out", async () => {
  // The same scene, with a service that says it has revoked and has not.
  const lying = {
    ...world,
    call: (base, call) =>
      call.path.includes("/revoke") ? Promise.resolve({ status: 200, json: { enforced: true } }) : world.call(base, call),
  };
  const outcome = await revokeUnderTraffic(lying, service, "liar", 0);
  assert.ok(outcome.after >= 20, `${outcome.after} after`);
});

test("a revocation that fails is an error, and nobody goes on talking", async () => {
  const sockets = [];
  const failing = {
    ...world,
    connect: (url, headers, events) => {
      const socket = world.connect(url, headers, events);
      sockets.push(socket);
      return socket;
    },
    call: (base, call) => (call.path.includes("/revoke") ? Promise.resolve({ status: 202, json: { enforced: false } }) : world.call(base, call)),
  };
  await assert.rejects(revokeUnderTraffic(failing, service, "early", 0), /unexpected status 202/);
  await until("both sockets are closed", () => sockets.length === 2 && sockets.every((socket) => !socket.isOpen()));
});

test("who does not come back is found out", async () => {
  const talkers = await pair();
  await talkers.join();
  assert.deepEqual(talkers.absent(), []);
  // From here on there is no server to come back to.
  talkers.receiver.bases = ["http://127.0.0.1:1"];
  talkers.receiver.breakOff();
  assert.deepEqual(talkers.absent(), ["b"]);
  const hasty = { ...world, now: () => Date.now() * 1_000 };
  talkers.world = hasty;
  await assert.rejects(talkers.settle(), /not back within 60 s: b/);
  talkers.stop();
});

test("an answer that was not expected is told without what it holds", async () => {
  const answering = (status, json) => ({ ...world, call: async () => ({ status, json }) });
  const call = { method: "POST", path: "/api/keys", headers: {}, body: null };
  const told = async (status, json) => (await expect(answering(status, json), "http://gw", call, 201).catch((error) => error)).message;
  assert.equal(await told(200, { key: "ak_secret" }), "POST http://gw/api/keys: unexpected status 200");
  assert.equal(await told(403, { code: "forbidden", detail: "no", key: "ak_secret" }), "POST http://gw/api/keys: 403 forbidden no");
  assert.equal(await told(0, null), "POST http://gw/api/keys: no answer");
});

test("a peer that is refused tries again and gives up when it is stopped", async () => {
  let pauses = 0;
  const impatient = { ...world, later: (run, ms) => world.later(run, Math.min(ms, 10)) };
  const peer = new Peer(impatient, { id: "x", credential: { "x-api-key": "ak_wrong" }, bases: service.bases });
  peer.onLost = () => (pauses += 1);
  peer.start();
  await until("it tried again", () => pauses >= 3);
  peer.stop();
  const tried = peer.attempts;
  await new Promise((done) => setTimeout(done, 200));
  assert.ok(peer.attempts <= tried + 1 && peer.timer === null, "no more attempts");
});

test("the books tell lost, late, repeated and refused messages apart", () => {
  const ledger = new Ledger();
  for (let n = 0; n < 6; n += 1) ledger.send(0, n < 5 ? 1 : 2);
  assert.equal(ledger.arrive(1, 7), 7);
  assert.equal(ledger.arrive(3, 7), 7);
  ledger.arrive(2, 7);
  ledger.arrive(3, 7);
  ledger.refuse(4, "expired");
  assert.deepEqual([ledger.arrived, ledger.disordered, ledger.repeated, ledger.allRefused(), ledger.lost()], [3, 2, 1, 1, 2]);
  ledger.ended(2);
  ledger.conclude();
  assert.deepEqual([ledger.lost(), ledger.unknown], [1, 1], "only what the ended connection brought may be unread");
  ledger.forget();
  assert.deepEqual([ledger.lost(), ledger.unknown], [0, 2]);
});

test("what was given up and comes all the same has arrived, and once only", () => {
  const ledger = new Ledger();
  for (let n = 0; n < 3; n += 1) ledger.send(0, 1);
  ledger.refuse(1, "unavailable");
  ledger.forget();
  assert.deepEqual([ledger.arrived, ledger.allRefused(), ledger.unknown], [0, 1, 2]);
  for (const number of [1, 2, 2]) ledger.arrive(number, 7);
  assert.deepEqual([ledger.arrived, ledger.allRefused(), ledger.unknown, ledger.repeated], [2, 0, 1, 1]);
});

test("pauses have full jitter under a ceiling that doubles", () => {
  assert.deepEqual([pause(0, 1), pause(1, 1), pause(3, 0.5), pause(100, 1), pause(5, 0)], [1_000, 2_000, 4_000, 30_000, 0]);
  assert.equal(socketUrl("https://signal.example/"), "wss://signal.example/ws");
  assert.equal(BROKEN_OFF, 4000);
  assert.equal(TYPE, "load.message");
});
