/**
 * Heliograph browser client: the mesh dialect in one ES module, with no dependency and no build step.
 *
 *   import { HeliographClient, tokenSource } from "/client.js";
 *
 *   const client = new HeliographClient({ getToken: tokenSource({ deviceToken: "dt_…" }) });
 *   client.addEventListener("channelopen", ({ detail }) => client.sendTo(detail.peer.id, { type: "text", payload: { text: "hello" } }));
 *   client.addEventListener("message", ({ detail }) => console.log(detail.peer.id, detail.message));
 *   await client.connect();
 *
 * What it does
 *   - Signaling over one WebSocket. The token travels in the first message, never in a URL: URLs end in logs and histories.
 *   - One RTCPeerConnection and one reliable, ordered DataChannel with the label "mesh" per peer. The newcomer offers (the one that
 *     finds the other in its `peer_list`), the other side waits; two offers that cross are settled by perfect negotiation.
 *   - It comes back by itself after a drop, spread by full jitter, and resumes its session where the server grants it: what was sent to it
 *     meanwhile comes in order and once. It moves away from a node that drains before that closes the socket. Open DataChannels do not
 *     need the signaling socket and are kept meanwhile.
 *   - Every buffer in it is bounded (see LIMITS), because what fills them is sent by others.
 *
 * Units: all durations are milliseconds, all sizes bytes, unless a name says otherwise.
 *
 * Events (each a CustomEvent; the shapes of `detail` stand in client.d.ts)
 *   state         the signaling state changed: idle, connecting, online, waiting, stopped, closed
 *   stopped       signaling has ended for good: not allowed, superseded by a newer session, revoked, credential refused
 *   revoked       this peer itself lost its right; followed by `stopped`
 *   approved      this peer got its right
 *   peerlist      the list that answered our registration
 *   peerjoined, peerleft, peerrevoked     a counterpart came, went, lost its right
 *   peer          anything about one peer changed (presence, connection, channel, role, round-trip time); for user interfaces
 *   channelopen, channelclose, message    the DataChannel of a peer
 *   signal        an application message relayed by the service (a type that is not part of the dialect)
 *   undeliverable a message could not be delivered (also those that nobody waits for)
 *   delivered     a message has arrived after all, of which `send` had reported another outcome or is not waiting any more
 *   resumed       the session of before goes on (with what it recovered and what is lost), or is over (`fresh`)
 *   iceservers    the ICE servers changed
 *   goaway        the server is about to drain; the client moves by itself
 *   trace         one line per frame on the signaling socket: direction, type, peer, size; never the content
 *   error         something failed that no promise reports; the client goes on
 */

/** The WebSocket subprotocol that is offered. */
export const SUBPROTOCOL = "heliograph.mesh.v1";

/** What `register` asks for. The server grants some or all of it; only what was granted is used. */
export const CAPABILITIES = Object.freeze(["events", "feedback", "resume", "roles", "ice", "goaway"]);

/** The `peer_id` of every frame that the service itself sends. Control messages from any other sender are not believed. */
export const REGISTRY = "registry";

/** The bounds of this client. */
export const LIMITS = Object.freeze({
  /** Largest frame that is sent on the signaling socket (the server's default limit), bytes. */
  frameBytes: 65_536,
  /** Largest frame that is read from it, UTF-16 units. A peer list of a large mesh is the longest one. */
  incomingChars: 4_194_304,
  /** Unsent bytes in the WebSocket beyond which nothing more is given to it. */
  socketBufferBytes: 1_048_576,
  /** Messages that wait for `delivered` or `undeliverable` at the same time. */
  pending: 256,
  /** How long such a message waits before its outcome is called unknown. */
  feedbackMs: 10_000,
  /** Peers that are kept at the same time. */
  peers: 4096,
  /** Connections at the same time. Browsers themselves stop at a few hundred. */
  connections: 256,
  /** ICE candidates of one peer that wait for its description. */
  earlyCandidates: 64,
  /** Frames of one peer that wait to be worked on. */
  inbox: 256,
  /** Unsent bytes in a DataChannel beyond which a message is refused. */
  channelBufferBytes: 1_048_576,
  /** Backoff of a reconnect: first ceiling and highest ceiling. */
  backoffBaseMs: 1_000,
  backoffCapMs: 30_000,
  /** A session that lasted this long makes the next backoff start from the beginning. */
  stableMs: 10_000,
  /** From the start of a connection attempt to the peer list; for as long an old socket is still read after a move. */
  handshakeMs: 15_000,
  /** A quiet socket is asked for a sign of life this often, and given up when none comes for `silenceMs`. */
  keepaliveMs: 25_000,
  silenceMs: 15_000,
  /** An offer that has no answer after this long (up to half as much again, by chance) was probably lost. */
  answerMs: 4_000,
  /** ICE restarts in a row, without a connection in between, before a peer is given up. */
  iceRestarts: 6,
});

/** Reasons of `undeliverable` after which the same message has a chance a little later. */
const RETRYABLE = new Set(["bus_unavailable", "authorization_unavailable", "queue_full", "rate_limited", "expired"]);

/** An error of this client. `code` is stable and meant for programs; `message` is for people. */
export class HeliographError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfterMs?: number, cause?: unknown}} [more]
   */
  constructor(code, message, { status, retryAfterMs, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "HeliographError";
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Decisions: pure functions, tested without a browser.
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How long to wait before attempt number `attempt` (0 is the first). Full jitter: anything between nothing and a ceiling that doubles, so
 * that the clients of a node that died do not come back in one wave. A floor (a server's hint) is added, not mixed in: those who
 * were all told "in 5 s" are spread as well.
 */
export function backoffDelay(attempt, { baseMs = LIMITS.backoffBaseMs, capMs = LIMITS.backoffCapMs, floorMs = 0, random = Math.random } = {}) {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(Math.max(attempt, 0), 30));
  return Math.floor(floorMs + random() * ceiling);
}

/**
 * What a close code asks of the client.
 *
 *   comeBack  false: a reconnect would be refused again or would fight with another session of the same peer
 *   newToken  the token in hand is of no use any more
 *   floorMs   wait at least this long before coming back
 */
export function afterClose(code) {
  switch (code) {
    case 1000:
      return { comeBack: false, newToken: false, floorMs: 0, reason: "normal" };
    case 1001:
    case 1012:
      return { comeBack: true, newToken: false, floorMs: 0, reason: "draining" };
    case 1009:
      return { comeBack: true, newToken: false, floorMs: 1_000, reason: "too_large" };
    case 4401:
      return { comeBack: true, newToken: true, floorMs: 0, reason: "authenticate" };
    case 4403:
      return { comeBack: false, newToken: true, floorMs: 0, reason: "not_allowed" };
    case 4408:
      return { comeBack: true, newToken: false, floorMs: 0, reason: "deadline_missed" };
    case 4409:
      return { comeBack: false, newToken: false, floorMs: 0, reason: "superseded" };
    case 4413:
      return { comeBack: true, newToken: false, floorMs: 1_000, reason: "slow_consumer" };
    case 4429:
      return { comeBack: true, newToken: false, floorMs: 2_000, reason: "too_many_messages" };
    case 4503:
      return { comeBack: true, newToken: false, floorMs: 2_000, reason: "unavailable" };
    default:
      return { comeBack: true, newToken: false, floorMs: 0, reason: "lost" };
  }
}

/**
 * Who gives way when two offers cross. The server's word counts where it gave one; without it both sides compare the ids, which
 * gives opposite answers on the two sides.
 */
export function isPolite(self, other, role) {
  if (role === "polite") return true;
  if (role === "impolite") return false;
  return self < other;
}

/**
 * The rule of perfect negotiation for an offer that has just arrived.
 *
 *   "accept"    no collision
 *   "rollback"  collision, and it is ours to give way: our own offer is taken back
 *   "ignore"    collision, and the other side gives way
 */
export function judgeOffer({ polite, makingOffer, signalingState, settingAnswer = false }) {
  const ready = !makingOffer && (signalingState === "stable" || settingAnswer);
  if (ready) return "accept";
  return polite ? "rollback" : "ignore";
}

/**
 * The session id of an SDP text (its `o=` line). It stays the same for the life of one RTCPeerConnection; a new one therefore
 * means that the other side has started over, for example after a reload.
 */
export function sessionId(sdp) {
  const origin = /^o=(\S+) (\S+) /m.exec(sdp ?? "");
  return origin ? `${origin[1]} ${origin[2]}` : null;
}

/**
 * A candidate as it came from the socket, made fit for `addIceCandidate`; null for something that is not one. The original sidecar sends
 * `sdpMid: ""`, which a browser would look for among the media ids and refuse: only the line index means something there.
 */
export function readCandidate(payload) {
  if (payload === null || typeof payload !== "object" || typeof payload.candidate !== "string") return null;
  const sdpMid = typeof payload.sdpMid === "string" && payload.sdpMid !== "" ? payload.sdpMid : null;
  const index = Number.isInteger(payload.sdpMLineIndex) && payload.sdpMLineIndex >= 0 ? payload.sdpMLineIndex : null;
  return { candidate: payload.candidate, sdpMid, sdpMLineIndex: sdpMid === null && index === null ? 0 : index };
}

/** `sub` and `exp` of a JWT, unverified: the server verifies, we only need to know our own name and how long the token is good for. */
export function readClaims(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return {
      sub: typeof claims.sub === "string" ? claims.sub : null,
      exp: typeof claims.exp === "number" ? claims.exp : null,
    };
  } catch {
    return { sub: null, exp: null };
  }
}

/** Milliseconds of a `Retry-After` header (seconds, or a date); undefined without one. */
export function retryAfterMs(header, now = Date.now()) {
  if (!header) return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined;
}

/** Bytes of a text in UTF-8. Counted exactly only where it could matter: a UTF-16 unit has three bytes at most. */
function byteLength(text, limit) {
  return text.length > limit / 3 ? new TextEncoder().encode(text).length : text.length;
}

// ---------------------------------------------------------------------------------------------------------------------
// Helpers over HTTP.
// ---------------------------------------------------------------------------------------------------------------------

/** The socket address that belongs to a server address (default: the server of this page). */
export function socketUrl(server = globalThis.location?.origin) {
  if (!server) throw new HeliographError("no_server", "Outside of a page, pass the address of the server.");
  const url = new URL("/ws", server);
  url.protocol = url.protocol === "https:" || url.protocol === "wss:" ? "wss:" : "ws:";
  return url.href;
}

/** An error for an HTTP answer: the sentence of a problem document where there is one. */
async function errorOf(response, fallback) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // Not every refusal has a body; a proxy's has another form.
  }
  return new HeliographError(problem.code ?? fallback, problem.detail ?? problem.error ?? problem.title ?? `The server answered ${response.status}.`, {
    status: response.status,
    retryAfterMs: retryAfterMs(response.headers.get("retry-after")),
  });
}

/**
 * Exchanges a long-lived credential for a short-lived token: `POST /api/token`.
 * Rejects with a HeliographError whose `status` is the HTTP status (401: the credential is unknown, not yet approved or revoked).
 */
export async function exchangeToken({ server = "", deviceToken, apiKey, signal } = {}) {
  const headers = {};
  if (deviceToken) headers["x-device-token"] = deviceToken;
  else if (apiKey) headers["x-api-key"] = apiKey;
  else throw new HeliographError("no_credential", "Pass deviceToken or apiKey.");
  const response = await fetch(`${server}/api/token`, { method: "POST", headers, signal, cache: "no-store", credentials: "omit" });
  if (!response.ok) throw await errorOf(response, "token_refused");
  return response.json();
}

/** A `getToken` for the constructor that exchanges this credential whenever the client needs a token. */
export function tokenSource(credential) {
  return () => exchangeToken(credential);
}

/** The ICE servers over HTTP, for those that do not have the `ice` capability: `GET /api/config`. */
export async function fetchIceServers({ server = "", deviceToken, apiKey, token } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  else if (deviceToken) headers["x-device-token"] = deviceToken;
  else if (apiKey) headers["x-api-key"] = apiKey;
  const response = await fetch(`${server}/api/config`, { headers, cache: "no-store", credentials: "omit" });
  if (!response.ok) throw await errorOf(response, "config_refused");
  return (await response.json()).iceServers ?? [];
}

// ---------------------------------------------------------------------------------------------------------------------
// One counterpart.
// ---------------------------------------------------------------------------------------------------------------------

/**
 * One counterpart: its presence, and the connection to it. Made by the client; read its properties, call `stats()`.
 */
export class Peer {
  #client;
  #pc = null;
  #channels = new Set();
  #channel = null;
  /** The channel whose opening was told; it can be learned in two ways, and is told once. */
  #announced = null;
  #makingOffer = false;
  #ignoreOffer = false;
  #settingAnswer = false;
  #early = [];
  #inbox = Promise.resolve();
  #inboxLength = 0;
  #restarts = 0;
  #restartTimer = null;
  #resendTimer = null;
  #answerTimer = null;
  /** How often the current offer was said again, and the offer of the other side that was ignored meanwhile. */
  #repeats = 0;
  #ignored = null;
  #signalsLost = false;
  #pings = new Map();
  #pingTimer = null;

  constructor(client, id) {
    this.#client = client;
    /** The peer's id. */
    this.id = id;
    /** Whether the service lists it as connected. An open DataChannel can outlive this. */
    this.present = false;
    /** The server's word on who gives way, seen from this side: "polite", "impolite" or undefined. */
    this.role = undefined;
    /** The last round-trip time over the DataChannel, or null. */
    this.rttMs = null;
    /** How the last connection ended: null, "closed", "failed", "unreachable" or "revoked". */
    this.ended = null;
  }

  /** Whether this side gives way when two offers cross. */
  get polite() {
    return isPolite(this.#client.id ?? "", this.id, this.role);
  }

  /** The RTCPeerConnection, or null. For reading; the client owns it. */
  get connection() {
    return this.#pc;
  }

  /** "none" without a connection, else RTCPeerConnection.connectionState. */
  get connectionState() {
    return this.#pc ? this.#pc.connectionState : "none";
  }

  /** "none" without a channel, else RTCDataChannel.readyState. */
  get channelState() {
    return this.#channel ? this.#channel.readyState : "none";
  }

  /** Whether messages can be sent now. */
  get open() {
    return this.#channel?.readyState === "open";
  }

  // -- for the client -------------------------------------------------------------------------------------------------

  /** Starts a connection from this side. Nothing happens where one exists or is being made. */
  offer() {
    if (this.#pc) return;
    this.#connect();
    // The channel is what makes the browser ask for a negotiation; the offer follows in its own event.
    this.#adopt(this.#pc.createDataChannel("mesh", { ordered: true }), true);
  }

  /** Work on one relayed frame, in the order of arrival: an answer must not overtake the candidates that came before it, nor the reverse. */
  receive(type, payload) {
    if (this.#inboxLength >= LIMITS.inbox) {
      this.#client._report(new HeliographError("inbox_full", `Too many signaling messages from ${this.id}; one was dropped.`));
      return;
    }
    this.#enqueue(type, () => this.#work(type, payload));
  }

  #enqueue(type, work) {
    this.#inboxLength += 1;
    this.#inbox = this.#inbox
      .then(work)
      .catch((cause) => this.#client._report(new HeliographError("negotiation", `Could not use the ${type} of ${this.id}: ${cause.message}`, { cause })))
      .finally(() => {
        this.#inboxLength -= 1;
      });
  }

  /** The signaling socket is back: say again what may have been lost with the old one. */
  signalingBack() {
    if (!this.#pc || this.#pc.connectionState === "connected") return;
    if (this.#pc.signalingState === "have-local-offer") this.#sendDescription();
    else if (this.#signalsLost || this.#pc.connectionState === "failed") this.#restartIce();
    this.#signalsLost = false;
  }

  /** Something that the other side sent may be lost: once the peer list is here, candidates are exchanged anew where there is no connection. */
  signalsMayBeLost() {
    this.#signalsLost = true;
  }

  /** New ICE servers are used from the next ICE restart on. */
  configure(configuration) {
    try {
      this.#pc?.setConfiguration(configuration);
    } catch (cause) {
      this.#client._report(new HeliographError("ice_servers", `The ICE servers could not be used: ${cause.message}`, { cause }));
    }
  }

  send(message) {
    if (!this.open) throw new HeliographError("not_connected", `There is no open channel to ${this.id}.`);
    const text = typeof message === "string" ? message : JSON.stringify(message);
    const limit = this.#pc.sctp?.maxMessageSize ?? 65_536;
    const bytes = byteLength(text, limit);
    if (bytes > limit) throw new HeliographError("too_large", `A message to ${this.id} may have ${limit} bytes.`);
    if (this.#channel.bufferedAmount + bytes > LIMITS.channelBufferBytes) {
      throw new HeliographError("buffer_full", `The channel to ${this.id} is not keeping up; wait and send again.`);
    }
    this.#channel.send(text);
  }

  /** One round trip over the channel. Rejects when the channel closes or no answer comes. */
  ping(timeoutMs = 5_000) {
    if (this.#pings.size >= 8) return Promise.reject(new HeliographError("too_many_pending", "Too many pings are waiting."));
    const id = this.#client._id("p");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pings.delete(id);
        reject(new HeliographError("timeout", `${this.id} did not answer the ping.`));
      }, timeoutMs);
      this.#pings.set(id, { sent: performance.now(), resolve, reject, timer });
      try {
        this.send({ type: "ping", request_id: id, source_agent: this.#client.id, target_agent: this.id });
      } catch (error) {
        clearTimeout(timer);
        this.#pings.delete(id);
        reject(error);
      }
    });
  }

  /** Ends the connection. The record itself stays for as long as the client keeps it. */
  close(ended = "closed") {
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#resendTimer);
    clearTimeout(this.#answerTimer);
    clearInterval(this.#pingTimer);
    this.#restartTimer = this.#resendTimer = this.#answerTimer = this.#pingTimer = null;
    this.#repeats = 0;
    this.#ignored = null;
    this.#early.length = 0;
    this.#makingOffer = this.#ignoreOffer = this.#settingAnswer = this.#signalsLost = false;
    for (const { reject, timer } of this.#pings.values()) {
      clearTimeout(timer);
      reject(new HeliographError("closed", `The channel to ${this.id} was closed.`));
    }
    this.#pings.clear();
    const pc = this.#pc;
    const wasOpen = this.open;
    this.#pc = null;
    this.#channel = this.#announced = null;
    this.#channels.clear();
    this.rttMs = null;
    if (!pc) return;
    this.ended = ended;
    pc.close();
    if (wasOpen) this.#client._emit("channelclose", { peer: this });
    this.#client._peerChanged(this);
  }

  /**
   * What the browser knows about the way the data takes: the chosen pair and the kinds of candidates on both sides.
   * Null without a connection.
   */
  async stats() {
    const pc = this.#pc;
    if (!pc) return null;
    const report = await pc.getStats();
    const all = [...report.values()];
    const transport = all.find((s) => s.type === "transport" && s.selectedCandidatePairId);
    // Firefox marks the pair itself and has no id on the transport.
    const pair = transport ? report.get(transport.selectedCandidatePairId) : all.find((s) => s.type === "candidate-pair" && s.selected);
    const end = (id) => {
      const c = id === undefined ? undefined : report.get(id);
      return c ? { type: c.candidateType, protocol: c.protocol, address: c.address ?? null, port: c.port ?? null } : null;
    };
    const kinds = (type) => [...new Set(all.filter((s) => s.type === type).map((s) => s.candidateType))].sort();
    return {
      local: end(pair?.localCandidateId),
      remote: end(pair?.remoteCandidateId),
      localTypes: kinds("local-candidate"),
      remoteTypes: kinds("remote-candidate"),
      iceRttMs: typeof pair?.currentRoundTripTime === "number" ? pair.currentRoundTripTime * 1000 : null,
      bytesSent: pair?.bytesSent ?? 0,
      bytesReceived: pair?.bytesReceived ?? 0,
    };
  }

  // -- the connection -------------------------------------------------------------------------------------------------

  #connect() {
    const pc = this.#client._newConnection();
    this.#pc = pc;
    this.ended = null;

    pc.onnegotiationneeded = async () => {
      try {
        this.#makingOffer = true;
        await pc.setLocalDescription();
        if (pc === this.#pc) this.#sendDescription();
      } catch (cause) {
        if (pc === this.#pc) this.#client._report(new HeliographError("negotiation", `Could not make an offer to ${this.id}: ${cause.message}`, { cause }));
      } finally {
        if (pc === this.#pc) this.#makingOffer = false;
      }
    };
    pc.onicecandidate = ({ candidate }) => {
      if (pc !== this.#pc || !candidate || candidate.candidate === "") return;
      const sent = this.#client._relay("ice_candidate", this.id, {
        candidate: candidate.candidate,
        sdpMid: candidate.sdpMid,
        sdpMLineIndex: candidate.sdpMLineIndex,
      });
      if (!sent) this.#signalsLost = true;
    };
    pc.ondatachannel = ({ channel }) => {
      if (pc === this.#pc) this.#adopt(channel, false);
    };
    pc.onconnectionstatechange = () => {
      if (pc !== this.#pc) return;
      if (pc.connectionState === "connected") {
        this.#restarts = 0;
        clearTimeout(this.#restartTimer);
        this.#restartTimer = null;
      } else if (pc.connectionState === "failed") {
        this.#failed();
      }
      this.#client._peerChanged(this);
    };
    pc.oniceconnectionstatechange = () => {
      if (pc === this.#pc) this.#client._peerChanged(this);
    };
    this.#client._peerChanged(this);
  }

  /** ICE found no way, or lost it. A restart needs the other side, so without its presence there is nothing to try. */
  #failed() {
    if (!this.present || !this.#client._mayNegotiate || this.#restarts >= LIMITS.iceRestarts) {
      // Without the socket nothing can be agreed; it stays as it is until the peer list says whether the other side is still there.
      if (this.#client._mayNegotiate) this.close("failed");
      return;
    }
    if (this.#restartTimer !== null) return;
    // One of the two goes first. The polite side waits longer, so that in the usual case there is no collision to settle.
    const delay = backoffDelay(this.#restarts, { floorMs: this.polite ? 3_000 : 0, capMs: 10_000 });
    this.#restarts += 1;
    this.#restartTimer = setTimeout(() => {
      this.#restartTimer = null;
      if (this.#pc?.connectionState === "failed") this.#restartIce();
    }, this.#restarts === 1 && !this.polite ? 0 : delay);
  }

  #restartIce() {
    if (this.#client._mayNegotiate) this.#pc?.restartIce();
  }

  /** Sends the current local description, with the candidates found so far in it, and learns what became of it. */
  async #sendDescription(attempt = 0) {
    const pc = this.#pc;
    const description = pc?.localDescription;
    if (!description) return;
    if (description.type === "offer") this.#awaitAnswer(pc);
    const outcome = await this.#client.send(description.type, this.id, { sdp: description.sdp });
    if (pc !== this.#pc || outcome.outcome === "delivered") return;
    // An answered offer has arrived, whatever the feedback says.
    const stillNeeded = description.type === "offer" ? pc.signalingState === "have-local-offer" : pc.connectionState !== "connected";
    if (!stillNeeded) return;
    if (outcome.reason === "unavailable") {
      if (pc.connectionState !== "connected") this.close("unreachable");
    } else if (RETRYABLE.has(outcome.reason) && attempt < LIMITS.iceRestarts) {
      clearTimeout(this.#resendTimer);
      this.#resendTimer = setTimeout(() => {
        if (pc === this.#pc && pc.localDescription?.sdp === description.sdp) this.#sendDescription(attempt + 1);
      }, backoffDelay(attempt, { floorMs: 200, capMs: 10_000 }));
    } else if (outcome.reason === "offline" || outcome.reason === "connection_lost") {
      this.#signalsLost = true;
    }
  }

  /**
   * An offer can be delivered to a page that is just being left: nobody will answer it. And when the page that came instead offers to us, and it is not
   * ours to give way, both would wait for ever. So patience has an end: give way after all, or say the offer again. The chance in it keeps two sides
   * that both believe themselves in the right (a server without roles, another client) from giving way together.
   */
  #awaitAnswer(pc) {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => {
      if (pc !== this.#pc || pc.signalingState !== "have-local-offer") return;
      const ignored = this.#ignored;
      this.#ignored = null;
      if (ignored !== null) this.#enqueue("offer", () => this.#remoteOffer(ignored, true));
      else if (this.#repeats < LIMITS.iceRestarts && this.present) {
        this.#repeats += 1;
        this.#sendDescription();
      }
    }, this.#client._answerMs * (1 + this.#repeats) * (1 + Math.random() / 2));
  }

  async #work(type, payload) {
    if (type === "ice_candidate") return this.#candidate(payload);
    if (payload === null || typeof payload !== "object" || typeof payload.sdp !== "string") {
      throw new HeliographError("malformed", "there is no SDP text in it");
    }
    return type === "offer" ? this.#remoteOffer(payload.sdp) : this.#remoteAnswer(payload.sdp);
  }

  async #remoteOffer(sdp, giveWay = false) {
    const known = sessionId(this.#pc?.remoteDescription?.sdp);
    if (known !== null && known !== sessionId(sdp)) {
      // The other side started over (a reload): its old connection is gone, whatever ours still believes.
      const early = this.#early.splice(0);
      this.close("closed");
      this.#early = early;
    }
    if (!this.#pc) this.#connect();
    let pc = this.#pc;

    const verdict = judgeOffer({
      polite: this.polite || giveWay,
      makingOffer: this.#makingOffer,
      signalingState: pc.signalingState,
      settingAnswer: this.#settingAnswer,
    });
    this.#ignoreOffer = verdict === "ignore";
    this.#ignored = this.#ignoreOffer ? sdp : null;
    if (this.#ignoreOffer) return;

    if (verdict === "rollback" && pc.remoteDescription === null) {
      // Nothing is agreed yet, so what goes is the whole connection, and our channel with it. An offer that Chromium takes back before it has begun to
      // look for candidates often keeps it from ever beginning; and the channel would be a second one.
      const early = this.#early.splice(0);
      this.close("closed");
      this.#early = early;
      this.#connect();
      pc = this.#pc;
    }
    // In "have-local-offer" this takes our own offer back by itself.
    await pc.setRemoteDescription({ type: "offer", sdp });
    await this.#addEarly(pc);
    await pc.setLocalDescription();
    if (pc === this.#pc) this.#sendDescription();
  }

  async #remoteAnswer(sdp) {
    const pc = this.#pc;
    // A repeated answer, or one to an offer that was taken back meanwhile.
    if (!pc || pc.signalingState !== "have-local-offer") return;
    const known = sessionId(pc.remoteDescription?.sdp);
    if (known !== null && known !== sessionId(sdp)) {
      // We asked the old connection for a restart and a new one answered: start over, too.
      this.close("closed");
      this.offer();
      return;
    }
    try {
      this.#settingAnswer = true;
      await pc.setRemoteDescription({ type: "answer", sdp });
      this.#repeats = 0;
      this.#ignored = null;
    } finally {
      this.#settingAnswer = false;
    }
    await this.#addEarly(pc);
  }

  async #candidate(payload) {
    const candidate = readCandidate(payload);
    if (candidate === null) throw new HeliographError("malformed", "it is not a candidate");
    const pc = this.#pc;
    // The answering side trickles before its answer goes out, so early candidates are the rule.
    if (!pc || pc.remoteDescription === null) {
      if (this.#early.length < LIMITS.earlyCandidates) this.#early.push(candidate);
      return;
    }
    await this.#addCandidate(pc, candidate);
  }

  async #addEarly(pc) {
    for (const candidate of this.#early.splice(0)) await this.#addCandidate(pc, candidate);
  }

  async #addCandidate(pc, candidate) {
    try {
      await pc.addIceCandidate(candidate);
    } catch (cause) {
      // Candidates of an offer that we did not take, or of a connection that was replaced, fit nothing; that is expected.
      if (!this.#ignoreOffer && pc === this.#pc && pc.connectionState !== "connected") {
        this.#client._emit("trace", { direction: "note", type: "candidate_unused", peer: this.id, bytes: 0, note: cause.message });
      }
    }
  }

  // -- the channel ----------------------------------------------------------------------------------------------------

  #adopt(channel, own) {
    // Other labels are an application's own; more than two of ours is somebody playing.
    if (channel.label !== "mesh") return;
    if (this.#channels.size >= 2) {
      channel.close();
      return;
    }
    this.#channels.add(channel);
    // With one from each side, both take the one that the impolite side made.
    if (this.#channel === null || own !== this.polite) this.#channel = channel;

    channel.onopen = () => this.#opened(channel);
    channel.onmessage = ({ data }) => this.#message(channel, data);
    channel.onclose = () => {
      this.#channels.delete(channel);
      if (this.#channel !== channel) return;
      // The other side closed it or went away; a connection without the channel is of no use.
      this.close("closed");
      this.#client._settle(this);
    };
    if (channel.readyState === "open") this.#opened(channel);
  }

  #opened(channel) {
    if (channel !== this.#channel || channel === this.#announced) return;
    this.#announced = channel;
    this.#client._emit("channelopen", { peer: this });
    this.#client._peerChanged(this);
    const every = this.#client._pingIntervalMs;
    if (every > 0 && this.#pingTimer === null) {
      const measure = () => this.ping(every).catch(() => {});
      measure();
      this.#pingTimer = setInterval(measure, every);
    }
  }

  #message(channel, data) {
    // A message can come over before our own "open" event is delivered; the channel is open then.
    let message = null;
    if (typeof data === "string") {
      try {
        message = JSON.parse(data);
      } catch {
        message = null;
      }
    }
    if (message !== null && typeof message === "object" && message.type === "ping") {
      try {
        this.send({ type: "pong", request_id: message.request_id, source_agent: this.#client.id, target_agent: this.id });
      } catch {
        // Nobody waits long for a pong.
      }
      return;
    }
    if (message !== null && typeof message === "object" && message.type === "pong") {
      const ping = this.#pings.get(message.request_id);
      if (ping) {
        this.#pings.delete(message.request_id);
        clearTimeout(ping.timer);
        this.rttMs = performance.now() - ping.sent;
        ping.resolve(this.rttMs);
        this.#client._peerChanged(this);
        return;
      }
    }
    this.#client._emit("message", { peer: this, message, data });
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The client.
// ---------------------------------------------------------------------------------------------------------------------

/** A peer of a mesh. See client.d.ts for all options. */
export class HeliographClient extends EventTarget {
  #options;
  #url;
  #peers = new Map();
  #state = "idle";
  #id = null;
  #granted = new Set();
  #session = null;
  #token = null;
  #iceServers = [];
  /**
   * The socket that is registered, the one that is on its way there, and the one that was registered before and is read until the server closes it.
   * More than one at once only while moving away from a draining node.
   */
  #link = null;
  #dialing = null;
  #former = null;
  #attempt = 0;
  #refusals = 0;
  #redialTimer = null;
  #moveTimer = null;
  #keepaliveTimer = null;
  #pending = new Map();
  #counter = 0;
  #prefix = Math.random().toString(36).slice(2, 8);
  #revoked = false;
  #waiters = [];
  #onOnline = () => this.#networkBack();

  constructor(options) {
    super();
    if (typeof options?.getToken !== "function") throw new HeliographError("no_token", "getToken is required: an async function that returns a token.");
    this.#options = { autoConnect: true, pingIntervalMs: 5_000, feedbackMs: LIMITS.feedbackMs, answerMs: LIMITS.answerMs, ...options };
    this.#url = options.url ?? socketUrl(options.server);
    this._pingIntervalMs = this.#options.pingIntervalMs;
    this._answerMs = this.#options.answerMs;
  }

  /** This peer's own id; null until the first token has come. */
  get id() {
    return this.#id;
  }

  /** "idle", "connecting", "online", "waiting", "stopped" or "closed". */
  get state() {
    return this.#state;
  }

  /** Peers by id: those that the service lists, and those with a connection. */
  get peers() {
    return this.#peers;
  }

  /** What the server granted, of CAPABILITIES. */
  get capabilities() {
    return [...this.#granted];
  }

  /** The session's number, increasing over the cluster; null while unknown. */
  get epoch() {
    return this.#session?.epoch ?? null;
  }

  /** The ICE servers that new connections get. */
  get iceServers() {
    return this.#options.iceServers ?? this.#iceServers;
  }

  /**
   * Starts, and resolves when the first peer list is here. Rejects when the client was stopped before that (not allowed, credential
   * refused, closed). A server that cannot be reached is not an end: the client keeps trying and the promise waits.
   */
  connect() {
    if (this.#state === "online") return Promise.resolve();
    const done = new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
    if (this.#state === "idle" || this.#state === "closed" || this.#state === "stopped") {
      this.#revoked = false;
      this.#attempt = 0;
      this.#refusals = 0;
      globalThis.addEventListener?.("online", this.#onOnline);
      this.#dial();
    }
    return done;
  }

  /** Ends signaling and all connections. `connect()` starts anew. */
  close() {
    this.#end("closed", { code: 1000, reason: "closed", message: "Closed by this page." });
    for (const peer of [...this.#peers.values()]) peer.close();
    this.#peers.clear();
  }

  /**
   * Sends one message through the service to `target`.
   *
   * Resolves, never rejects for reasons of the network, with `{outcome, target, id?, reason?}`:
   *   "delivered"      the target's gateway wrote it to the target's socket
   *   "undeliverable"  it was not delivered; `reason` is the server's, or `offline`, `too_large`, `too_many_pending`, `buffer_full` from here
   *   "unknown"        nobody can say: `timeout`, `connection_lost`, or `not_granted` (the server gives no feedback)
   *
   * @param {string} type a type of the dialect or your own
   * @param {string} target the peer's id
   * @param {unknown} payload any JSON; the whole frame may have LIMITS.frameBytes
   */
  send(type, target, payload) {
    const wantsFeedback = this.#granted.has("feedback");
    const id = wantsFeedback ? this._id("m") : undefined;
    if (wantsFeedback && this.#pending.size >= LIMITS.pending) {
      return Promise.resolve({ outcome: "undeliverable", target, reason: "too_many_pending" });
    }
    const refused = this.#write(type, target, payload, id);
    if (refused !== null) return Promise.resolve({ outcome: "undeliverable", target, id, reason: refused });
    if (!wantsFeedback) return Promise.resolve({ outcome: "unknown", target, reason: "not_granted" });
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settlePending(id, { outcome: "unknown", reason: "timeout" }), this.#options.feedbackMs);
      this.#pending.set(id, { resolve, timer, target, link: this.#outgoing });
    });
  }

  /** Sends a mesh message (an object with `type`) over the DataChannel of one peer. Throws a HeliographError when that is not possible. */
  sendTo(peerId, message) {
    const peer = this.#peers.get(peerId);
    if (!peer) throw new HeliographError("unknown_peer", `There is no peer ${peerId}.`);
    peer.send(message);
  }

  /** Sends to every peer with an open channel; returns how many took it. */
  broadcast(message) {
    let count = 0;
    for (const peer of this.#peers.values()) {
      if (!peer.open) continue;
      try {
        peer.send(message);
        count += 1;
      } catch (error) {
        this._report(error);
      }
    }
    return count;
  }

  /** Connects to a peer from this side. Only needed with `autoConnect: false`, or after `disconnectFrom`. */
  connectTo(peerId) {
    if (this.#revoked) throw new HeliographError("revoked", "This peer was revoked.");
    const peer = this.#peer(peerId);
    if (peer === null) throw new HeliographError("too_many_peers", `No more than ${LIMITS.peers} peers are kept.`);
    peer.offer();
    return peer;
  }

  /** Ends the connection with a peer; it stays listed. */
  disconnectFrom(peerId) {
    this.#peers.get(peerId)?.close();
  }

  // -- for Peer (not part of the interface) ---------------------------------------------------------------------------

  _emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  _report(error) {
    this._emit("error", { error });
  }

  _peerChanged(peer) {
    this._emit("peer", { peer, removed: false });
  }

  _id(kind) {
    this.#counter += 1;
    return `${kind}-${this.#prefix}-${this.#counter}`;
  }

  /** Offers and answers can be sent: registered, and still in our right. */
  get _mayNegotiate() {
    return this.#link !== null && !this.#revoked;
  }

  _newConnection() {
    let count = 0;
    for (const peer of this.#peers.values()) if (peer.connection) count += 1;
    if (count >= LIMITS.connections) throw new HeliographError("too_many_connections", `No more than ${LIMITS.connections} connections are kept.`);
    const Connection = this.#options.RTCPeerConnection ?? globalThis.RTCPeerConnection;
    return new Connection(this.#configuration());
  }

  /** A message without feedback. False when it could not be given to the socket. */
  _relay(type, target, payload) {
    return this.#write(type, target, payload, undefined) === null;
  }

  /** Forgets a peer that is neither listed nor connected. */
  _settle(peer) {
    if (peer.present || peer.connection !== null || this.#peers.get(peer.id) !== peer) return;
    this.#peers.delete(peer.id);
    this._emit("peer", { peer, removed: true });
  }

  // -- the socket -----------------------------------------------------------------------------------------------------

  #configuration() {
    return { ...this.#options.rtcConfiguration, iceServers: this.iceServers };
  }

  #setState(state, detail = {}) {
    if (this.#state === state && detail.retryInMs === undefined) return;
    this.#state = state;
    this._emit("state", { state, ...detail });
  }

  /** A token that is good for at least half a minute more, from hand or from the caller. */
  async #freshToken() {
    if (this.#token && this.#token.goodUntil > Date.now() + 30_000) return this.#token;
    const answer = await this.#options.getToken();
    const token = typeof answer === "string" ? answer : answer?.token;
    if (typeof token !== "string" || token === "") throw new HeliographError("no_token", "getToken did not return a token.");
    const claims = readClaims(token);
    const id = (typeof answer === "object" && answer.peer_id) || claims.sub;
    if (!id) throw new HeliographError("no_token", "The token does not say whose it is; return {token, peer_id} from getToken.");
    // The life-span in seconds is counted on our own clock; the claim's time is the server's, and clocks differ.
    const seconds = typeof answer === "object" && typeof answer.expires_in === "number" ? answer.expires_in : 0;
    this.#token = { text: token, id, goodUntil: seconds > 0 ? Date.now() + seconds * 1000 : 0 };
    return this.#token;
  }

  async #dial() {
    if (this.#dialing !== null) return;
    clearTimeout(this.#redialTimer);
    this.#redialTimer = null;
    // `numbers.last` is the `seq` of the last message that came; sockets of one session share it.
    const link = { ws: null, timer: null, since: 0, lastFrame: 0, asked: false, resuming: false, numbers: { last: 0 } };
    this.#dialing = link;
    if (this.#link === null) this.#setState("connecting");

    let token;
    try {
      token = await this.#freshToken();
    } catch (cause) {
      if (this.#dialing !== link) return;
      this.#dialing = null;
      const error = cause instanceof Error ? cause : new HeliographError("no_token", String(cause));
      if (error.status === 401 || error.status === 403) {
        this.#stop({ code: error.status, reason: "credential_refused", message: error.message });
        return;
      }
      this._report(error);
      this.#later({ floorMs: error.retryAfterMs ?? 0, reason: "no_token", message: error.message });
      return;
    }
    if (this.#dialing !== link) return;
    this.#id = token.id;

    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    let ws;
    try {
      ws = new Socket(this.#url, [SUBPROTOCOL]);
    } catch (cause) {
      this.#dialing = null;
      this.#stop({ code: 0, reason: "bad_url", message: cause.message });
      return;
    }
    link.ws = ws;
    this.#expectList(link);
    ws.onopen = () => {
      this.#frame(link, { type: "authenticate", payload: { token: token.text } });
      const resumes = this.#mayResume;
      if (resumes) {
        const { resume_token, numbers } = this.#session;
        this.#frame(link, { type: "resume", peer_id: this.#id, payload: { resume_token, received: numbers.last } });
      }
      this.#register(link);
      link.resuming = resumes;
    };
    ws.onmessage = ({ data }) => this.#incoming(link, data);
    ws.onclose = ({ code, reason }) => this.#dropped(link, { code, reason });
  }

  #register(link) {
    this.#frame(link, { type: "register", peer_id: this.#id, payload: { version: 1, capabilities: CAPABILITIES } });
  }

  #expectList(link) {
    link.timer = setTimeout(() => this.#dropped(link, { code: 4408, reason: "No answer from the server." }), LIMITS.handshakeMs);
  }

  /** A session that goes on has its place, and messages pass; only the list has to wait for other nodes. */
  #askForListLater(link) {
    clearTimeout(link.timer);
    link.timer = setTimeout(() => {
      this.#expectList(link);
      this.#register(link);
    }, backoffDelay(1, { floorMs: LIMITS.backoffBaseMs }));
  }

  /** Whether the session of before can go on over a new socket. */
  get #mayResume() {
    return this.#session?.resume_token !== undefined && performance.now() < this.#session.resumeUntil;
  }

  /** A socket ended, or is treated as ended. */
  #dropped(link, { code, reason }) {
    const current = link === this.#link;
    if (link === this.#former) this.#former = null;
    else if (!current && link !== this.#dialing) return;
    const moved = !current && link !== this.#dialing;
    // Where it is us who give up, the server must not take it for a farewell: with 1000 it would end the session.
    this.#detach(link, 4408);
    if (link === this.#dialing) this.#dialing = null;
    this._emit("trace", { direction: "note", type: "closed", peer: null, bytes: 0, note: `${code}${reason ? ` ${reason}` : ""}` });

    // We are on the new socket already; that the server closes the old one is what it was read for.
    if (moved) return;

    if (current) {
      this.#link = null;
      clearInterval(this.#keepaliveTimer);
      clearTimeout(this.#moveTimer);
      this.#keepaliveTimer = this.#moveTimer = null;
      if (this.#session) this.#session.resumeUntil = performance.now() + this.#session.resume_window_ms;
      if (performance.now() - link.since >= LIMITS.stableMs) this.#attempt = 0;
    }

    const decision = afterClose(code);
    if (decision.newToken) this.#token = null;
    if (this.#revoked) {
      this.#stop({ code, reason: "revoked", message: "This peer was revoked." });
      return;
    }
    // While moving, it is our own new socket that has superseded the old one, before we heard from it.
    const superseded = current && code === 4409 && this.#dialing?.ws?.readyState === 1;
    if (!decision.comeBack && !superseded) {
      this.#stop({ code, reason: decision.reason, message: reason || "" });
      return;
    }
    // With a resumed session the answer may still come; without one it never will.
    if (!current) this.#forgetPending((entry) => entry.link === link);
    else if (!this.#mayResume) this.#forgetPending((entry) => entry.link !== this.#dialing);
    if (current && this.#dialing !== null) {
      // Already on the way to another node.
      this.#setState("connecting");
      return;
    }
    if (code === 4401) {
      this.#refusals += 1;
      if (this.#refusals === 1) {
        this.#dial();
        return;
      }
    }
    this.#later({ floorMs: decision.floorMs, reason: decision.reason, message: reason || "" });
  }

  #later({ floorMs, reason, message }) {
    const delay = backoffDelay(this.#attempt, { floorMs });
    this.#attempt += 1;
    clearTimeout(this.#redialTimer);
    this.#redialTimer = setTimeout(() => this.#dial(), delay);
    if (this.#link === null) this.#setState("waiting", { retryInMs: delay, reason, message });
  }

  /** The browser says that there is a network again: waiting out the backoff would be of no use, but all tabs hear it together. */
  #networkBack() {
    if (this.#state !== "waiting") return;
    clearTimeout(this.#redialTimer);
    this.#redialTimer = setTimeout(() => this.#dial(), backoffDelay(0));
  }

  /** Hears nothing more from a socket, and closes it if it is open. With 1000 the server ends the session, too. */
  #detach(link, code = 1000) {
    clearTimeout(link.timer);
    if (!link.ws) return;
    link.ws.onopen = link.ws.onmessage = link.ws.onclose = null;
    if (link.ws.readyState <= 1) link.ws.close(code);
  }

  #stop(detail) {
    this.#end("stopped", detail);
    this._emit("stopped", detail);
  }

  #end(state, detail) {
    clearTimeout(this.#redialTimer);
    clearTimeout(this.#moveTimer);
    clearInterval(this.#keepaliveTimer);
    globalThis.removeEventListener?.("online", this.#onOnline);
    for (const link of [this.#link, this.#dialing, this.#former]) if (link) this.#detach(link);
    this.#link = this.#dialing = this.#former = this.#session = this.#token = null;
    this.#forgetPending(() => true);
    for (const peer of [...this.#peers.values()]) {
      peer.present = false;
      // An open channel lives on; one that still needs signaling cannot be finished.
      if (!peer.open) peer.close();
      this._settle(peer);
    }
    this.#setState(state, detail);
    for (const { reject } of this.#waiters.splice(0)) reject(new HeliographError(detail.reason, detail.message || `Signaling has ended (${detail.reason}).`));
  }

  // -- frames out -----------------------------------------------------------------------------------------------------

  #frame(link, frame) {
    const text = JSON.stringify(frame);
    link.ws.send(text);
    this._emit("trace", { direction: "out", type: frame.type, peer: frame.target_id ?? null, bytes: text.length });
  }

  /**
   * Where messages go. Once a new socket has asked to resume, that is the one: it reads them after our `register`, while the old one may be closed
   * before it has read them.
   */
  get #outgoing() {
    return this.#dialing?.resuming ? this.#dialing : this.#link;
  }

  /** Null when the frame was given to the socket, else the reason why not. */
  #write(type, target, payload, id) {
    const link = this.#outgoing;
    if (link === null || link.ws.readyState !== 1) return "offline";
    const frame = { type, peer_id: this.#id, target_id: target, payload };
    if (id !== undefined) frame.id = id;
    const text = JSON.stringify(frame);
    const bytes = byteLength(text, LIMITS.frameBytes);
    if (bytes > LIMITS.frameBytes) return "too_large";
    if (link.ws.bufferedAmount + bytes > LIMITS.socketBufferBytes) return "buffer_full";
    link.ws.send(text);
    this._emit("trace", { direction: "out", type, peer: target ?? null, bytes });
    return null;
  }

  /** False when nobody waits for it any more. */
  #settlePending(id, outcome) {
    const entry = this.#pending.get(id);
    if (!entry) return false;
    this.#pending.delete(id);
    clearTimeout(entry.timer);
    entry.resolve({ target: entry.target, id, ...outcome });
    return true;
  }

  /** Nobody will answer these any more. */
  #forgetPending(which) {
    for (const [id, entry] of [...this.#pending]) if (which(entry)) this.#settlePending(id, { outcome: "unknown", reason: "connection_lost" });
  }

  // -- frames in ------------------------------------------------------------------------------------------------------

  #incoming(link, data) {
    if (link !== this.#link && link !== this.#dialing && link !== this.#former) return;
    link.lastFrame = performance.now();
    link.asked = false;
    if (typeof data !== "string" || data.length > LIMITS.incomingChars) return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      this._report(new HeliographError("malformed", "The server sent something that is not JSON."));
      return;
    }
    if (frame === null || typeof frame !== "object" || typeof frame.type !== "string" || typeof frame.peer_id !== "string") return;
    const registry = frame.peer_id === REGISTRY;
    this._emit("trace", { direction: "in", type: frame.type, peer: registry ? null : frame.peer_id, bytes: data.length });
    const payload = frame.payload ?? {};
    if (link === this.#dialing && (!registry || frame.type === "peer_list" || frame.type === "resumed")) {
      this.#arrived(link, registry && frame.type === "resumed" && payload.fresh !== true);
    }
    // Of what the old socket still brings, only what was on its way to us counts: the new one's list has the rest.
    if (link === this.#former && registry && frame.type !== "delivered" && frame.type !== "undeliverable") return;
    if (!this.#isNew(frame, link)) return;
    // A peer can send us any type that the service relays; only the service itself may speak about others.
    if (registry) this.#control(frame.type, payload, link);
    else this.#relayed(frame);
  }

  /** Whether a numbered frame has not come before, on this socket or on another one of the session. */
  #isNew({ type, seq }, link) {
    if (!Number.isSafeInteger(seq)) return true;
    if (seq <= link.numbers.last) {
      this._emit("trace", { direction: "note", type, peer: null, bytes: 0, note: `number ${seq} came before` });
      return false;
    }
    link.numbers.last = seq;
    return true;
  }

  /**
   * The new socket is our session from its first frame on, not only from its peer list: the queued messages of a resumed session come before
   * the list, and their answers must go out on it. The old one is read until the server closes it.
   */
  #arrived(link, goesOn) {
    const old = this.#link;
    this.#dialing = null;
    this.#link = link;
    link.since = performance.now();
    clearTimeout(this.#moveTimer);
    this.#moveTimer = null;
    if (goesOn && this.#session !== null) link.numbers = this.#session.numbers;
    else this.#forgetPending((entry) => entry.link !== link);
    if (old === null) return;
    if (this.#former !== null) this.#detach(this.#former);
    this.#former = old;
    clearTimeout(old.timer);
    old.timer = setTimeout(() => this.#dropped(old, { code: 1000, reason: "The server leaves the old socket open." }), LIMITS.handshakeMs);
  }

  /** The answer to `resume`. */
  #resumed(payload) {
    const fresh = payload.fresh === true;
    const count = (value) => (Number.isSafeInteger(value) ? value : 0);
    if (!fresh && this.#session !== null && typeof payload.resume_token === "string") this.#session.resume_token = payload.resume_token;
    const [recovered, lost] = fresh ? [0, null] : [count(payload.recovered), count(payload.lost)];
    if (lost !== 0) for (const peer of this.#peers.values()) peer.signalsMayBeLost();
    this._emit("resumed", { recovered, lost, fresh });
  }

  #control(type, payload, link) {
    switch (type) {
      case "peer_list":
        this.#listed(payload, link);
        break;
      case "resumed":
        this.#resumed(payload);
        break;
      case "peer_joined": {
        const peer = this.#peer(payload.peer);
        if (peer === null) break;
        peer.present = true;
        peer.role = payload.role ?? peer.role;
        this._emit("peerjoined", { peer });
        this._peerChanged(peer);
        break;
      }
      case "peer_left": {
        const peer = this.#peers.get(payload.peer);
        if (!peer) break;
        peer.present = false;
        // A channel that is open, or about to be, does not need the other's socket.
        if (!peer.open && peer.connectionState !== "connecting" && peer.connectionState !== "connected") peer.close();
        this._emit("peerleft", { peer });
        this._peerChanged(peer);
        this._settle(peer);
        break;
      }
      case "peer_revoked":
        this.#revokedPeer(payload.peer);
        break;
      case "approved":
        this._emit("approved", {});
        break;
      case "ice_servers":
        this.#newIceServers(payload.ice_servers);
        break;
      case "delivered":
        if (!this.#settlePending(payload.id, { outcome: "delivered" })) this._emit("delivered", { id: payload.id ?? null, target: payload.target ?? null });
        break;
      case "undeliverable":
        if (payload.id !== undefined && payload.id !== null) this.#settlePending(payload.id, { outcome: "undeliverable", reason: payload.reason ?? "unavailable" });
        this._emit("undeliverable", { id: payload.id ?? null, target: payload.target ?? null, reason: payload.reason ?? "unavailable" });
        break;
      case "goaway":
        this.#goaway(payload);
        break;
      case "error":
        if (payload.code === "bus_unavailable" && link === this.#link) this.#askForListLater(link);
        this._report(new HeliographError(payload.code ?? "server", payload.message ?? "The server could not use a message."));
        break;
      default:
        // pong and whatever a newer server says.
        break;
    }
  }

  #listed(payload, link) {
    clearTimeout(link.timer);
    this.#granted = new Set(Array.isArray(payload.capabilities) ? payload.capabilities : []);
    this.#session = this.#sessionOf(payload.session, link);
    if (Array.isArray(payload.ice_servers)) this.#newIceServers(payload.ice_servers);

    const listed = new Set((Array.isArray(payload.peers) ? payload.peers : []).filter((id) => typeof id === "string" && id !== this.#id));
    const roles = this.#granted.has("roles") && payload.roles && typeof payload.roles === "object" ? payload.roles : {};
    for (const peer of [...this.#peers.values()]) {
      if (listed.has(peer.id) || !peer.present) continue;
      peer.present = false;
      this._peerChanged(peer);
      if (peer.connectionState === "failed") peer.close("failed");
      this._settle(peer);
    }
    for (const id of listed) {
      const peer = this.#peer(id);
      if (peer === null) break;
      peer.present = true;
      if (Object.hasOwn(roles, id)) peer.role = roles[id];
      this._peerChanged(peer);
    }

    this.#refusals = 0;
    this.#keepalive(link);
    this.#setState("online");
    this._emit("peerlist", { peers: [...listed] });
    for (const { resolve } of this.#waiters.splice(0)) resolve();

    for (const id of listed) {
      const peer = this.#peers.get(id);
      if (!peer) continue;
      if (peer.connection) peer.signalingBack();
      // We found it in our list, so we are the newcomer, and it waits for our offer.
      else if (this.#options.autoConnect && !this.#revoked) {
        try {
          peer.offer();
        } catch (error) {
          // One report for all that are too many.
          this._report(error);
          break;
        }
      }
    }
  }

  /** What a list says of the session. One of the same session that is silent about resuming leaves what was said before. */
  #sessionOf(session, link) {
    if (session === null || typeof session !== "object") return null;
    const before = this.#session !== null && this.#session.epoch === session.epoch ? this.#session : undefined;
    const told = typeof session.resume_token === "string" ? session : before;
    return {
      epoch: session.epoch,
      resume_token: this.#granted.has("resume") ? told?.resume_token : undefined,
      resume_window_ms: told?.resume_window_ms ?? 0,
      resumeUntil: Infinity,
      numbers: link.numbers,
    };
  }

  #relayed(frame) {
    const { type, peer_id: from, payload } = frame;
    if (type === "offer" || type === "answer" || type === "ice_candidate") {
      if (this.#revoked) return;
      const peer = this.#peer(from);
      if (peer === null) {
        this._report(new HeliographError("too_many_peers", `No more than ${LIMITS.peers} peers are kept.`));
        return;
      }
      peer.receive(type, payload ?? null);
      return;
    }
    this._emit("signal", { type, from, payload: payload ?? null, id: typeof frame.id === "string" ? frame.id : undefined });
  }

  #revokedPeer(id) {
    if (id === this.#id) {
      this.#revoked = true;
      this._emit("revoked", {});
      this.#stop({ code: 4403, reason: "revoked", message: "This peer was revoked." });
      return;
    }
    const peer = this.#peers.get(id);
    if (!peer) return;
    peer.present = false;
    peer.close("revoked");
    this._emit("peerrevoked", { peer });
    this._settle(peer);
  }

  #newIceServers(servers) {
    if (!Array.isArray(servers)) return;
    this.#iceServers = servers;
    const configuration = this.#configuration();
    for (const peer of this.#peers.values()) peer.configure(configuration);
    this._emit("iceservers", { iceServers: this.iceServers });
  }

  /** The node drains: go to another one at the advised time (the server has spread it), and use this socket until the new one asks to resume. */
  #goaway(payload) {
    const after = Number.isFinite(payload.reconnect_after_ms) ? Math.max(0, payload.reconnect_after_ms) : backoffDelay(0);
    const deadline = Number.isFinite(payload.deadline_ms) ? Math.max(0, payload.deadline_ms) : null;
    this._emit("goaway", { reconnectAfterMs: after, deadlineMs: deadline });
    clearTimeout(this.#moveTimer);
    this.#moveTimer = setTimeout(() => this.#dial(), deadline === null ? after : Math.min(after, deadline));
  }

  /** A browser answers the server's pings by itself and tells us nothing: a dead way is only noticed by asking. */
  #keepalive(link) {
    clearInterval(this.#keepaliveTimer);
    if (this.#granted.size === 0) return;
    this.#keepaliveTimer = setInterval(() => {
      if (link !== this.#link) return;
      const quiet = performance.now() - link.lastFrame;
      if (link.asked && quiet > LIMITS.keepaliveMs + LIMITS.silenceMs) {
        this.#dropped(link, { code: 1006, reason: "The connection has gone quiet." });
      } else if (quiet >= LIMITS.keepaliveMs - 1_000 && !link.asked) {
        link.asked = true;
        this.#frame(link, { type: "ping", peer_id: this.#id, payload: { sent: Date.now() } });
      }
    }, LIMITS.silenceMs);
  }

  /** The record of a peer, made when it is new; null when there are too many. */
  #peer(id) {
    if (typeof id !== "string" || id === "" || id === this.#id) return null;
    let peer = this.#peers.get(id);
    if (!peer) {
      if (this.#peers.size >= LIMITS.peers) return null;
      peer = new Peer(this, id);
      this.#peers.set(id, peer);
    }
    return peer;
  }
}
