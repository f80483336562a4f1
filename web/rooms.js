// The page for rooms: one form, two dialects, and whoever else is in the room.

import { joinRoom } from "/assets/room.js";
import { $, busy, clock, h, notify, plural, reconcile, setPill, setText } from "/assets/ui.js";

const KEPT = 200;

let room = null;

// What a link says, so that a second tab comes to the same place.
const wanted = new URLSearchParams(location.hash.slice(1));
$("dialect").value = wanted.get("dialect") === "rtc" ? "rtc" : "rendezvous";
$("room").value = wanted.get("room") ?? "lobby";

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  busy($("enter-button"), enter);
});

async function enter() {
  const [dialect, name] = [$("dialect").value, $("room").value];
  room = await joinRoom({ dialect, room: name, name: "a browser tab", onPeer: showPeers, onText: (peer, text) => tell(short(peer.id), text, "in"), onFrame: log, onError: (error) => room && notify(error.message, { error: true }), onEnd: ended });
  globalThis.heliographRoom = room;
  const link = new URLSearchParams({ dialect, room: name });
  history.replaceState(null, "", `#${link}`);
  for (const id of ["second", "second-empty"]) $(id).href = `/rooms#${link}`;
  setPill($("state"), "online", "in the room");
  setText($("own-room"), name);
  setText($("own-id"), room.id);
  show(true);
  showPeers();
}

$("leave").addEventListener("click", () => room?.leave());

function ended(code, reason) {
  if (room && code !== 1000) notify(`The socket was closed: ${code} ${reason}`, { error: true });
  room = null;
  setPill($("state"), "idle", "in no room");
  show(false);
}

function show(inside) {
  $("enter-card").hidden = inside;
  for (const id of ["room-card", "peers-card", "messages-card", "log-card"]) $(id).hidden = !inside;
}

/** A fingerprint is long; its beginning tells the few on this page apart. */
const short = (id) => (id.length > 14 ? `${id.slice(0, 12)}…` : id);

function showPeers() {
  const peers = [...(room?.peers.values() ?? [])];
  reconcile($("peers"), peers, {
    key: (peer) => peer.id,
    create: (peer) => h("li", { class: "peer" }, h("div", { class: "peer-head" }, h("h3", { class: "mono", title: peer.id, text: short(peer.id) }), h("span", {})), h("p", { class: "hint" })),
    update: (element, peer) => {
      element.dataset.status = peer.open ? "open" : "connecting";
      setPill(element.querySelector("span"), peer.open ? "open" : "connecting", peer.open ? "connected" : "connecting");
      setText(element.querySelector("p"), describe(peer.about));
    },
  });
  $("peers-empty").hidden = peers.length > 0;
  setText($("peers-status"), `${plural(peers.length, "peer")}, ${peers.filter((peer) => peer.open).length} connected`);
}

function describe({ publicKey, proven, agent }) {
  if (publicKey) return `${publicKey.kty} ${publicKey.crv ?? "key"}, ${proven ? "proven to be its own" : "not proven"}`;
  return agent ?? "";
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!room?.send(text)) return notify("Nobody is connected yet.", { error: true });
  tell("you", text, "out");
  $("text").value = "";
  return undefined;
});

function tell(who, text, direction) {
  keep($("messages"), h("li", { class: `message message-${direction}` }, h("span", { class: "message-who", text: who }), h("span", { class: "message-text", text }), h("time", { text: clock() })));
}

/** Kind and size of a frame; what is in it is nobody's business. */
function log(direction, frame) {
  const kind = frame.startsWith("{") ? JSON.parse(frame).type : frame.replace(/^\/to\|[^|]*\|/, "").split("|")[0];
  const arrow = h("span", { class: "arrow", title: direction === "in" ? "received" : "sent", text: direction === "in" ? "←" : "→" });
  keep($("log"), h("li", { class: `frame frame-${direction}` }, h("time", { text: clock() }), arrow, h("span", { text: kind }), h("span", { class: "frame-rest", text: plural(frame.length, "character") })), true);
}

function keep(list, item, newestFirst = false) {
  if (newestFirst) list.prepend(item);
  else list.append(item);
  while (list.children.length > KEPT) (newestFirst ? list.lastElementChild : list.firstElementChild).remove();
  if (!newestFirst) list.scrollTop = list.scrollHeight;
}

setPill($("state"), "idle", "in no room");
