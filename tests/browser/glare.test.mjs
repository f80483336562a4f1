// client.js by itself, in two pages, in the situations that have broken other clients: both offer at the same moment.

import { after, afterEach, before, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import { Server, Tabs, launchBrowser } from "./support.mjs";

let browser;
let server;
let tabs;

before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());
beforeEach(async () => {
  server = await Server.start();
  tabs = await Tabs.open(browser, server);
});
afterEach(async () => {
  try {
    await tabs?.close();
  } finally {
    await server?.stop();
  }
});

/**
 * A page with a client that offers only when told. Its socket can hold back what comes in, from the first offer on: so that both offers are certainly
 * under way before either side sees the other's.
 */
async function clientPage(device, options) {
  const page = await tabs.tab("/");
  await page.evaluate(async ({ token, options: more }) => {
    const { HeliographClient, exchangeToken } = await import("/client.js");
    const t = { held: null, connections: 0, received: [], sentOffers: 0, events: [] };
    class HoldingSocket extends WebSocket {
      set onmessage(listener) {
        super.onmessage = (event) => {
          if (t.held !== null && (t.held.length > 0 || JSON.parse(event.data).type === "offer")) t.held.push(() => listener(event));
          else listener(event);
        };
      }
    }
    class CountedConnection extends RTCPeerConnection {
      constructor(configuration) {
        super(configuration);
        t.connections += 1;
      }
    }
    t.client = new HeliographClient({
      getToken: () => exchangeToken({ deviceToken: token }),
      autoConnect: false,
      WebSocket: HoldingSocket,
      RTCPeerConnection: CountedConnection,
      pingIntervalMs: 0,
      ...more,
    });
    t.client.addEventListener("trace", ({ detail }) => {
      if (detail.direction === "out" && detail.type === "offer") t.sentOffers += 1;
    });
    t.client.addEventListener("message", ({ detail }) => t.received.push(detail.message.payload.text));
    t.client.addEventListener("error", ({ detail }) => t.events.push(detail.error.message));
    await t.client.connect();
    globalThis.t = t;
  }, { token: device.device_token, options });
  return page;
}

const open = (page, id) => page.waitForFunction((peer) => globalThis.t.client.peers.get(peer)?.open === true, id);

async function exchange(a, b, ids, round) {
  await a.evaluate(({ to, text }) => globalThis.t.client.sendTo(to, { type: "text", payload: { text } }), { to: ids.b, text: `a${round}` });
  await b.evaluate(({ to, text }) => globalThis.t.client.sendTo(to, { type: "text", payload: { text } }), { to: ids.a, text: `b${round}` });
  await b.waitForFunction((text) => globalThis.t.received.includes(text), `a${round}`);
  await a.waitForFunction((text) => globalThis.t.received.includes(text), `b${round}`);
}

async function two(options = {}) {
  const [da, db] = [await server.device("Alma"), await server.device("Bayard")];
  const a = await clientPage(da, options);
  const b = await clientPage(db, options);
  const ids = { a: da.peer_id, b: db.peer_id };
  await a.waitForFunction((peer) => globalThis.t.client.peers.get(peer)?.present === true, ids.b);
  return { a, b, ids };
}

test("both offer at the same moment: one connection, one channel, both ways", async () => {
  const { a, b, ids } = await two();
  for (let round = 0; round < 3; round += 1) {
    await Promise.all([a, b].map((page) => page.evaluate(() => Object.assign(globalThis.t, { held: [], connections: 0, sentOffers: 0 }))));
    await Promise.all([
      a.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, ids.b),
      b.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, ids.a),
    ]);
    // Both have an offer out and the other's in hand: glare, beyond doubt.
    for (const [page, other] of [[a, ids.b], [b, ids.a]]) {
      await page.waitForFunction(
        (peer) => globalThis.t.held.length > 0 && globalThis.t.client.peers.get(peer).connection.signalingState === "have-local-offer",
        other,
      );
    }
    await Promise.all(
      [a, b].map((page) =>
        page.evaluate(() => {
          const held = globalThis.t.held;
          globalThis.t.held = null;
          for (const deliver of held) deliver();
        }),
      ),
    );
    await open(a, ids.b);
    await open(b, ids.a);
    await exchange(a, b, ids, round);
    for (const page of [a, b]) {
      const seen = await page.evaluate(
        (peer) => ({ gaveWay: globalThis.t.client.peers.get(peer).polite, connections: globalThis.t.connections, offers: globalThis.t.sentOffers, errors: globalThis.t.events }),
        page === a ? ids.b : ids.a,
      );
      assert.equal(seen.connections, seen.gaveWay ? 2 : 1, "who gives way begins anew, and nobody else");
      assert.ok(seen.offers >= 1, "it had offered");
      assert.deepEqual(seen.errors, []);
    }
    await a.evaluate((peer) => globalThis.t.client.disconnectFrom(peer), ids.b);
    await b.waitForFunction((peer) => globalThis.t.client.peers.get(peer).connection === null, ids.a);
  }
});

test("an offer that nobody answers does not block the other side's: whoever it was to give way", async () => {
  const { a, b, ids } = await two({ answerMs: 700 });
  // The one that does not give way offers into the void: what comes in on the other side is lost, as it is for a page that is just being left.
  const aIsPolite = await a.evaluate((peer) => globalThis.t.client.peers.get(peer).polite, ids.b);
  const [firm, firmId, other, otherId] = aIsPolite ? [b, ids.b, a, ids.a] : [a, ids.a, b, ids.b];
  await other.evaluate(() => (globalThis.t.held = []));
  await firm.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, otherId);
  await other.waitForFunction(() => globalThis.t.held.length > 0);
  await other.evaluate(() => (globalThis.t.held = null));
  await other.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, firmId);
  await open(firm, otherId);
  await open(other, firmId);
  await exchange(a, b, ids, 1);

  // And an offer that was lost alone is said again.
  await firm.evaluate((peer) => globalThis.t.client.disconnectFrom(peer), otherId);
  await other.waitForFunction((peer) => globalThis.t.client.peers.get(peer).connection === null, firmId);
  await other.evaluate(() => (globalThis.t.held = []));
  await firm.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, otherId);
  await other.waitForFunction(() => globalThis.t.held.length > 0);
  await other.evaluate(() => (globalThis.t.held = null));
  await open(firm, otherId);
  await open(other, firmId);
  await exchange(a, b, ids, 2);
});

test("an ICE restart from both sides at once keeps the connection and its channel", async () => {
  const { a, b, ids } = await two();
  await a.evaluate((peer) => globalThis.t.client.connectTo(peer) && undefined, ids.b);
  await open(a, ids.b);
  await open(b, ids.a);
  const ufrag = (page, peer) => page.evaluate((id) => /a=ice-ufrag:(\S+)/.exec(globalThis.t.client.peers.get(id).connection.currentLocalDescription.sdp)[1], peer);
  const before = [await ufrag(a, ids.b), await ufrag(b, ids.a)];
  await Promise.all([
    a.evaluate((peer) => globalThis.t.client.peers.get(peer).connection.restartIce(), ids.b),
    b.evaluate((peer) => globalThis.t.client.peers.get(peer).connection.restartIce(), ids.a),
  ]);
  for (const [page, peer, old] of [[a, ids.b, before[0]], [b, ids.a, before[1]]]) {
    await page.waitForFunction(
      ({ id, ufrag: was }) => {
        const pc = globalThis.t.client.peers.get(id).connection;
        return pc.signalingState === "stable" && pc.connectionState === "connected" && !pc.currentLocalDescription.sdp.includes(`a=ice-ufrag:${was}`);
      },
      { id: peer, ufrag: old },
    );
  }
  await exchange(a, b, ids, 9);
  for (const page of [a, b]) assert.equal(await page.evaluate(() => globalThis.t.connections), 1);
});

test("feedback through the service: delivered, and undeliverable for somebody who is not there", async () => {
  const { a, b, ids } = await two();
  await b.evaluate(() => {
    globalThis.t.signals = [];
    globalThis.t.client.addEventListener("signal", ({ detail }) => globalThis.t.signals.push(detail));
  });
  const delivered = await a.evaluate((to) => globalThis.t.client.send("note", to, { n: 1 }), ids.b);
  assert.equal(delivered.outcome, "delivered");
  await b.waitForFunction(() => globalThis.t.signals.length === 1);
  const signal = await b.evaluate(() => globalThis.t.signals[0]);
  assert.equal(signal.type, "note");
  assert.equal(signal.from, ids.a);
  assert.deepEqual(signal.payload, { n: 1 });
  assert.equal(signal.id, delivered.id, "the id comes over, so that peers can use it");
  const nobody = await a.evaluate(() => globalThis.t.client.send("note", "agent-nobody", {}));
  assert.equal(nobody.outcome, "undeliverable");
  assert.equal(nobody.reason, "unavailable");
});
