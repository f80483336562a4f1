// @ts-check
// A peer that speaks the mesh dialect (docs/protocol/mesh.md), for load tests. It knows neither k6 nor Node: sockets, timers, clock
// and HTTP are handed in, so that the tests of this folder try under Node what k6 runs.

/** Everything that a client may ask for. */
export const CAPABILITIES = ["events", "feedback", "resume", "roles", "ice", "goaway"];

/** Close code of a connection that is broken off on purpose: the session waits for its client (docs/protocol/mesh.md, coming back). */
export const BROKEN_OFF = 4000;

/** Most milliseconds that a peer waits before it tries again; the wait is random below a ceiling that doubles up to here. */
const LONGEST_PAUSE = 30_000;
const FIRST_PAUSE = 1_000;

/**
 * @typedef {object} Call A request to the HTTP interface.
 * @property {"GET" | "POST" | "DELETE"} method
 * @property {string} path
 * @property {Record<string, string>} headers
 * @property {string | null} body JSON
 *
 * @typedef {{ status: number, json: any }} Answer
 *
 * @typedef {object} SocketEvents
 * @property {() => void} opened
 * @property {(text: string) => void} message
 * @property {() => void} ended Once, also if the socket never opened.
 *
 * @typedef {object} Socket
 * @property {() => boolean} isOpen Not while it is opening or closing: k6's throws when something is sent then.
 * @property {(text: string) => void} send
 * @property {(code: number) => void} close
 *
 * @typedef {object} World What a peer needs of its surroundings.
 * @property {(url: string, headers: Record<string, string>, events: SocketEvents) => Socket} connect
 * @property {(base: string, call: Call) => Promise<Answer>} call
 * @property {(run: () => void, ms: number) => any} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} now Milliseconds.
 * @property {() => number} random From 0 to 1.
 *
 * @typedef {object} Frame
 * @property {string} type
 * @property {string} peer_id
 * @property {string} [target_id]
 * @property {string} [id]
 * @property {number} [seq]
 * @property {any} payload
 */

/** @param {string} key */
const withKey = (key) => ({ "x-api-key": key });

/**
 * @param {"GET" | "POST" | "DELETE"} method
 * @param {string} path
 * @param {Record<string, string>} headers
 * @param {unknown} [body]
 * @returns {Call}
 */
function request(method, path, headers, body) {
  if (body === undefined) return { method, path, headers, body: null };
  return { method, path, headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
}

/** The calls that load tests make. */
export const calls = {
  /** @param {string} admin @param {string} peer @param {string} mesh */
  createKey: (admin, peer, mesh) => request("POST", "/api/keys", withKey(admin), { peer_id: peer, role: "agent", mesh }),
  /** @param {Record<string, string>} credential `x-api-key` or `x-device-token` */
  token: (credential) => request("POST", "/api/token", credential),
  /** @param {string} admin */
  invite: (admin) => request("POST", "/api/pairing/generate-code", withKey(admin), {}),
  /** @param {string} code @param {string} name */
  redeem: (code, name) => request("POST", "/api/pairing/pair", {}, { code, agent_name: name }),
  /** @param {string} admin @param {string} pairing */
  approve: (admin, pairing) => request("POST", `/api/pairing/${pairing}/approve`, withKey(admin)),
  /** @param {string} admin @param {string} peer A pairing or a peer; the answer comes when the revocation is enforced. */
  revoke: (admin, peer) => request("POST", `/api/pairing/${peer}/revoke?wait=enforced`, withKey(admin)),
  /** @param {string} admin */
  gateways: (admin) => request("GET", "/api/gateways", withKey(admin)),
  /** @param {string} admin @param {string} gateway */
  drain: (admin, gateway) => request("POST", `/api/gateways/${gateway}/drain`, withKey(admin)),
  /** @param {string} admin @param {string} gateway */
  undrain: (admin, gateway) => request("DELETE", `/api/gateways/${gateway}/drain`, withKey(admin)),
};

/**
 * The answer, if it has this status.
 * @param {World} world @param {string} base @param {Call} call @param {number} status
 */
export async function expect(world, base, call, status) {
  const answer = await world.call(base, call);
  if (answer.status !== status) throw new Error(`${call.method} ${base}${call.path}: ${refusal(answer)}`);
  return answer.json;
}

/** What an answer says is wrong. Only that: an answer that is not a refusal may hold a key or a token. @param {Answer} answer */
function refusal({ status, json }) {
  if (status === 0) return "no answer";
  return status < 400 ? `unexpected status ${status}` : `${status} ${json?.code ?? ""} ${json?.detail ?? ""}`.trimEnd();
}

/** `http://…` to `ws://…/ws`. @param {string} base */
export function socketUrl(base) {
  return `${base.replace(/^http/, "ws").replace(/\/+$/, "")}/ws`;
}

/** A pause before the next attempt, with full jitter. @param {number} attempt @param {number} random */
export function pause(attempt, random) {
  return Math.min(FIRST_PAUSE * 2 ** Math.min(attempt, 16), LONGEST_PAUSE) * random;
}

/** One peer. It stays connected until it is stopped, and takes its session with it wherever it comes back. */
export class Peer {
  /**
   * @param {World} world
   * @param {{ id: string, credential: Record<string, string>, bases: string[], capabilities?: string[] }} options `bases`: the
   *   addresses of nodes or of a load balancer; each attempt to connect goes to the next.
   */
  constructor(world, { id, credential, bases, capabilities = CAPABILITIES }) {
    this.world = world;
    this.id = id;
    this.credential = credential;
    this.bases = bases;
    this.capabilities = capabilities;

    /** A list came: the session is there. @type {(list: any) => void} */
    this.onList = () => {};
    /** A message of another peer. @type {(frame: Frame) => void} */
    this.onMessage = () => {};
    /** What the service says otherwise. @type {(frame: Frame) => void} */
    this.onNotice = () => {};
    /** The answer to `resume`. @type {(payload: any) => void} */
    this.onResumed = () => {};
    /** A connection ended that was not to end, or did not come about. @type {() => void} */
    this.onLost = () => {};
    /** A connection that was open ended: what was sent on it last may not have been read. @type {(number: number) => void} */
    this.onEnded = () => {};

    this.wanted = false;
    /** @type {Socket | null} */
    this.socket = null;
    /** The number of the connection to send on. */
    this.connection = 0;
    /** Connections that were opened. */
    this.connections = 0;
    /** The number of the last connection that brought a list. */
    this.listed = 0;
    /** Lists after the first one: how often it came back. */
    this.returns = 0;
    this.attempts = 0;
    /** Attempts up to the last one that led to a list. */
    this.succeeded = 0;
    /** Whether an attempt is under way: a second one would use up the same resume token. */
    this.connecting = false;
    /** @type {any} */
    this.timer = null;
    /** @type {string | null} */
    this.resumeToken = null;
    /** The last number that came in this session. */
    this.received = 0;
    /** Sessions that began anew; what an older one's socket still brings is not for this one. */
    this.session = 0;
    /** Frames that came twice and were dropped. */
    this.repeated = 0;
  }

  start() {
    this.wanted = true;
    this.connect();
  }

  /** Leaves for good. */
  stop() {
    this.wanted = false;
    this.world.cancel(this.timer);
    this.timer = null;
    this.socket?.close(1000);
    this.socket = null;
  }

  /** Breaks the connection off, and comes back. */
  breakOff() {
    if (this.socket === null) return;
    this.socket.close(BROKEN_OFF);
    // Over at once, not only when the node agrees: it may be one that answers nothing any more.
    this.socket = null;
    this.onEnded(this.connection);
    this.again();
  }

  /** Whether there is a connection to send on. */
  get connected() {
    return this.socket !== null && this.socket.isOpen();
  }

  /** Whether that connection has brought its list. */
  get online() {
    return this.connected && this.listed === this.connection;
  }

  /**
   * @param {string} type @param {string | null} target @param {unknown} payload @param {string} [id]
   * @returns {boolean} Whether there is a connection to send it on.
   */
  send(type, target, payload, id) {
    if (this.socket === null || !this.connected) return false;
    /** @type {Record<string, unknown>} */
    const frame = { type, peer_id: this.id, payload };
    if (target !== null) frame.target_id = target;
    if (id !== undefined) frame.id = id;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  connect() {
    const base = this.bases[this.attempts % this.bases.length] ?? "";
    this.attempts += 1;
    this.connecting = true;
    expect(this.world, base, calls.token(this.credential), 200).then(
      ({ token }) => this.wanted && this.open(base, token),
      () => {
        this.connecting = false;
        this.again();
      },
    );
  }

  /** @param {string} base @param {string} token */
  open(base, token) {
    let session = this.session;
    let asked = false;
    /** Its number, once it is open. */
    let number = 0;
    const socket = this.world.connect(socketUrl(base), { authorization: `Bearer ${token}` }, {
      opened: () => {
        this.connecting = false;
        number = this.connections += 1;
        if (!this.wanted) return socket.close(1000);
        // From here on the new connection is the one to send on; an older one is read until it ends.
        this.socket = socket;
        this.connection = number;
        if (this.resumeToken !== null) {
          asked = true;
          this.send("resume", null, { resume_token: this.resumeToken, received: this.received });
        }
        this.send("register", null, { version: 1, capabilities: this.capabilities });
      },
      message: (text) => {
        /** @type {Frame} */
        const frame = JSON.parse(text);
        if (socket === this.socket && (frame.type === "resumed" || frame.type === "peer_list")) {
          // A list without a word before it means the same as a session that begins anew.
          if (asked && (frame.type === "peer_list" || frame.payload.fresh)) this.beginAnew(frame.type === "peer_list");
          asked = false;
          session = this.session;
        }
        if (session === this.session) this.hear(frame);
      },
      ended: () => {
        if (this.socket === socket) this.socket = null;
        if (number > 0) this.onEnded(number);
        else this.connecting = false;
        if (this.socket === null) this.again();
      },
    });
  }

  /** @param {boolean} say */
  beginAnew(say) {
    this.session += 1;
    this.received = 0;
    this.resumeToken = null;
    if (say) this.onResumed({ fresh: true, recovered: 0, lost: null });
  }

  again() {
    if (!this.wanted || this.connecting || this.timer !== null) return;
    this.onLost();
    const wait = pause(this.failures(), this.world.random());
    this.timer = this.world.later(() => {
      this.timer = null;
      this.connect();
    }, wait);
  }

  failures() {
    return Math.max(0, this.attempts - this.succeeded - 1);
  }

  /** @param {Frame} frame */
  hear(frame) {
    if (frame.seq !== undefined) {
      if (frame.seq <= this.received) {
        this.repeated += 1;
        return;
      }
      this.received = frame.seq;
    }
    if (frame.peer_id !== "registry") return this.onMessage(frame);
    switch (frame.type) {
      case "resumed":
        if (frame.payload.resume_token) this.resumeToken = frame.payload.resume_token;
        return this.onResumed(frame.payload);
      case "peer_list":
        this.succeeded = this.attempts;
        if (this.listed > 0) this.returns += 1;
        this.listed = this.connection;
        if (frame.payload.session?.resume_token) this.resumeToken = frame.payload.session.resume_token;
        return this.onList(frame.payload);
      case "goaway":
        this.move(frame.payload.reconnect_after_ms);
        return this.onNotice(frame);
      default:
        return this.onNotice(frame);
    }
  }

  /** Opens the next connection while this one still works. @param {number} ms */
  move(ms) {
    if (this.connecting || this.timer !== null) return;
    this.timer = this.world.later(() => {
      this.timer = null;
      this.connect();
    }, ms);
  }
}
