// The demonstration page: enrol, wait for approval, connect, see what happens, exchange text.
//
// A device is a tab. What it needs to come back after a reload is kept in sessionStorage, which belongs to one tab: a second tab is a second
// device. The admin key is another matter: tabs share it (see admin.js).

import { HeliographClient, backoffDelay, exchangeToken } from "/client.js";
import { ApiError, api, call, checkKey, follow, keyRing, reportSentence, untilEnforced } from "/assets/admin.js";
import { $, busy, clock, coalesce, confirmDialog, h, notify, plural, reconcile, s, setPill, setText, setWhen, when } from "/assets/ui.js";

const DEVICE = "heliograph.device";
const PAIRING = "heliograph.pairing";
const MESSAGES_KEPT = 200;
const FRAMES_KEPT = 200;

/** Stations of old heliograph lines, as names for devices. */
const STATIONS = ["Bowie", "Graham", "Huachuca", "Cochise", "Rucker", "Elliott", "Antelope", "Swisshelm", "Emma", "Tubac", "Capitan", "Alma", "Deming", "Hillsboro", "Lookout", "Bayard"];

const remember = (name, value) => (value === null ? sessionStorage.removeItem(name) : sessionStorage.setItem(name, JSON.stringify(value)));
const recall = (name) => {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
};

let client = null;
/** {token, peer_id, name} of this tab's device, or null. */
let device = recall(DEVICE);
/** Ends what waits for approval. */
let waiting = null;
/** Peer id → name, as the pairing service or the peer itself says. */
const names = new Map();
/** Peer id → what its card shows beyond the client's own properties. */
const measured = new Map();

const nameOf = (id) => names.get(id) ?? id;

// -- joining ------------------------------------------------------------------------------------------------------------

function show(phase) {
  $("join").hidden = phase !== "start";
  $("code-block").hidden = phase !== "start";
  $("waiting").hidden = phase !== "waiting";
  $("joined").hidden = phase !== "joined";
  $("intro").hidden = phase === "joined";
  for (const id of ["mesh-card", "messages-card", "log-card"]) $(id).hidden = phase !== "joined";
}

function alertDevice(title, text, ...actions) {
  const place = $("device-alert");
  place.replaceChildren();
  if (title) place.append(h("div", { class: "banner" }, h("p", { class: "banner-title", text: title }), h("p", { text }), h("div", { class: "row" }, ...actions)));
}

async function adminKey() {
  if (keyRing.key) return keyRing.key;
  const key = $("key").value.trim();
  if (key === "") {
    $("key").focus();
    throw new Error("Paste the admin key first, or use an invite code.");
  }
  try {
    await checkKey(key);
  } catch (error) {
    $("key").focus();
    throw error;
  }
  keyRing.keep(key);
  $("key").value = "";
  return key;
}

/** Redeems a code: this tab is then a device that waits for approval. */
async function redeem(code, name) {
  const { answer } = await call("POST", "/api/pairing/pair", { body: { code, agent_name: name } });
  const pairing = { id: answer.id, peer_id: answer.peer_id, claim_token: answer.claim_token, name };
  remember(PAIRING, pairing);
  await awaitApproval(pairing);
}

/** Waits, across reloads and short outages, until somebody has decided. */
async function awaitApproval(pairing) {
  waiting?.abort();
  const stop = new AbortController();
  waiting = stop;
  alertDevice(null);
  show("waiting");
  paintState();
  setText($("waiting-text"), `${pairing.name} (${pairing.peer_id}) waits for approval.`);
  refreshAdmin();

  const over = (title, text) => {
    remember(PAIRING, null);
    waiting = null;
    show("start");
    paintState();
    alertDevice(title, text);
  };

  for (let failures = 0; !stop.signal.aborted; ) {
    const asked = performance.now();
    try {
      const { answer } = await call("GET", `/api/pairing/${encodeURIComponent(pairing.id)}/status?wait=30`, { bearer: pairing.claim_token, signal: stop.signal });
      failures = 0;
      if (answer.status === "approved") {
        if (!answer.device_token) return over("Approved, but for somebody else", "The token of this device was handed out already. Join again.");
        remember(PAIRING, null);
        waiting = null;
        device = { token: answer.device_token, peer_id: answer.peer_id ?? pairing.peer_id, name: pairing.name };
        remember(DEVICE, device);
        start();
        return undefined;
      }
      if (answer.status === "rejected") return over("Not approved", "An administrator has rejected this device.");
      if (answer.status === "revoked") return over("Revoked", "This device was revoked before it could join.");
    } catch (error) {
      if (stop.signal.aborted) return undefined;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) return over("This request is gone", "The server does not know it any more. Join again.");
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, backoffDelay(failures, { floorMs: error.retryAfterMs ?? 0 })));
    }
    // A server that does not wait would otherwise be asked as fast as it can answer.
    const rest = 500 - (performance.now() - asked);
    if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
  }
  return undefined;
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  busy($("join-button"), async () => {
    const key = await adminKey();
    const invite = await api(key).post("/api/pairing/generate-code", {});
    // Not awaited to its end: the button is free again as soon as the code is redeemed.
    redeem(invite.code, $("name").value.trim()).catch((error) => notify(error.message, { error: true }));
  });
});

$("join-code").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, async () => {
    redeem($("code").value.trim(), $("name").value.trim()).catch((error) => {
      notify(error.message, { error: true });
      $("code").focus();
    });
  });
});

$("waiting-cancel").addEventListener("click", () => {
  waiting?.abort();
  waiting = null;
  remember(PAIRING, null);
  show("start");
  paintState();
  $("join-button").focus();
});

$("leave").addEventListener("click", () => {
  forgetDevice();
  $("name").focus();
});

$("take-over").addEventListener("click", () => {
  alertDevice(null);
  $("take-over").hidden = true;
  client.connect().catch(() => {});
});

function forgetDevice() {
  client?.close();
  client = null;
  device = null;
  remember(DEVICE, null);
  alertDevice(null);
  $("name").value = freshName();
  show("start");
  paintState();
  paintPeers();
}

function freshName() {
  return STATIONS[Math.floor(Math.random() * STATIONS.length)];
}

// -- the client ---------------------------------------------------------------------------------------------------------

function start() {
  show("joined");
  alertDevice(null);
  setText($("own-name"), device.name);
  setText($("own-id"), device.peer_id);
  document.title = `${device.name} · Heliograph`;
  names.set(device.peer_id, device.name);

  client?.close();
  client = new HeliographClient({ getToken: () => exchangeToken({ deviceToken: device.token }), pingIntervalMs: 2_000 });
  // For the browser's own console: heliograph.client.peers, heliograph.client.send(…)
  globalThis.heliograph = { client };

  const current = client;
  const on = (type, listener) =>
    current.addEventListener(type, (event) => {
      if (current === client) listener(event.detail);
    });

  on("state", (detail) => {
    paintState(detail);
    if (detail.state === "waiting") trace({ direction: "note", type: "waiting", note: `next attempt in ${(detail.retryInMs / 1000).toFixed(1)} s` });
  });
  on("stopped", stopped);
  on("peerlist", ({ peers }) => {
    paintState();
    say(peers.length === 0 ? "Connected to the mesh. No other peers yet." : `Connected to the mesh with ${plural(peers.length, "other peer")}.`);
  });
  on("peerjoined", ({ peer }) => say(`${nameOf(peer.id)} has joined.`));
  on("peerleft", ({ peer }) => say(`${nameOf(peer.id)} has left.`));
  on("peerrevoked", ({ peer }) => {
    notify(`${nameOf(peer.id)} was revoked. The connection with it is closed.`);
    system(`${nameOf(peer.id)} was revoked; the connection with it is closed.`);
  });
  on("peer", ({ peer, removed }) => {
    if (removed) measured.delete(peer.id);
    schedulePaint();
  });
  on("channelopen", ({ peer }) => {
    // A peer has no other way to learn our name: the service gives names to administrators only.
    peer.send({ type: "agent_status", source_agent: client.id, target_agent: peer.id, payload: { name: device.name } });
    say(`The channel to ${nameOf(peer.id)} is open.`);
    system(`Channel to ${nameOf(peer.id)} open.`);
    measure();
  });
  on("channelclose", ({ peer }) => system(`Channel to ${nameOf(peer.id)} closed.`));
  on("message", received);
  on("goaway", ({ reconnectAfterMs }) => trace({ direction: "note", type: "goaway", note: `moving in ${Math.round(reconnectAfterMs)} ms` }));
  on("trace", trace);
  on("error", ({ error }) => trace({ direction: "note", type: "error", note: error.message }));

  client.connect().catch(() => {
    // "stopped" has told it.
  });
  paintState();
  paintPeers();
}

function stopped({ reason, message }) {
  const again = h("button", { type: "button", class: "primary", onclick: forgetDevice }, "Join as a new device");
  if (reason === "credential_refused") {
    alertDevice("Signaling has stopped: this device is not accepted any more", "It was revoked, or the server does not know it. It cannot come back; it can join again as a new device.", again);
  } else if (reason === "revoked" || reason === "not_allowed") {
    alertDevice(
      "Signaling has stopped: this device was revoked",
      "An administrator has taken its right away. It can no longer find other peers, be found or send anything through the server.",
      again,
    );
  } else if (reason === "superseded") {
    alertDevice("Signaling has stopped: this device is open elsewhere", "A newer session of the same device has taken its place.", again);
    $("take-over").hidden = false;
  } else {
    alertDevice("Signaling has stopped", message || "The server has ended the session.", again);
    $("take-over").hidden = false;
  }
  system("Signaling has stopped.");
  paintState();
  paintPeers();
}

const STATE_WORD = {
  idle: "not joined",
  connecting: "connecting",
  online: "online",
  waiting: "reconnecting",
  stopped: "stopped",
  closed: "not joined",
};

function paintState() {
  const state = client?.state ?? "idle";
  if (waiting) setPill($("state"), "pending_approval");
  else setPill($("state"), state, STATE_WORD[state]);
  setText($("own-socket"), state === "waiting" ? "lost, coming back by itself" : STATE_WORD[state]);
  setText($("own-session"), client?.epoch ?? "–");
  setText($("own-granted"), client && client.capabilities.length > 0 ? client.capabilities.join(", ") : "–");
}

/** Said to screen readers; sighted people see it in the list. */
function say(text) {
  setText($("mesh-status"), text);
}

// -- peers --------------------------------------------------------------------------------------------------------------

const schedulePaint = coalesce(async () => paintPeers(), 30);

function stateOf(peer) {
  if (peer.open) return ["open", "connected"];
  if (peer.connectionState === "failed") return ["failed", "connection failed"];
  if (peer.connectionState !== "none" && peer.connectionState !== "closed") return ["connecting", "connecting"];
  if (peer.ended === "failed" || peer.ended === "unreachable") return ["failed", peer.ended];
  return peer.present ? ["idle", "listed"] : ["idle", "left"];
}

function factLine(term, field) {
  return h("div", {}, h("dt", { text: term }), h("dd", { data: { field } }));
}

function createPeer(peer) {
  const id = peer.id;
  return h(
    "li",
    { class: "peer", "aria-label": id },
    h(
      "div",
      { class: "peer-head" },
      h("div", {}, h("h3", { data: { field: "name" } }), h("p", { class: "mono muted", text: id })),
      h("span", { data: { field: "state" } }),
    ),
    h(
      "dl",
      { class: "facts tight" },
      h("div", {}, h("dt", { text: "Round trip" }), h("dd", {}, h("span", { data: { field: "rtt" }, class: "figure" }), s("svg", { class: "spark", viewBox: "0 0 80 20", "aria-hidden": "true" }, s("polyline", { points: "" })))),
      factLine("Role", "role"),
      factLine("Local candidates", "local"),
      factLine("Remote candidates", "remote"),
      h("div", { class: "span" }, h("dt", { text: "Selected pair" }), h("dd", { class: "mono", data: { field: "pair" } })),
    ),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "secondary small", data: { field: "write" }, onclick: () => writeTo(id) }, "Write"),
      h("button", { type: "button", class: "secondary small", data: { field: "connect" }, onclick: () => client.connectTo(id) }, "Connect"),
      h("button", { type: "button", class: "danger quiet small", data: { field: "revoke" }, onclick: (event) => revoke(event.currentTarget, id) }, "Revoke"),
    ),
  );
}

function updatePeer(element, peer) {
  const field = (name) => element.querySelector(`[data-field="${name}"]`);
  const m = measured.get(peer.id) ?? {};
  const name = nameOf(peer.id);
  element.setAttribute("aria-label", name);
  setText(field("name"), name);
  const [status, word] = stateOf(peer);
  setPill(field("state"), status, word);
  element.dataset.status = status;
  setText(field("rtt"), peer.rttMs === null ? "–" : `${peer.rttMs < 10 ? peer.rttMs.toFixed(1) : Math.round(peer.rttMs)} ms`);
  setText(field("role"), `${peer.polite ? "polite" : "impolite"}${peer.role ? "" : " (by id)"}`);
  setText(field("local"), m.stats?.localTypes.join(", ") || "–");
  setText(field("remote"), m.stats?.remoteTypes.join(", ") || "–");
  const end = (c) => (c ? `${c.type} ${c.protocol}${c.address ? ` ${c.address}:${c.port}` : ""}` : "?");
  setText(field("pair"), m.stats?.local ? `${end(m.stats.local)} → ${end(m.stats.remote)}` : "–");
  const line = element.querySelector("polyline");
  const points = m.history ?? [];
  const top = Math.max(1, ...points);
  line.setAttribute("points", points.map((v, i) => `${80 - (points.length - 1 - i) * 4},${(18 - (v / top) * 16).toFixed(1)}`).join(" "));
  field("write").hidden = !peer.open;
  field("write").setAttribute("aria-label", `Write to ${name}`);
  field("connect").hidden = peer.connection !== null || !peer.present || client?.state !== "online";
  field("connect").setAttribute("aria-label", `Connect to ${name}`);
  field("revoke").hidden = !keyRing.key;
  field("revoke").setAttribute("aria-label", `Revoke ${name}`);
}

function paintPeers() {
  const peers = client ? [...client.peers.values()].sort((a, b) => Number(b.open) - Number(a.open) || nameOf(a.id).localeCompare(nameOf(b.id))) : [];
  reconcile($("peers"), peers, { key: (p) => p.id, create: createPeer, update: updatePeer });
  $("peers-empty").hidden = peers.length > 0 || client?.state === "stopped";

  const to = $("to");
  const chosen = to.value;
  const open = peers.filter((p) => p.open);
  const options = [{ id: "*", label: "Everyone" }, ...open.map((p) => ({ id: p.id, label: nameOf(p.id) }))];
  reconcile(to, options, {
    key: (o) => o.id,
    create: (o) => h("option", { value: o.id }),
    update: (element, o) => setText(element, o.label),
  });
  to.value = options.some((o) => o.id === chosen) ? chosen : "*";
  paintMap(peers);
}

/** Reads from the browser what the connections really use. */
async function measure() {
  if (!client) return;
  for (const peer of client.peers.values()) {
    if (!peer.connection) continue;
    const m = measured.get(peer.id) ?? { history: [] };
    m.stats = await peer.stats().catch(() => null);
    if (peer.rttMs !== null && peer.rttMs !== m.lastRtt) {
      m.lastRtt = peer.rttMs;
      m.history = [...m.history, peer.rttMs].slice(-20);
    }
    measured.set(peer.id, m);
  }
  schedulePaint();
}

setInterval(() => {
  if (!document.hidden) measure();
}, 2_000);

async function revoke(button, id) {
  const name = nameOf(id);
  const sure = await confirmDialog({
    title: `Revoke ${name}?`,
    text: "It loses its right at once: nothing is relayed to it or from it any more, and its peers close their connections. This cannot be taken back; it would have to join again as a new device.",
    action: "Revoke",
  });
  if (!sure) return;
  await busy(button, async () => {
    const admin = api(keyRing.key);
    const report = await untilEnforced(admin, await admin.post(`/api/pairing/${encodeURIComponent(id)}/revoke?wait=enforced`));
    notify(`${name} is revoked. ${reportSentence(report)}`);
  });
}

// -- the map ------------------------------------------------------------------------------------------------------------

const MAP = { width: 640, drawn: 16 };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Up to two peers stand in a line; more need room around this device. */
const mapHeight = (count) => (count <= 2 ? 150 : 230);

function places(count) {
  const cx = MAP.width / 2;
  const cy = mapHeight(count) / 2 - 8;
  if (count === 0) return { self: [cx, cy], others: [] };
  if (count === 1) return { self: [cx - 170, cy], others: [[cx + 170, cy]] };
  const others = Array.from({ length: count }, (_, i) => {
    const angle = Math.PI + (2 * Math.PI * i) / count;
    return [cx + 240 * Math.cos(angle), cy + 72 * Math.sin(angle)];
  });
  return { self: [cx, cy], others };
}

function node(x, y, label, kind) {
  return s(
    "g",
    { class: `node node-${kind}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
    s("circle", { r: 20, class: "node-halo" }),
    s("circle", { r: 13, class: "node-mirror" }),
    s("path", { d: "M-6 2a7 7 0 0 1 6-8", class: "node-shine" }),
    Object.assign(s("text", { y: 38, "text-anchor": "middle" }), { textContent: label.length > 18 ? `${label.slice(0, 17)}…` : label }),
  );
}

let mapPlaces = new Map();
let mapShape = "";

function paintMap(peers) {
  const drawn = peers.slice(0, MAP.drawn);
  const shape = JSON.stringify([client?.state, device?.name, drawn.map((p) => [p.id, nameOf(p.id), stateOf(p)[0]]), peers.length]);
  if (shape === mapShape) return;
  mapShape = shape;
  const map = $("map");
  const height = mapHeight(drawn.length);
  map.setAttribute("viewBox", `0 0 ${MAP.width} ${height}`);
  const { self, others } = places(drawn.length);
  mapPlaces = new Map(drawn.map((p, i) => [p.id, others[i]]));
  mapPlaces.set("self", self);
  const lines = drawn.map((p, i) => s("line", { x1: self[0], y1: self[1], x2: others[i][0], y2: others[i][1], class: `ray ray-${stateOf(p)[0]}` }));
  const nodes = drawn.map((p, i) => node(...others[i], nameOf(p.id), stateOf(p)[0]));
  const own = node(...self, device ? device.name : "this tab", client?.state === "online" ? "self" : "off");
  map.replaceChildren(s("g", {}, ...lines), s("g", { id: "flashes" }), ...nodes, own);
  if (peers.length > drawn.length) {
    map.append(Object.assign(s("text", { x: MAP.width - 12, y: height - 8, "text-anchor": "end" }), { textContent: `and ${peers.length - drawn.length} more` }));
  }
}

/** A flash of light that runs along the line, one per message. */
function flash(id, outgoing) {
  const there = mapPlaces.get(id);
  const here = mapPlaces.get("self");
  const layer = $("flashes");
  if (!there || !here || !layer || calm.matches || document.hidden || layer.children.length > 20) return;
  const [from, to] = outgoing ? [here, there] : [there, here];
  const spot = s("circle", { r: 6, class: "flash" });
  layer.append(spot);
  const at = ([x, y]) => `translate(${x}px, ${y}px)`;
  const run = spot.animate([{ transform: at(from), opacity: 1 }, { transform: at(to), opacity: 0.9 }], { duration: 520, easing: "ease-in-out" });
  run.onfinish = run.oncancel = () => spot.remove();
}

// -- messages -----------------------------------------------------------------------------------------------------------

function addMessage(kind, who, text) {
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(
    h(
      "li",
      { class: `message message-${kind}` },
      who ? h("span", { class: "message-who", text: who }) : null,
      h("span", { class: "message-text", text }),
      h("time", { class: "muted", text: clock() }),
    ),
  );
  while (list.children.length > MESSAGES_KEPT) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const system = (text) => addMessage("system", null, text);

function received({ peer, message }) {
  if (message?.type === "agent_status" && typeof message.payload?.name === "string") {
    // What the pairing service says about a name counts more than what the peer says about itself.
    if (!fromService.has(peer.id)) names.set(peer.id, message.payload.name.slice(0, 64));
    schedulePaint();
    return;
  }
  flash(peer.id, false);
  const text = typeof message?.payload?.text === "string" ? message.payload.text : JSON.stringify(message);
  addMessage("in", nameOf(peer.id), text.slice(0, 2_000));
}

function writeTo(id) {
  $("to").value = id;
  $("text").focus();
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text === "") return;
  const to = $("to").value;
  const targets = client ? [...client.peers.values()].filter((p) => p.open && (to === "*" || p.id === to)) : [];
  if (targets.length === 0) {
    notify("There is no open channel to send it over.", { error: true });
    return;
  }
  let sent = 0;
  for (const peer of targets) {
    try {
      peer.send({ type: "text", source_agent: client.id, target_agent: to, payload: { text } });
      flash(peer.id, true);
      sent += 1;
    } catch (error) {
      notify(error.message, { error: true });
    }
  }
  if (sent > 0) {
    addMessage("out", to === "*" ? "You, to everyone" : `You, to ${nameOf(to)}`, text);
    $("text").value = "";
  }
});

// -- the log ------------------------------------------------------------------------------------------------------------

const ARROW = { in: ["←", "received"], out: ["→", "sent"], note: ["·", "note"] };

function trace({ direction, type, peer, bytes, note }) {
  const [arrow, word] = ARROW[direction] ?? ARROW.note;
  const list = $("log");
  list.prepend(
    h(
      "li",
      { class: `frame frame-${direction}` },
      h("time", { text: clock() }),
      h("span", { class: "arrow" }, h("span", { "aria-hidden": "true", text: arrow }), h("span", { class: "visually-hidden", text: word })),
      h("span", { class: "mono", text: type }),
      h("span", { class: "muted frame-rest", text: note ?? [peer ? nameOf(peer) : "", bytes ? `${bytes} B` : ""].filter(Boolean).join(" · ") }),
    ),
  );
  while (list.children.length > FRAMES_KEPT) list.lastElementChild.remove();
}

$("log-clear").addEventListener("click", () => $("log").replaceChildren());

// -- administration -----------------------------------------------------------------------------------------------------

/** Peers whose name came from the pairing service. */
const fromService = new Set();
let stopFollowing = null;

const refreshAdmin = coalesce(async () => {
  const key = keyRing.key;
  if (!key) return;
  try {
    const admin = api(key);
    const [pending, { peers }] = [await admin.get("/api/pairing/pending?limit=50"), await admin.get("/api/peers?limit=200")];
    for (const peer of peers) {
      if (!peer.name) continue;
      names.set(peer.peer_id, peer.name);
      fromService.add(peer.peer_id);
    }
    paintApprovals(pending);
    schedulePaint();
  } catch (error) {
    // An answer of "not allowed" to a key that was good before: it was revoked. Anything else passes.
    if (error.status === 401 || error.status === 403) keyRing.forget();
  }
});

function paintApprovals(pending) {
  const own = recall(PAIRING)?.id;
  const list = $("approvals-list");
  const hadFocus = document.activeElement === document.body || document.activeElement === $("join-button") || $("waiting").contains(document.activeElement);
  reconcile(list, pending, {
    key: (p) => p.id,
    create: (p) =>
      h(
        "li",
        { class: "approval" },
        h("div", { class: "grow" }, h("strong", { text: p.agent_name }), p.id === own ? h("span", { class: "tag", text: "this tab" }) : null, h("p", { class: "muted" }, h("span", { class: "mono", text: p.peer_id }), " · asked ", when(p.created_at))),
        h(
          "div",
          { class: "row" },
          h("button", { type: "button", class: "primary small", "aria-label": `Approve ${p.agent_name}`, onclick: (e) => decide(e.currentTarget, p, "approve") }, "Approve"),
          h("button", { type: "button", class: "quiet small", "aria-label": `Reject ${p.agent_name}`, onclick: (e) => decide(e.currentTarget, p, "reject") }, "Reject"),
        ),
      ),
    update: (element, p) => setWhen(element.querySelector("time"), p.created_at),
  });
  $("approvals-empty").hidden = pending.length > 0;
  setText($("approvals-count"), pending.length > 0 ? String(pending.length) : "");
  // Who has just pressed Join goes on with Enter: the next thing to press is the approval of this very tab.
  if (hadFocus && own && waiting) list.querySelector(`[data-key="${CSS.escape(own)}"] .primary`)?.focus();
}

async function decide(button, pairing, decision) {
  await busy(button, async () => {
    // "device": the token stays with the server until the device itself fetches it; an administrator has no use for it.
    await api(keyRing.key).post(`/api/pairing/${encodeURIComponent(pairing.id)}/${decision}`, decision === "approve" ? { deliver: "device" } : {});
    notify(decision === "approve" ? `${pairing.agent_name} is approved.` : `${pairing.agent_name} is rejected.`);
  });
  refreshAdmin();
}

function paintKey() {
  const known = Boolean(keyRing.key);
  $("key-block").hidden = known;
  $("key-known").hidden = !known;
  $("approvals").hidden = !known;
  stopFollowing?.();
  stopFollowing = null;
  if (known) {
    stopFollowing = follow(keyRing.key, ({ event }) => {
      if (event === "refused") keyRing.forget();
      else if (event === "change" || event === "open") refreshAdmin();
    });
    refreshAdmin();
  }
  schedulePaint();
}

$("key-forget").addEventListener("click", () => {
  keyRing.forget();
  $("key").focus();
});
keyRing.addEventListener("change", paintKey);
// The stream of changes is what keeps the list fresh; this is for the time when it is interrupted.
setInterval(() => {
  if (!document.hidden) refreshAdmin();
}, 15_000);

// -- start --------------------------------------------------------------------------------------------------------------

// A page that goes away says so: its peers need not find out by silence.
addEventListener("pagehide", () => client?.close());
addEventListener("pageshow", (event) => {
  if (event.persisted && device) start();
});

$("name").value = freshName();
keyRing.ask();
paintKey();
paintState();
if (device) start();
else {
  show("start");
  const pairing = recall(PAIRING);
  if (pairing) awaitApproval(pairing);
}
paintPeers();
