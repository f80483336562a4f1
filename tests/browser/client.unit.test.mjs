// The browser client without a browser: its decisions, and its manners on the socket. The server is played by the test.

import { test } from "node:test";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

// As a data URL it is a module by its type; a bare .js file is one only for some versions of Node.
const source = await readFile(new URL("../../web/client.js", import.meta.url), "utf8");
const client = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);
const { HeliographClient, HeliographError, LIMITS, CAPABILITIES, afterClose, backoffDelay, isPolite, judgeOffer, readCandidate, readClaims, retryAfterMs, sessionId, socketUrl } = client;

// -- decisions ----------------------------------------------------------------------------------------------------------

test("backoff: full jitter under a doubling ceiling, capped, a hint is a floor", () => {
  const ceiling = (attempt, more) => backoffDelay(attempt, { random: () => 0.999999, ...more });
  assert.equal(backoffDelay(0, { random: () => 0 }), 0);
  assert.equal(backoffDelay(9, { random: () => 0 }), 0, "the whole range down to nothing is used");
  assert.equal(ceiling(0), 999);
  assert.equal(ceiling(1), 1999);
  assert.equal(ceiling(4), 15_999);
  assert.equal(ceiling(5), 29_999);
  assert.equal(ceiling(1_000_000), 29_999, "no overflow");
  assert.equal(ceiling(-3), 999);
  assert.equal(backoffDelay(0, { floorMs: 5_000, random: () => 0 }), 5_000);
  assert.equal(backoffDelay(0, { floorMs: 5_000, random: () => 0.5 }), 5_500, "those who got the same hint are spread as well");
  const delays = Array.from({ length: 2_000 }, () => backoffDelay(5));
  assert.ok(Math.min(...delays) < 3_000 && Math.max(...delays) > 27_000, "spread over the whole range");
});

test("close codes: who comes back, and with what", () => {
  for (const code of [1000, 4403, 4409]) assert.equal(afterClose(code).comeBack, false, `${code}`);
  for (const code of [1001, 1006, 1009, 1011, 1012, 4401, 4408, 4413, 4429, 4503, 4999]) assert.equal(afterClose(code).comeBack, true, `${code}`);
  assert.equal(afterClose(4401).newToken, true);
  assert.equal(afterClose(1012).newToken, false);
  assert.ok(afterClose(4503).floorMs > 0 && afterClose(4429).floorMs > 0);
});

test("politeness: the server's word first, else opposite answers from the two ids", () => {
  assert.equal(isPolite("a", "b", "impolite"), false);
  assert.equal(isPolite("b", "a", "polite"), true);
  for (const [x, y] of [["a", "b"], ["agent-1", "agent-10"], ["Z", "a"], ["ä", "z"]]) assert.notEqual(isPolite(x, y), isPolite(y, x));
});

test("perfect negotiation: every combination", () => {
  for (const polite of [true, false]) {
    const collision = polite ? "rollback" : "ignore";
    assert.equal(judgeOffer({ polite, makingOffer: false, signalingState: "stable" }), "accept");
    assert.equal(judgeOffer({ polite, makingOffer: true, signalingState: "stable" }), collision);
    assert.equal(judgeOffer({ polite, makingOffer: false, signalingState: "have-local-offer" }), collision);
    assert.equal(judgeOffer({ polite, makingOffer: false, signalingState: "have-local-offer", settingAnswer: true }), "accept");
    assert.equal(judgeOffer({ polite, makingOffer: true, signalingState: "have-local-offer", settingAnswer: true }), collision);
  }
});

test("session id: the same over versions of one connection, different for another", () => {
  const sdp = (id, version) => `v=0\r\no=- ${id} ${version} IN IP4 127.0.0.1\r\ns=-\r\n`;
  assert.equal(sessionId(sdp("77", 2)), sessionId(sdp("77", 3)));
  assert.notEqual(sessionId(sdp("77", 2)), sessionId(sdp("78", 2)));
  for (const nothing of [undefined, null, "", "v=0\r\n"]) assert.equal(sessionId(nothing), null);
});

test("candidates: the original sidecar's empty sdpMid means the line index; garbage is refused", () => {
  assert.deepEqual(readCandidate({ candidate: "candidate:1", sdpMid: "", sdpMLineIndex: 0 }), { candidate: "candidate:1", sdpMid: null, sdpMLineIndex: 0 });
  assert.deepEqual(readCandidate({ candidate: "candidate:1", sdpMid: "0" }), { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: null });
  assert.deepEqual(readCandidate({ candidate: "candidate:1" }), { candidate: "candidate:1", sdpMid: null, sdpMLineIndex: 0 });
  for (const bad of [null, 7, "x", [], {}, { candidate: 7 }, { candidate: null }]) assert.equal(readCandidate(bad), null);
});

test("claims, Retry-After, socket address", () => {
  const jwt = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
  assert.deepEqual(readClaims(jwt({ sub: "agent-ä", exp: 12 })), { sub: "agent-ä", exp: 12 });
  for (const bad of ["", "x", "a.b.c", jwt(7)]) assert.deepEqual(readClaims(bad), { sub: null, exp: null });
  assert.equal(retryAfterMs("3"), 3_000);
  assert.equal(retryAfterMs("Sun, 06 Nov 1994 08:49:37 GMT", Date.parse("Sun, 06 Nov 1994 08:49:30 GMT")), 7_000);
  for (const bad of [null, "", "soon", "-1"]) assert.equal(retryAfterMs(bad), undefined);
  assert.equal(socketUrl("https://signal.example/x"), "wss://signal.example/ws");
  assert.equal(socketUrl("http://127.0.0.1:8080"), "ws://127.0.0.1:8080/ws");
  assert.throws(() => new HeliographClient({ url: "ws://x/ws" }), HeliographError);
});

// -- on the socket ------------------------------------------------------------------------------------------------------

/** The sockets that the client has opened, newest last. */
let sockets = [];

class FakeSocket {
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    sockets.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }
  open() {
    this.readyState = 1;
    this.onopen?.();
  }
  say(type, payload, from = "registry", more = {}) {
    this.onmessage?.({ data: JSON.stringify({ type, peer_id: from, payload, ...more }) });
  }
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

/** Enough of a connection to see whether an offer is made. */
class FakeConnection {
  connectionState = "new";
  signalingState = "stable";
  localDescription = null;
  remoteDescription = null;
  candidates = [];
  createDataChannel(label, options) {
    this.channel = { label, options, readyState: "connecting", close() {} };
    setImmediate(() => this.onnegotiationneeded?.());
    return this.channel;
  }
  async setLocalDescription() {
    this.signalingState = "have-local-offer";
    this.localDescription = { type: "offer", sdp: "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n" };
  }
  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.signalingState = "stable";
  }
  async addIceCandidate(candidate) {
    this.candidates.push(candidate);
  }
  setConfiguration(configuration) {
    this.configuration = configuration;
  }
  restartIce() {
    this.restarts = (this.restarts ?? 0) + 1;
  }
  close() {
    this.connectionState = "closed";
  }
}

const settle = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

async function until(check, what) {
  for (let i = 0; i < 200; i += 1) {
    if (check()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`not within two seconds: ${what}`);
}

function make(t, options = {}) {
  sockets = [];
  // No jitter: the lower end of every backoff, so that a reconnect is immediate. The spread itself is tested above.
  t.mock.method(Math, "random", () => 0);
  let tokens = 0;
  const events = [];
  const it = new HeliographClient({
    url: "ws://server/ws",
    getToken: async () => {
      tokens += 1;
      return { token: `token-${tokens}`, peer_id: "me", expires_in: 300 };
    },
    WebSocket: FakeSocket,
    RTCPeerConnection: FakeConnection,
    pingIntervalMs: 0,
    ...options,
  });
  for (const type of ["state", "stopped", "revoked", "peerjoined", "peerleft", "peerrevoked", "peer", "signal", "delivered", "undeliverable", "resumed", "goaway", "error"]) {
    it.addEventListener(type, ({ detail }) => events.push({ ...detail, event: type }));
  }
  t.after(() => it.close());
  return { it, events, tokens: () => tokens, last: () => sockets.at(-1), of: (type) => events.filter((e) => e.event === type) };
}

const welcome = (peers = [], more = {}) => ({
  peers,
  version: 1,
  capabilities: [...CAPABILITIES],
  session: { epoch: 7, resume_token: "resume-1", resume_window_ms: 60_000 },
  roles: {},
  ice_servers: [],
  ...more,
});

async function online(x, peers = [], more = {}) {
  const done = x.it.connect();
  await settle();
  x.last().open();
  x.last().say("peer_list", welcome(peers, more));
  await done;
  return x.last();
}

test("hello: authenticate is the first frame, then register; the token is in no address", async (t) => {
  const x = make(t);
  const ws = await online(x);
  assert.equal(ws.url, "ws://server/ws");
  assert.deepEqual(ws.protocols, ["heliograph.mesh.v1"]);
  assert.deepEqual(ws.sent[0], { type: "authenticate", payload: { token: "token-1" } });
  assert.deepEqual(ws.sent[1], { type: "register", peer_id: "me", payload: { version: 1, capabilities: [...CAPABILITIES] } });
  assert.equal(x.it.id, "me");
  assert.equal(x.it.epoch, 7);
  assert.equal(x.it.state, "online");
});

test("the newcomer offers to those in its list and waits for those that join later", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a"], { roles: { a: "impolite" } });
  await settle();
  const offers = () => ws.sent.filter((f) => f.type === "offer");
  assert.equal(offers().length, 1);
  assert.equal(offers()[0].target_id, "a");
  assert.equal(offers()[0].peer_id, "me");
  assert.match(offers()[0].payload.sdp, /^v=0/);
  assert.equal(typeof offers()[0].id, "string");
  assert.equal(x.it.peers.get("a").polite, false);
  const { channel } = x.it.peers.get("a").connection;
  assert.equal(channel.label, "mesh");
  assert.equal(channel.options.ordered, true);

  ws.say("peer_joined", { peer: "b", role: "polite" });
  await settle();
  assert.equal(offers().length, 1, "b is the newcomer there");
  assert.equal(x.it.peers.get("b").polite, true);
});

test("candidates that come before the description wait, up to a bound, in order", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a"]);
  await settle();
  for (let i = 0; i < LIMITS.earlyCandidates + 20; i += 1) ws.say("ice_candidate", { candidate: `candidate:${i}`, sdpMid: "0", sdpMLineIndex: 0 }, "a");
  const pc = x.it.peers.get("a").connection;
  await settle();
  assert.equal(pc.candidates.length, 0);
  ws.say("answer", { sdp: "v=0\r\no=- 9 1 IN IP4 0.0.0.0\r\n" }, "a");
  await until(() => pc.candidates.length > 0, "the candidates are used");
  await until(() => pc.candidates.length === LIMITS.earlyCandidates, "all that were kept");
  assert.deepEqual(pc.candidates.map((c) => c.candidate), Array.from({ length: LIMITS.earlyCandidates }, (_, i) => `candidate:${i}`));
});

test("peers and connections are bounded, with one report", async (t) => {
  const x = make(t);
  const ws = await online(x, Array.from({ length: LIMITS.peers + 10 }, (_, i) => `p${i}`));
  await settle();
  assert.equal(x.it.peers.size, LIMITS.peers);
  assert.equal([...x.it.peers.values()].filter((p) => p.connection).length, LIMITS.connections);
  assert.equal(ws.sent.filter((f) => f.type === "offer").length, LIMITS.connections);
  assert.deepEqual(x.of("error").map((e) => e.error.code), ["too_many_connections"]);
  ws.say("offer", { sdp: "v=0\r\n" }, "one-more");
  assert.equal(x.it.peers.has("one-more"), false);
});

test("a peer cannot speak as the service", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a", "b"]);
  ws.say("peer_revoked", { peer: "me" }, "a");
  ws.say("peer_revoked", { peer: "b" }, "a");
  ws.say("peer_list", welcome([]), "a");
  ws.say("goaway", { reconnect_after_ms: 0 }, "a");
  await settle();
  assert.equal(x.it.state, "online");
  assert.ok(x.it.peers.get("b").present);
  assert.equal(x.of("signal").length, 4, "to the application these are messages like any other");
  assert.equal(sockets.length, 1);
});

test("feedback: delivered, undeliverable with its reason, unknown after the limit; waiting ones are bounded", async (t) => {
  const x = make(t, { feedbackMs: 50 });
  const ws = await online(x);
  const first = x.it.send("note", "a", { n: 1 });
  const frame = ws.sent.at(-1);
  assert.deepEqual({ ...frame, id: "" }, { type: "note", peer_id: "me", target_id: "a", payload: { n: 1 }, id: "" });
  assert.ok(frame.id.length > 0 && frame.id.length <= 64);
  ws.say("delivered", { id: frame.id, target: "a" });
  assert.equal((await first).outcome, "delivered");

  const second = x.it.send("note", "a", {});
  ws.say("undeliverable", { id: ws.sent.at(-1).id, target: "a", reason: "queue_full" });
  assert.deepEqual({ ...(await second), id: "" }, { outcome: "undeliverable", target: "a", id: "", reason: "queue_full" });

  const many = Array.from({ length: LIMITS.pending + 1 }, () => x.it.send("note", "a", {}));
  assert.deepEqual(await many.at(-1), { outcome: "undeliverable", target: "a", reason: "too_many_pending" });
  const outcomes = await Promise.all(many.slice(0, -1));
  assert.ok(outcomes.every((o) => o.outcome === "unknown" && o.reason === "timeout"));
  assert.equal((await x.it.send("note", "a", "x".repeat(LIMITS.frameBytes))).reason, "too_large");
  assert.equal((await x.it.send("note", "a", "ä".repeat(LIMITS.frameBytes / 2))).reason, "too_large", "bytes are counted, not characters");
});

test("only what was granted is used", async (t) => {
  const x = make(t);
  const ws = await online(x, [], { capabilities: ["events"] });
  assert.equal((await x.it.send("note", "a", {})).reason, "not_granted");
  assert.equal(Object.hasOwn(ws.sent.at(-1), "id"), false);
  ws.end(1006);
  await until(() => sockets.length === 2, "a new socket");
  x.last().open();
  assert.deepEqual(x.last().sent.map((f) => f.type), ["authenticate", "register"], "no resume");
});

test("after a drop: resume comes before register, a token that is still good is used again", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a"]);
  const waiting = x.it.send("note", "a", {});
  ws.end(1006);
  assert.equal(x.it.state, "waiting");
  await until(() => sockets.length === 2, "a new socket");
  x.last().open();
  assert.deepEqual(x.last().sent.map((f) => f.type), ["authenticate", "resume", "register"]);
  assert.deepEqual(x.last().sent[1].payload, { resume_token: "resume-1", received: 0 });
  assert.equal(x.last().sent[0].payload.token, "token-1");
  x.last().say("resumed", { recovered: 1, lost: 0 });
  x.last().say("note", { late: true }, "a");
  x.last().say("delivered", { id: ws.sent.find((f) => f.type === "note").id, target: "a" });
  x.last().say("peer_list", welcome(["a"], { session: { epoch: 8, resume_token: "resume-2", resume_window_ms: 60_000 } }));
  assert.equal((await waiting).outcome, "delivered", "feedback may come over the new socket");
  assert.deepEqual(x.of("signal").map((e) => e.payload), [{ late: true }]);
  assert.equal(x.it.epoch, 8);
});

test("resume refused: what was waiting is unknown, and the client goes on as new", async (t) => {
  const x = make(t);
  const ws = await online(x);
  const waiting = x.it.send("note", "a", {});
  ws.end(1006);
  await until(() => sockets.length === 2, "a new socket");
  x.last().open();
  x.last().say("resumed", { recovered: 0, lost: null, fresh: true });
  x.last().say("peer_list", welcome());
  assert.deepEqual({ ...(await waiting), id: "" }, { outcome: "unknown", target: "a", id: "", reason: "connection_lost" });
  assert.equal(x.it.state, "online");
  assert.deepEqual(x.of("resumed"), [{ event: "resumed", recovered: 0, lost: null, fresh: true }]);
});

/** Drops the socket and answers the next one up to its `resume`. */
async function comeBack(x, answer) {
  const before = sockets.length;
  x.last().end(1006);
  await until(() => sockets.length === before + 1, "a new socket");
  x.last().open();
  if (answer) x.last().say("resumed", answer);
  return x.last();
}

const notes = (x) => x.of("signal").map((e) => e.payload);
const asked = (ws) => ws.sent.find((f) => f.type === "resume")?.payload;

test("numbers: the last one is told, what came before is dropped, and they go on over the next sockets", async (t) => {
  const x = make(t);
  const first = await online(x, ["a"]);
  first.say("note", 1, "a", { seq: 1 });
  first.say("undeliverable", { target: "b", reason: "unavailable" }, "registry", { seq: 2 });
  first.say("note", "unnumbered", "a");
  first.say("note", 3, "a", { seq: 3 });
  first.say("note", "again", "a", { seq: 3 });
  first.say("undeliverable", { target: "b", reason: "unavailable" }, "registry", { seq: 2 });
  assert.deepEqual(notes(x), [1, "unnumbered", 3]);
  assert.equal(x.of("undeliverable").length, 1);

  const second = await comeBack(x, { recovered: 1, lost: 0 });
  assert.deepEqual(asked(second), { resume_token: "resume-1", received: 3 });
  second.say("note", "known", "a", { seq: 3 });
  second.say("note", 4, "a", { seq: 4 });
  second.say("peer_list", welcome(["a"], { session: { epoch: 8, resume_token: "resume-2", resume_window_ms: 60_000 } }));
  second.say("note", 5, "a", { seq: 5 });
  assert.deepEqual(notes(x), [1, "unnumbered", 3, 4, 5]);
  assert.deepEqual(x.of("resumed"), [{ event: "resumed", recovered: 1, lost: 0, fresh: false }]);

  assert.deepEqual(asked(await comeBack(x)), { resume_token: "resume-2", received: 5 });
});

for (const [name, answer] of [["that is fresh", { recovered: 0, lost: null, fresh: true }], ["that nobody answers", null]]) {
  test(`numbers: after a resume ${name} they begin at 1 again`, async (t) => {
    const x = make(t);
    (await online(x, ["a"])).say("note", "before", "a", { seq: 9 });
    const waiting = x.it.send("note", "a", {});
    const ws = await comeBack(x, answer);
    ws.say("peer_list", welcome(["a"], { session: { epoch: 8, resume_token: "resume-2", resume_window_ms: 60_000 } }));
    assert.equal((await waiting).reason, "connection_lost");
    ws.say("note", "after", "a", { seq: 1 });
    assert.deepEqual(notes(x), ["before", "after"]);
    assert.deepEqual(asked(await comeBack(x)), { resume_token: "resume-2", received: 1 });
  });
}

test("numbers that are none are taken for no number", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a"]);
  for (const seq of ["7", null, 1.5, {}, 2 ** 60]) ws.say("note", `${seq}`, "a", { seq });
  assert.equal(notes(x).length, 5);
  assert.equal(asked(await comeBack(x)).received, 0);
});

test("when the time for resuming is over, or was never given, there is no resume", async (t) => {
  for (const session of [{ epoch: 7, resume_token: "resume-1", resume_window_ms: 0 }, { epoch: 7 }]) {
    const x = make(t);
    await online(x, [], { session });
    const waiting = x.it.send("note", "a", {});
    const ws = await comeBack(x);
    assert.deepEqual(ws.sent.map((f) => f.type), ["authenticate", "register"]);
    assert.equal((await waiting).reason, "connection_lost", "nobody will answer");
  }
});

test("a list that comes unasked is taken like any other, and leaves the way to resume as it is", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a", "b"], { roles: { a: "polite" } });
  ws.say("peer_list", welcome(["a", "c"], { session: { epoch: 7 }, roles: { a: "impolite" } }));
  await settle();
  assert.equal(x.it.peers.get("a").role, "impolite");
  assert.equal(x.it.peers.get("b").present, false);
  assert.deepEqual(ws.sent.filter((f) => f.type === "offer").map((f) => f.target_id), ["a", "b", "c"], "who is there already is left alone");
  ws.say("note", 1, "a", { seq: 1 });
  assert.deepEqual(asked(await comeBack(x)), { resume_token: "resume-1", received: 1 });
});

test("lost messages: ICE starts again where there is no connection yet, and only there", async (t) => {
  for (const [lost, restarts] of [[0, undefined], [2, 1]]) {
    const x = make(t);
    await online(x, ["up", "half"]);
    await settle();
    const [up, half] = ["up", "half"].map((id) => x.it.peers.get(id).connection);
    for (const pc of [up, half]) pc.signalingState = "stable";
    up.connectionState = "connected";
    half.connectionState = "connecting";
    const ws = await comeBack(x, { recovered: 0, lost });
    ws.say("peer_list", welcome(["up", "half"]));
    assert.deepEqual([up.restarts, half.restarts], [undefined, restarts], `${lost} lost`);
  }
});

test("no list because other nodes are away: the session goes on, and the list is asked for again", async (t) => {
  const x = make(t);
  await online(x, ["a"]);
  const ws = await comeBack(x, { recovered: 0, lost: 0 });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const registers = () => ws.sent.filter((f) => f.type === "register").length;
  for (let i = 2; i < 20; i += 1) {
    ws.say("error", { code: "bus_unavailable", message: "later" });
    t.mock.timers.tick(LIMITS.backoffBaseMs);
    assert.equal(registers(), i);
  }
  ws.say("note", 1, "a", { seq: 1 });
  assert.deepEqual(notes(x), [1]);
  ws.say("peer_list", welcome(["a"]));
  t.mock.timers.tick(LIMITS.handshakeMs);
  assert.deepEqual([x.it.state, ws.closedWith], ["online", undefined]);
});

test("given up for lost, and delivered after all", async (t) => {
  const x = make(t);
  const ws = await online(x);
  const sent = x.it.send("note", "a", {});
  const { id } = ws.sent.at(-1);
  ws.say("undeliverable", { id, target: "a", reason: "expired" });
  assert.equal((await sent).reason, "expired");
  ws.say("delivered", { id, target: "a" });
  assert.deepEqual(x.of("delivered"), [{ event: "delivered", id, target: "a" }]);

  const other = x.it.send("note", "a", {});
  ws.say("delivered", { id: ws.sent.at(-1).id, target: "a" });
  assert.equal((await other).outcome, "delivered");
  assert.equal(x.of("delivered").length, 1, "whom the promise told needs no event");
});

test("only a farewell is closed with 1000: the server would end the session", async (t) => {
  const x = make(t);
  await online(x);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  x.last().end(1006);
  t.mock.timers.tick(1);
  await settle();
  const silent = x.last();
  silent.open();
  t.mock.timers.tick(LIMITS.handshakeMs);
  assert.equal(silent.closedWith, 4408);
  t.mock.timers.tick(LIMITS.backoffCapMs);
  await settle();
  const next = x.last();
  assert.notEqual(next, silent);
  next.open();
  assert.equal(asked(next).resume_token, "resume-1", "it is tried again");
  next.say("resumed", { recovered: 0, lost: 0 });
  next.say("peer_list", welcome());
  x.it.close();
  assert.equal(next.closedWith, 1000);
});

test("4401: a new token at once, the second time by backoff", async (t) => {
  const x = make(t);
  x.it.connect().catch(() => {});
  await settle();
  x.last().open();
  x.last().end(4401);
  await settle();
  assert.equal(sockets.length, 2);
  assert.equal(x.of("state").some((e) => e.state === "waiting"), false, "at once");
  x.last().open();
  assert.equal(x.last().sent[0].payload.token, "token-2");
  x.last().end(4401);
  assert.equal(x.it.state, "waiting");
  await until(() => sockets.length === 3, "a third try");
});

for (const [code, reason] of [[4403, "not_allowed"], [4409, "superseded"], [1000, "normal"]]) {
  test(`${code}: does not come back and says so`, async (t) => {
    const x = make(t);
    (await online(x)).end(code, "because");
    assert.equal(x.it.state, "stopped");
    assert.deepEqual(x.of("stopped").map((e) => [e.code, e.reason]), [[code, reason]]);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(sockets.length, 1);
  });
}

test("a credential that is refused ends it; a server that cannot answer does not", async (t) => {
  const refused = make(t, { getToken: async () => Promise.reject(new HeliographError("unauthorized", "no", { status: 401 })) });
  await assert.rejects(refused.it.connect(), { code: "credential_refused" });
  assert.equal(refused.it.state, "stopped");

  let calls = 0;
  const busy = make(t, {
    getToken: async () => {
      calls += 1;
      if (calls < 3) throw new HeliographError("unavailable", "later", { status: 503, retryAfterMs: 20 });
      return { token: "t", peer_id: "me" };
    },
  });
  busy.it.connect().catch(() => {});
  await settle();
  assert.equal(busy.it.state, "waiting");
  assert.ok(busy.of("state").find((e) => e.state === "waiting").retryInMs >= 20, "the server's hint is a floor");
  await until(() => sockets.length === 1, "the third call brings a socket");
  assert.equal(calls, 3);
});

test("revoked itself: says so, stops, makes no offers; revoked counterpart: its connection is closed", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a", "b"]);
  await settle();
  const pc = x.it.peers.get("a").connection;
  ws.say("peer_revoked", { peer: "a" });
  assert.equal(pc.connectionState, "closed");
  assert.equal(x.it.peers.has("a"), false);
  assert.equal(x.it.state, "online");

  ws.say("peer_revoked", { peer: "me" });
  assert.equal(x.it.state, "stopped");
  assert.equal(x.of("revoked").length, 1);
  assert.equal(x.of("stopped")[0].reason, "revoked");
  assert.equal(ws.closedWith, 1000);
  assert.throws(() => x.it.connectTo("b"), { code: "revoked" });
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(sockets.length, 1);
});

/** A client that was told to move, and its two sockets; the new one has asked to resume. */
async function moving(t) {
  const x = make(t);
  const old = await online(x, ["a"]);
  old.say("note", 1, "a", { seq: 1 });
  old.say("goaway", { reconnect_after_ms: 10, deadline_ms: 20_000 });
  await until(() => sockets.length === 2, "the second socket");
  const before = x.it.send("note", "a", {});
  assert.equal(old.sent.at(-1).type, "note", "until then the old one is used");
  const next = x.last();
  next.open();
  assert.deepEqual(next.sent.map((f) => f.type), ["authenticate", "resume", "register"]);
  assert.deepEqual(asked(next), { resume_token: "resume-1", received: 1 });
  assert.equal(x.it.state, "online", "nobody notices the move");
  return { x, old, next, before };
}

const moved = (peers) => welcome(peers, { session: { epoch: 9, resume_token: "resume-9", resume_window_ms: 60_000 } });

test("goaway: a new socket resumes, and the old one is read until the server closes it", async (t) => {
  const { x, old, next, before } = await moving(t);
  old.say("note", 2, "a", { seq: 2 });
  const during = x.it.send("note", "a", {});
  const [first, second] = [old, next].map((ws) => ws.sent.at(-1).id);
  next.say("resumed", { recovered: 2, lost: 0 });
  next.say("note", "came over both", "a", { seq: 2 });
  next.say("delivered", { id: first, target: "a" }, "registry", { seq: 3 });
  assert.equal((await before).outcome, "delivered", "sent over the old one, answered over the new one");
  old.say("delivered", { id: first, target: "a" }, "registry", { seq: 3 });
  next.say("peer_list", moved(["a", "b"]));
  old.say("note", 4, "a", { seq: 4 });
  old.say("peer_left", { peer: "b" });
  old.say("peer_list", welcome([]));
  assert.ok(x.it.peers.get("b").present, "the new one's list has the news");
  next.say("delivered", { id: second, target: "a" }, "registry", { seq: 5 });
  assert.equal((await during).outcome, "delivered", "sent over the new one before it had answered");
  assert.deepEqual(notes(x), [1, 2, 4]);
  assert.equal(x.of("delivered").length, 0);
  assert.equal(old.closedWith, undefined);
  old.end(4409, "superseded by a newer session");
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(x.it.state, "online");
  assert.deepEqual([sockets.length, x.of("stopped").length], [2, 0]);
  assert.equal(x.it.epoch, 9);
});

test("goaway: an old socket that is left open is closed after a while", async (t) => {
  const { x, old, next } = await moving(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  next.say("resumed", { recovered: 0, lost: 0 });
  next.say("peer_list", moved(["a"]));
  t.mock.timers.tick(LIMITS.handshakeMs - 1);
  assert.equal(old.closedWith, undefined);
  t.mock.timers.tick(1);
  assert.notEqual(old.closedWith, undefined);
  assert.deepEqual([x.it.state, sockets.length], ["online", 2]);
});

test("goaway: when the new socket fails, the old one goes on, and what only the new one had is unknown", async (t) => {
  const { x, old, next } = await moving(t);
  const lost = x.it.send("note", "a", {});
  next.end(1006);
  assert.deepEqual({ ...(await lost), id: "" }, { outcome: "unknown", target: "a", id: "", reason: "connection_lost" });
  x.it.send("note", "a", {});
  assert.equal(old.sent.at(-1).type, "note");
  old.say("note", 2, "a", { seq: 2 });
  await until(() => sockets.length === 3, "it tries again");
  x.last().open();
  assert.deepEqual(asked(x.last()), { resume_token: "resume-1", received: 2 });
});

test("goaway: nothing to go on with at the new node; what the old socket still brings has numbers of its own", async (t) => {
  const { x, old, next, before } = await moving(t);
  next.say("resumed", { recovered: 0, lost: null, fresh: true });
  next.say("peer_list", moved(["a"]));
  assert.equal((await before).reason, "connection_lost");
  next.say("note", "new 1", "a", { seq: 1 });
  old.say("note", "old 2", "a", { seq: 2 });
  next.say("note", "new 2", "a", { seq: 2 });
  assert.deepEqual(notes(x), [1, "new 1", "old 2", "new 2"]);
});

test("goaway: when the old socket is superseded before the new one has answered, the client is on its way, not stopped", async (t) => {
  const x = make(t);
  const old = await online(x, ["a"]);
  old.say("goaway", { reconnect_after_ms: 0, deadline_ms: 20_000 });
  await until(() => sockets.length === 2, "the second socket");
  x.last().open();
  old.end(4409, "superseded");
  assert.equal(x.it.state, "connecting");
  x.last().say("peer_list", welcome(["a"]));
  assert.equal(x.it.state, "online");
  assert.equal(x.of("stopped").length, 0);
});

test("malformed frames are survived", async (t) => {
  const x = make(t);
  const ws = await online(x, ["a"]);
  for (const data of ["", "{", "null", "7", "[]", '{"type":7,"peer_id":"registry"}', '{"type":"peer_list"}', '{"type":"peer_joined","peer_id":"registry","payload":{"peer":7}}', '{"type":"peer_joined","peer_id":"registry"}', '{"type":"offer","peer_id":"a","payload":null}', '{"type":"answer","peer_id":"a"}', '{"type":"ice_candidate","peer_id":"a","payload":[]}', '{"type":"ice_servers","peer_id":"registry","payload":{"ice_servers":7}}', new ArrayBuffer(8)]) {
    ws.onmessage({ data });
  }
  await settle();
  assert.equal(x.it.state, "online");
  ws.say("peer_joined", { peer: "c" });
  assert.ok(x.it.peers.get("c").present);
});
