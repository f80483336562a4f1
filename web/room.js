// Two small clients for rooms, one per dialect, and the WebRTC connections that both end in. They show what it takes; a product would come back
// after a lost connection, which these leave out.
//
//   const room = await joinRoom({ dialect: "rendezvous", room: "lobby", onPeer, onText, onFrame, onEnd });
//   room.id, room.peers (Map of id → Peer), room.send(text), room.leave()

const PROOF = "heliograph-room-proof-v1";

/** What both dialects share: who is there, and a connection with a DataChannel to each of them. */
class Room {
  peers = new Map();

  constructor(socket, on) {
    this.socket = socket;
    this.on = on;
    socket.addEventListener("message", ({ data }) => {
      on.onFrame?.("in", data);
      this.hear(data);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      for (const id of [...this.peers.keys()]) this.drop(id);
      on.onEnd?.(code, reason);
    });
  }

  say(frame) {
    this.on.onFrame?.("out", frame);
    this.socket.send(frame);
  }

  /** A peer that may signal with us from now on. Of two peers one offers. */
  meet(id, { offers, about = {} }) {
    const known = this.peers.get(id);
    if (known && !offers) {
      Object.assign(known.about, about);
      return known;
    }
    this.drop(id);
    const peer = new Peer(this, id, about);
    this.peers.set(id, peer);
    if (offers) peer.offer();
    this.on.onPeer?.(peer);
    return peer;
  }

  drop(id) {
    const peer = this.peers.get(id);
    if (!peer) return;
    this.peers.delete(id);
    peer.close();
    this.on.onPeer?.(peer);
  }

  /** To everybody with an open channel; how many that are. */
  send(text) {
    const open = [...this.peers.values()].filter((peer) => peer.open);
    for (const peer of open) peer.channel.send(text);
    return open.length;
  }

  leave() {
    this.socket.close(1000);
  }
}

/** A connection to one peer. What arrives for it is dealt with in its order, one after the other. */
class Peer {
  #work = Promise.resolve();

  constructor(room, id, about) {
    this.room = room;
    this.id = id;
    this.about = about;
    this.connection = new RTCPeerConnection({ iceServers: [] });
    this.connection.addEventListener("icecandidate", ({ candidate }) => candidate && room.signal(id, "candidate", candidate.toJSON()));
    this.connection.addEventListener("datachannel", ({ channel }) => this.#use(channel));
  }

  get open() {
    return this.channel?.readyState === "open";
  }

  #use(channel) {
    this.channel = channel;
    for (const type of ["open", "close"]) channel.addEventListener(type, () => this.room.on.onPeer?.(this));
    channel.addEventListener("message", ({ data }) => this.room.on.onText?.(this, data));
  }

  offer() {
    this.#use(this.connection.createDataChannel("room"));
    this.#do(async () => {
      await this.connection.setLocalDescription();
      this.room.signal(this.id, "offer", this.connection.localDescription.toJSON());
    });
  }

  hear(kind, value) {
    this.#do(async () => {
      if (kind === "candidate") return this.connection.addIceCandidate(value);
      await this.connection.setRemoteDescription(value);
      if (kind !== "offer") return undefined;
      await this.connection.setLocalDescription();
      return this.room.signal(this.id, "answer", this.connection.localDescription.toJSON());
    });
  }

  #do(work) {
    this.#work = this.#work.then(work).catch((error) => {
      // What was under way when the connection was closed fails, and nobody needs to know.
      if (this.connection.signalingState !== "closed") this.room.on.onError?.(error);
    });
  }

  close() {
    this.connection.close();
  }
}

/** JSON; names are fingerprints of keys. */
class Rendezvous extends Room {
  static path = ({ room }) => `/room/${encodeURIComponent(room)}/websocket`;

  async enter({ room }) {
    const { publicKey, privateKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
    const jwk = await crypto.subtle.exportKey("jwk", publicKey);
    this.own = { room, privateKey, id: await fingerprint(jwk) };
    this.say(JSON.stringify({ type: "register", publicKey: jwk, proof: true }));
  }

  async hear(data) {
    const { type, ...message } = JSON.parse(data);
    if (type === "challenge") {
      const text = new TextEncoder().encode([PROOF, this.own.room, this.own.id, message.nonce].join("\n"));
      const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, this.own.privateKey, text);
      this.say(JSON.stringify({ type: "proof", alg: "ES256", signature: inBase64(signature) }));
    } else if (type === "welcome") {
      this.id = message.peerId;
      // Who was there before us gets our offer; who comes later offers to us.
      for (const { id, ...about } of message.peers) this.meet(id, { offers: true, about });
      this.on.entered();
    } else if (type === "peer-joined") {
      const { peerId, ...about } = message;
      this.meet(peerId, { offers: false, about });
    } else if (type === "peer-left") {
      this.drop(message.peerId);
    } else if (type === "offer" || type === "answer") {
      (this.peers.get(message.from) ?? this.meet(message.from, { offers: false })).hear(type, message.sdp);
    } else if (type === "ice-candidate") {
      this.peers.get(message.from)?.hear("candidate", message.candidate);
    } else if (type === "error") {
      this.on.onError?.(new Error(message.message));
    }
  }

  signal(to, kind, value) {
    const message = kind === "candidate" ? { type: "ice-candidate", to, candidate: value } : { type: kind, to, sdp: value };
    this.say(JSON.stringify(message));
  }
}

/** Commands; names are the clients' own choice. */
class RtcSignaller extends Room {
  static path = () => "/";

  async enter({ room, name }) {
    this.id = crypto.randomUUID();
    this.attributes = JSON.stringify({ agent: "heliograph-demo", id: this.id, room, name });
    this.say(`/announce|${this.id}|${this.attributes}`);
  }

  hear(frame) {
    const direct = frame.startsWith(`/to|${this.id}|`);
    const [command, from, ...rest] = (direct ? frame.slice(`/to|${this.id}|`.length) : frame).split("|");
    const value = () => JSON.parse(rest.join("|"));
    if (command === "/roominfo") {
      this.on.entered();
    } else if (command === "/announce") {
      const about = value();
      // Members answer a newcomer with an announce of their own; the newcomer then offers.
      if (!direct) this.say(`/to|${from}|/announce|${this.id}|${this.attributes}`);
      this.meet(from, { offers: direct, about });
    } else if (command === "/leave") {
      this.drop(from);
    } else if (command === "/sdp") {
      const description = value();
      this.peers.get(from)?.hear(description.type, description);
    } else if (command === "/candidate") {
      this.peers.get(from)?.hear("candidate", value());
    }
  }

  signal(to, kind, value) {
    this.say(`/to|${to}|/${kind === "candidate" ? "candidate" : "sdp"}|${this.id}|${JSON.stringify(value)}`);
  }
}

const DIALECTS = { rendezvous: Rendezvous, rtc: RtcSignaller };

/** Resolves when the service has let us in. */
export function joinRoom({ dialect, room, name, ...on }) {
  const Dialect = DIALECTS[dialect];
  const address = new URL(Dialect.path({ room }), location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address);
    const joined = new Dialect(socket, {
      ...on,
      entered: () => resolve(joined),
      onError: (error) => {
        reject(error);
        on.onError?.(error);
      },
      onEnd: (code, reason) => {
        reject(new Error(code === 1006 ? "the service did not open a socket: are rooms turned on?" : `the socket was closed (${code} ${reason})`));
        on.onEnd?.(code, reason);
      },
    });
    socket.addEventListener("open", () => joined.enter({ room, name }).catch(reject), { once: true });
  });
}

/** The name of a key's holder: the essential members in this order, as JSON, hashed. */
async function fingerprint({ kty, crv, x, y }) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify({ kty, crv, x, y })));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function inBase64(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
