// The agent and a page: a channel between two implementations of WebRTC that have no line in common.

import { after, afterEach, before, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import { Agent } from "./agent.mjs";
import { Server, Tabs, launchBrowser } from "./support.mjs";

/** In each direction. */
const MESSAGES = 1_000;
/** 60 KB in UTF-8. */
const LARGE = "ü".repeat(30_000);
/** Longer than any attempt of the agent to connect again by itself after a failure. */
const RETRIES_MS = 3_500;

const browsers = {};
let server;
let tabs;
let agents;

before(async () => {
  // Addresses are hidden in every page without a camera or microphone; that is how the agent meets them.
  [browsers.hiding, browsers.open] = await Promise.all([launchBrowser({ hideAddresses: true }), launchBrowser()]);
});
after(() => Promise.all(Object.values(browsers).map((browser) => browser.close())));
beforeEach(async () => {
  agents = [];
  server = await Server.start();
  tabs = await Tabs.open(browsers.hiding, server);
});
afterEach(async () => {
  try {
    await tabs?.close();
  } finally {
    await Promise.all(agents.map((agent) => agent.stop()));
    await server?.stop();
  }
});

async function startAgent(device) {
  const agent = await Agent.start(server, device);
  agents.push(agent);
  return agent;
}

/** Starts `client.js` in the page, and keeps what it hears. Its socket can hold back what goes out, and what comes in. */
async function join(page, device) {
  await page.evaluate(
    async (token) => {
      const { HeliographClient, exchangeToken } = await import("/client.js");
      const t = { received: [], errors: [], offers: { in: 0, out: 0 }, heldOut: null, heldIn: null };
      class HoldingSocket extends WebSocket {
        set onmessage(listener) {
          super.onmessage = (event) => {
            if (t.heldIn !== null && JSON.parse(event.data).peer_id !== "registry") t.heldIn.push({ go: () => listener(event) });
            else listener(event);
          };
        }
        send(text) {
          const { type, target_id } = JSON.parse(text);
          if (t.heldOut !== null && target_id) t.heldOut.push({ type, go: () => super.send(text) });
          else super.send(text);
        }
      }
      t.client = new HeliographClient({ getToken: () => exchangeToken({ deviceToken: token }), WebSocket: HoldingSocket, pingIntervalMs: 0 });
      t.client.addEventListener("trace", ({ detail }) => {
        if (detail.type === "offer") t.offers[detail.direction] += 1;
      });
      t.client.addEventListener("message", ({ detail }) => t.received.push(detail.message));
      t.client.addEventListener("error", ({ detail }) => t.errors.push(detail.error.message));
      globalThis.t = t;
      await t.client.connect();
    },
    device.device_token,
  );
}

const opened = (page, id) => page.waitForFunction((peer) => globalThis.t.client.peers.get(peer)?.open === true, id);
const closed = (page, id) => page.waitForFunction((peer) => !globalThis.t.client.peers.get(peer)?.connection, id);
const offers = (page) => page.evaluate(() => globalThis.t.offers);
const errors = (page) => page.evaluate(() => globalThis.t.errors);
const disconnect = (page, id) => page.evaluate((peer) => globalThis.t.client.disconnectFrom(peer), id);
const connect = (page, id) => page.evaluate((peer) => void globalThis.t.client.connectTo(peer), id);

/** A page and an agent, not yet there. */
async function two(set = tabs) {
  const [here, there] = await Promise.all([server.device("Alma"), server.device("Bayard")]);
  return { page: await set.tab("/"), here, there };
}

/** A page and an agent that are connected. */
async function pair(first = "agent") {
  const { page, here, there } = await two();
  if (first === "page") await join(page, here);
  const agent = await startAgent(there);
  const program = await agent.attach();
  if (first === "agent") {
    await program.online();
    await join(page, here);
  }
  await bothOpen(page, program, here, there);
  return { page, agent, program, here, there };
}

const bothOpen = (page, program, here, there) => Promise.all([opened(page, there.peer_id), program.connected(here.peer_id)]);

/** One message each way. */
async function exchange(page, program, here, there, text) {
  await page.evaluate(({ to, text }) => globalThis.t.client.sendTo(to, { type: "text", payload: { text } }), { to: there.peer_id, text });
  assert.deepEqual(await program.heard(here.peer_id), { type: "text", payload: { text } });
  program.send(here.peer_id, { type: "answer", payload: { text } });
  await page.waitForFunction((text) => globalThis.t.received.some((message) => message.type === "answer" && message.payload.text === text), text);
}

/** Both say what the path is: the agent by its `status`, the page by what the browser counts. */
async function paths(page, program, here, there) {
  const atPage = await page.evaluate((peer) => globalThis.t.client.peers.get(peer).stats(), there.peer_id);
  const atAgent = await program.peer(here.peer_id);
  assert.equal(atAgent.connection, "connected");
  assert.equal(atAgent.channel, "open");
  for (const { local, remote } of [atPage, atAgent]) assert.ok(local && remote, JSON.stringify({ atPage, atAgent }));
  return { atPage, atAgent };
}

const candidates = (page, id) =>
  page.evaluate((peer) => globalThis.t.client.peers.get(peer).connection.localDescription.sdp.match(/a=candidate:.*/g).map((line) => line.split(" ")[4]), id);

for (const [name, hidden] of [["hidden", true], ["known", false]]) {
  test(`the page comes first, and the agent offers; the page's addresses are ${name}`, async () => {
    const set = hidden ? tabs : await Tabs.open(browsers.open, server);
    const { page, here, there } = await two(set);
    await join(page, here);
    const program = await (await startAgent(there)).attach();
    await bothOpen(page, program, here, there);
    assert.deepEqual(await offers(page), { in: 1, out: 0 });
    await checkPath(page, program, here, there, hidden);
    await exchange(page, program, here, there, "Good morning from the ridge");
    assert.deepEqual(await errors(page), []);
    if (set !== tabs) await set.close();
  });

  test(`the agent comes first, and the page offers; the page's addresses are ${name}`, async () => {
    const set = hidden ? tabs : await Tabs.open(browsers.open, server);
    const { page, here, there } = await two(set);
    const program = await (await startAgent(there)).attach();
    await program.online();
    await join(page, here);
    await bothOpen(page, program, here, there);
    assert.deepEqual(await offers(page), { in: 0, out: 1 });
    await checkPath(page, program, here, there, hidden);
    await exchange(page, program, here, there, "Clear sky here");
    assert.deepEqual(await errors(page), []);
    if (set !== tabs) await set.close();
  });
}

async function checkPath(page, program, here, there, hidden) {
  const told = await candidates(page, there.peer_id);
  assert.ok(told.length > 0 && told.every((address) => address.endsWith(".local") === hidden), told.join());
  const { atPage, atAgent } = await paths(page, program, here, there);
  // A check can overtake the candidate that it comes from; and where no address is told, the agent has nothing but the check.
  const ofAgent = hidden ? ["prflx"] : ["host", "prflx"];
  assert.ok(["host", "prflx"].includes(atPage.remote.type), atPage.remote.type);
  assert.ok(ofAgent.includes(atAgent.remote), atAgent.remote);
}

test("a thousand messages each way at once, in order, and large ones among them", async () => {
  const { page, program, here, there } = await pair();
  const texts = Array.from({ length: MESSAGES }, (_, n) => `${n} ${n % 100 === 99 ? LARGE : "x".repeat(n % 200)}`);
  for (const text of texts) program.send(here.peer_id, { type: "text", payload: { text } });
  await page.evaluate(
    async ({ to, texts }) => {
      for (const text of texts) {
        // Where the channel takes no more for now, it is asked again.
        for (let sent = false; !sent; ) {
          try {
            globalThis.t.client.sendTo(to, { type: "text", payload: { text } });
            sent = true;
          } catch (error) {
            if (error.code !== "buffer_full") throw error;
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }
      }
    },
    { to: there.peer_id, texts },
  );
  for (const [n, text] of texts.entries()) assert.ok((await program.heard(here.peer_id)).payload.text === text, `message ${n} at the agent`);
  await page.waitForFunction((count) => globalThis.t.received.length >= count, MESSAGES);
  const wrong = await page.evaluate((texts) => globalThis.t.received.findIndex(({ payload }, n) => payload.text !== texts[n]), texts);
  assert.equal(wrong, -1, "the first message at the page that is not what was sent");

  // What is too large for the other side is refused here, and does no harm.
  program.send(here.peer_id, { type: "text", payload: { text: "x".repeat(900_000) } });
  const refused = await program.expect("error");
  assert.equal(refused.code, "too_large");
  const code = await page.evaluate((to) => {
    try {
      return globalThis.t.client.sendTo(to, { type: "text", payload: { text: "x".repeat(900_000) } });
    } catch (error) {
      return error.code;
    }
  }, there.peer_id);
  assert.equal(code, "too_large");
  await exchange(page, program, here, there, "Still here");
});

test("a ping is the programs' own affair: with an answer the page has its round trip, without one no harm is done", async () => {
  const { page, program, here, there } = await pair();
  const ping = (bound) =>
    page.evaluate(
      ({ peer, bound }) =>
        globalThis.t.client.peers
          .get(peer)
          .ping(bound)
          .then((ms) => typeof ms, (error) => error.code),
      { peer: there.peer_id, bound },
    );
  assert.equal(await ping(200), "timeout");
  assert.equal((await program.heard(here.peer_id)).type, "ping");
  await exchange(page, program, here, there, "Nobody minds");

  const answered = ping(20_000);
  const { type, request_id } = await program.heard(here.peer_id);
  assert.equal(type, "ping");
  program.send(here.peer_id, { type: "pong", request_id });
  assert.equal(await answered, "number");

  // The other way the page answers by itself.
  program.send(here.peer_id, { type: "ping", request_id: "from the agent" });
  const pong = await program.heard(here.peer_id);
  assert.deepEqual([pong.type, pong.request_id, pong.source_agent], ["pong", "from the agent", here.peer_id]);
});

for (const first of ["page", "agent"]) {
  // Of two peers the one that registered later gives way.
  test(`both offer at the same moment: one channel, both ways, and the ${first === "page" ? "agent" : "page"} gives way`, async () => {
    const { page, program, here, there } = await pair(first);
    assert.equal(await page.evaluate((peer) => globalThis.t.client.peers.get(peer).polite, there.peer_id), first === "agent");
    for (let round = 0; round < 3; round += 1) {
      await disconnect(page, there.peer_id);
      await program.disconnected(here.peer_id);
      // The page's offer stays in its hand until the agent's is there: glare, beyond doubt.
      await page.evaluate(() => Object.assign(globalThis.t, { heldOut: [], heldIn: [] }));
      await connect(page, there.peer_id);
      program.connect(here.peer_id);
      await page.waitForFunction(
        (peer) => {
          const { heldOut, heldIn, client } = globalThis.t;
          const held = (type) => heldOut.some((frame) => frame.type === type);
          return held("offer") && held("ice_candidate") && heldIn.length > 0 && client.peers.get(peer).connection.signalingState === "have-local-offer";
        },
        there.peer_id,
      );
      await page.evaluate(() => {
        const { heldOut, heldIn } = globalThis.t;
        Object.assign(globalThis.t, { heldOut: null, heldIn: null });
        for (const { go } of [...heldOut, ...heldIn]) go();
      });
      await bothOpen(page, program, here, there);
      await exchange(page, program, here, there, `round ${round}`);
    }
    assert.deepEqual(await errors(page), []);
  });
}

for (const first of ["page", "agent"]) {
  test(`both are told to connect at the same moment, the ${first} came first: one channel, both ways`, async () => {
    const { page, program, here, there } = await pair(first);
    for (let round = 0; round < 4; round += 1) {
      await disconnect(page, there.peer_id);
      await program.disconnected(here.peer_id);
      program.connect(here.peer_id);
      await connect(page, there.peer_id);
      await bothOpen(page, program, here, there);
      await exchange(page, program, here, there, `round ${round}`);
    }
    assert.deepEqual(await errors(page), []);
  });
}

test("a page that is reloaded and an agent that is killed come back", async () => {
  const { page, agent, program, here, there } = await pair();
  await page.reload();
  await join(page, here);
  await program.disconnected(here.peer_id);
  await bothOpen(page, program, here, there);
  await exchange(page, program, here, there, "The page is back");

  await agent.kill();
  await agent.startAgain();
  const again = await agent.attach();
  await bothOpen(page, again, here, there);
  await exchange(page, again, here, there, "The agent is back");
  assert.deepEqual(await errors(page), []);
});

test("what the page closes stays closed until somebody asks", async () => {
  const { page, program, here, there } = await pair();
  await disconnect(page, there.peer_id);
  await program.disconnected(here.peer_id);
  const { present, connection, channel } = await program.peer(here.peer_id);
  assert.deepEqual([present, connection, channel], [true, "none", "none"]);
  program.send(here.peer_id, { type: "text" });
  assert.equal((await program.expect("error")).code, "not_connected");
  // That something does not happen can only be seen by giving it time.
  await new Promise((resolve) => setTimeout(resolve, RETRIES_MS));
  assert.equal((await offers(page)).in, 0);

  program.connect(here.peer_id);
  await bothOpen(page, program, here, there);
  assert.equal((await offers(page)).in, 1);
  await exchange(page, program, here, there, "And on");
});

test("a revoked page loses its channel, and gets no other", async () => {
  const { page, program, here, there } = await pair();
  assert.equal((await server.call("POST", `/api/pairing/${here.pairing_id}/revoke`)).status, 200);
  await program.disconnected(here.peer_id);
  await closed(page, there.peer_id);
  program.connect(here.peer_id);
  program.send(here.peer_id, { type: "text" });
  assert.equal((await program.expect("error", ({ command }) => command === "send")).code, "unknown_peer");
});
