// The original client, rtc-signaller from npm, unchanged, in processes of their own on two gateways.

import { after, afterEach, before, test } from "node:test";
import assert from "node:assert/strict";
import { Cluster, until } from "../cluster.mjs";
import { Peer, line } from "./support.mjs";

let cluster;
let peers = [];
let rooms = 0;

before(async () => {
  cluster = await Cluster.start(2);
});
after(() => cluster?.stop());
afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.kill()));
  peers = [];
});

const room = () => `room ${(rooms += 1)}`;

/** A client at the gateway of that number. */
async function peer(gateway, { id, through } = {}) {
  const started = await Peer.start(through?.url ?? cluster.gateways[gateway].url, id);
  peers.push(started);
  return started;
}

/** Two clients in one room, each at a gateway of its own, that know each other. */
async function pair(options = {}) {
  const name = room();
  const [fred, bob] = [await peer(0, { id: options.fred }), await peer(1, { id: options.bob, through: options.through })];
  assert.equal(await fred.enters(name, { name: "Fred" }), 1);
  assert.equal(await bob.enters(name, { name: "Bob" }), 2);
  await fred.sees("peer.announce", (data) => data.id === bob.id && data.name === "Bob");
  await bob.sees("peer.announce", (data) => data.id === fred.id && data.name === "Fred");
  return [fred, bob, name];
}

/** What everybody has to see after something that nobody may see: a message that was sent later, by the same way. */
async function settle(from, ...others) {
  const mark = `mark ${Math.random()}`;
  from.send("/mark", mark);
  await Promise.all(others.map((other) => other.sees("message.mark", (text) => text === mark)));
}

test("two clients on two gateways announce themselves to each other, once", async () => {
  const [fred, bob] = await pair();
  await settle(fred, bob);
  await settle(bob, fred);
  assert.equal(fred.all("peer.announce").length, 1);
  assert.equal(bob.all("peer.announce").length, 1);
  assert.deepEqual([fred.all("peer.update"), bob.all("peer.update")], [[], []]);
});

test("messages to the room reach all others, as they were sent and in order", async () => {
  const [fred, bob, name] = await pair();
  const [carl, elsewhere] = [await peer(0), await peer(1)];
  assert.equal(await carl.enters(name), 3);
  assert.equal(await elsewhere.enters(room()), 1);
  for (let number = 0; number < 50; number += 1) bob.send("/hello", "there", number, { x: [1, "ü|é"] });
  bob.send("/end");
  for (const other of [fred, carl]) {
    await other.sees("message.end");
    const heard = other.all("message.hello");
    assert.deepEqual(heard.map((event) => event.args[1]), Array.from({ length: 50 }, (_, number) => number));
    assert.equal(heard[0].args.at(-1), `/hello|${bob.id}|there|0|{"x":[1,"ü|é"]}`, "the frame is the sender's");
  }
  await settle(carl, bob);
  assert.deepEqual([bob.all("message.hello"), elsewhere.all("message.hello"), elsewhere.all("message.mark")], [[], [], []]);
});

test("messages to one reach that one alone", async () => {
  const [fred, bob, name] = await pair();
  const carl = await peer(0);
  await carl.enters(name);
  bob.to(fred.id, "/hello", { a: 1 });
  const heard = await fred.sees("message.hello");
  assert.deepEqual(heard.args[0], { a: 1 });
  assert.equal(heard.args.at(-1), `/to|${fred.id}|/hello|${bob.id}|{"a":1}`);
  bob.to("nobody", "/hello", "lost");
  await settle(bob, fred, carl);
  assert.deepEqual(carl.all("rawdata", (frame) => frame.includes("/hello")), [], "nobody else is given it");
});

test("no message crosses from room to room", async () => {
  const [fred, bob] = await pair();
  const elsewhere = await peer(0);
  await elsewhere.enters(room());
  elsewhere.to(fred.id, "/hello", "from elsewhere");
  await elsewhere.enters(room());
  await settle(bob, fred);
  assert.deepEqual(fred.all("message.hello"), []);
});

test("a client that is killed is said to have left, once", async () => {
  const [fred, bob] = await pair();
  await fred.kill();
  const left = await bob.sees("message.leave", (data) => data.id === fred.id);
  assert.equal(left.args.at(-1), `/leave|${fred.id}|{"id":"${fred.id}"}`);
  assert.equal(bob.all("message.leave").length, 1);
});

test("a client that leaves is said to have left at once, and once", async () => {
  const [fred, bob, name] = await pair();
  fred.leave();
  await bob.sees("message.leave", (data) => data.id === fred.id);
  const carl = await peer(0);
  assert.equal(await carl.enters(name), 2, "who has left does not count");
  await carl.kill();
  await bob.sees("message.leave", (data) => data.id === carl.id);
  assert.equal(bob.all("message.leave", (data) => data.id === fred.id).length, 1);
});

test("a client whose line is cut comes back, and nobody hears that it was away", async () => {
  const through = await line(cluster.gateways[1].url);
  try {
    const [fred, bob] = await pair({ through });
    through.cut();
    await bob.sees("disconnected");
    await until(() => bob.all("message.roominfo").length === 2, () => "it announces itself again");
    await settle(bob, fred);
    assert.deepEqual(fred.all("message.leave"), []);
    fred.to(bob.id, "/hello", "again");
    await bob.sees("message.hello", (text) => text === "again");
  } finally {
    await through.close();
  }
});

test("a client that goes to another room has left the first", async () => {
  const [fred, bob, name] = await pair();
  assert.equal(await bob.enters(room()), 1);
  await fred.sees("message.leave", (data) => data.id === bob.id);
  assert.equal(await bob.enters(name), 2);
  await settle(bob, fred);
});

test("a client that announces itself again is told again, and so are the others", async () => {
  const [fred, bob, name] = await pair();
  assert.equal(await bob.enters(name, { name: "Robert" }), 2);
  await fred.sees("peer.update", (data) => data.id === bob.id && data.name === "Robert");
});

test("names that look like numbers are names", async () => {
  const [fred, bob] = await pair({ fred: "0012", bob: "7" });
  bob.to(fred.id, "/hello", "number");
  await fred.sees("message.hello", (text) => text === "number");
});

test("what is no command is dropped and counted, and costs nobody anything", async () => {
  const [fred, bob] = await pair();
  const counted = () => cluster.metric("heliograph_messages_total", 'dialect="rtc"');
  const before = await counted();
  bob.send("hello", "no slash");
  await settle(bob, fred);
  await until(async () => (await counted()) >= before + 2, () => "both frames are counted");
  assert.deepEqual(fred.all("data"), []);
});
