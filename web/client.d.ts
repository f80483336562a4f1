/** Types of the Heliograph browser client. The words stand beside the code, in client.js. */

export const SUBPROTOCOL: "heliograph.mesh.v1";
export const REGISTRY: "registry";
export const CAPABILITIES: readonly Capability[];
export const LIMITS: Readonly<{
  frameBytes: number;
  incomingChars: number;
  socketBufferBytes: number;
  pending: number;
  feedbackMs: number;
  peers: number;
  connections: number;
  earlyCandidates: number;
  inbox: number;
  channelBufferBytes: number;
  backoffBaseMs: number;
  backoffCapMs: number;
  stableMs: number;
  handshakeMs: number;
  keepaliveMs: number;
  silenceMs: number;
  answerMs: number;
  iceRestarts: number;
}>;

export type Capability = "events" | "feedback" | "resume" | "roles" | "ice" | "goaway";
export type Role = "polite" | "impolite";
export type ClientState = "idle" | "connecting" | "online" | "waiting" | "stopped" | "closed";

/** Why signaling ended for good. `credential_refused`: the token exchange answered 401 or 403. */
export type StopReason = "normal" | "not_allowed" | "superseded" | "revoked" | "credential_refused" | "bad_url";

/** Why a message was not delivered: the server's reasons, then those of this client. */
export type UndeliverableReason =
  | "unavailable"
  | "bus_unavailable"
  | "authorization_unavailable"
  | "queue_full"
  | "rate_limited"
  | "too_large"
  | "malformed"
  | "expired"
  | "offline"
  | "buffer_full"
  | "too_many_pending";

export type SendOutcome =
  | { outcome: "delivered"; target: string; id: string }
  | { outcome: "undeliverable"; target: string; id?: string; reason: UndeliverableReason | string }
  | { outcome: "unknown"; target: string; id?: string; reason: "timeout" | "connection_lost" | "not_granted" };

/** The answer of `POST /api/token`. `expires_in` is in seconds. */
export interface TokenAnswer {
  token: string;
  peer_id?: string;
  role?: string;
  mesh?: string;
  expires_in?: number;
}

export interface Credential {
  /** Address of the server, e.g. "https://signal.example". Default: the server of this page. */
  server?: string;
  deviceToken?: string;
  apiKey?: string;
  signal?: AbortSignal;
}

export interface ClientOptions {
  /**
   * Returns a token: the text of the JWT, or the answer of `POST /api/token`. With `expires_in` in it the client uses a token again for as long as it
   * is good. An error with `status` 401 or 403 ends signaling (`stopped`, reason `credential_refused`); `retryAfterMs` on an error is honoured.
   */
  getToken: () => Promise<string | TokenAnswer>;
  /** Address of the server. Default: the server of this page. */
  server?: string;
  /** Address of the socket, instead of `server`. Must not hold a token. */
  url?: string;
  /** ICE servers to use instead of those that the service pushes. */
  iceServers?: RTCIceServer[];
  /** Anything else for RTCPeerConnection, e.g. `iceTransportPolicy`. */
  rtcConfiguration?: RTCConfiguration;
  /** Offer to every peer of the peer list. Default true. */
  autoConnect?: boolean;
  /** How often the round-trip time of each open channel is measured, milliseconds; 0 is never. Default 5000. */
  pingIntervalMs?: number;
  /** How long a message waits for its outcome, milliseconds. Default 10000. */
  feedbackMs?: number;
  /** How long an offer waits for its answer before it is said again, milliseconds. Default 4000. */
  answerMs?: number;
  /** Other implementations, for tests and for runtimes that are not browsers. */
  WebSocket?: unknown;
  RTCPeerConnection?: unknown;
}

/** A message of the mesh protocol over a DataChannel. Only `type` is required; `ping` and `pong` are answered by the client itself. */
export interface MeshMessage {
  type: string;
  request_id?: string;
  source_agent?: string;
  target_agent?: string;
  payload?: unknown;
  [more: string]: unknown;
}

export interface CandidateEnd {
  type: RTCIceCandidateType;
  protocol: string;
  address: string | null;
  port: number | null;
}

export interface PeerStats {
  /** The chosen pair; null while there is none. */
  local: CandidateEnd | null;
  remote: CandidateEnd | null;
  /** Kinds of candidates seen on each side: "host", "srflx", "prflx", "relay". */
  localTypes: string[];
  remoteTypes: string[];
  /** Round-trip time of ICE's own checks, milliseconds. */
  iceRttMs: number | null;
  bytesSent: number;
  bytesReceived: number;
}

/** One counterpart. Made by the client. */
export class Peer {
  private constructor();
  readonly id: string;
  /** Whether the service lists it as connected. An open DataChannel can outlive this. */
  readonly present: boolean;
  /** The server's word on who gives way when offers cross, seen from this side. */
  readonly role: Role | undefined;
  /** What follows from it (without it, from the two ids). */
  readonly polite: boolean;
  /** Last round-trip time over the DataChannel, milliseconds. */
  readonly rttMs: number | null;
  /** How the last connection ended. */
  readonly ended: null | "closed" | "failed" | "unreachable" | "revoked";
  /** For reading; the client owns it. */
  readonly connection: RTCPeerConnection | null;
  readonly connectionState: RTCPeerConnectionState | "none";
  readonly channelState: RTCDataChannelState | "none";
  /** Whether messages can be sent now. */
  readonly open: boolean;
  /** Sends over the DataChannel. Throws HeliographError: `not_connected`, `too_large`, `buffer_full`. */
  send(message: MeshMessage | string): void;
  /** Measures one round trip over the channel, milliseconds. */
  ping(timeoutMs?: number): Promise<number>;
  stats(): Promise<PeerStats | null>;
}

/** What became of the session of before. `lost` counts what was on its way to us and never comes; with `fresh` nobody knows. */
export type Resumed = { recovered: number; lost: number; fresh: false } | { recovered: 0; lost: null; fresh: true };

export interface ClientEvents {
  state: { state: ClientState; retryInMs?: number; code?: number; reason?: string; message?: string };
  stopped: { code: number; reason: StopReason; message: string };
  revoked: Record<string, never>;
  approved: Record<string, never>;
  peerlist: { peers: string[] };
  peerjoined: { peer: Peer };
  peerleft: { peer: Peer };
  peerrevoked: { peer: Peer };
  peer: { peer: Peer; removed: boolean };
  channelopen: { peer: Peer };
  channelclose: { peer: Peer };
  /** `message` is the parsed JSON, null when the data was not JSON. */
  message: { peer: Peer; message: MeshMessage | null; data: string | ArrayBuffer | Blob };
  signal: { type: string; from: string; payload: unknown; id?: string };
  undeliverable: { id: string | null; target: string | null; reason: UndeliverableReason | string };
  /** Of which `send` had reported another outcome, or is not waiting any more. */
  delivered: { id: string | null; target: string | null };
  resumed: Resumed;
  iceservers: { iceServers: RTCIceServer[] };
  goaway: { reconnectAfterMs: number; deadlineMs: number | null };
  trace: { direction: "in" | "out" | "note"; type: string; peer: string | null; bytes: number; note?: string };
  error: { error: HeliographError };
}

export class HeliographClient extends EventTarget {
  constructor(options: ClientOptions);
  readonly id: string | null;
  readonly state: ClientState;
  readonly peers: ReadonlyMap<string, Peer>;
  readonly capabilities: Capability[];
  readonly epoch: number | null;
  readonly iceServers: RTCIceServer[];
  /** Resolves with the first peer list; rejects when signaling ended before that. */
  connect(): Promise<void>;
  close(): void;
  /** One message through the service. Resolves with its outcome; see client.js. */
  send(type: string, target: string, payload: unknown): Promise<SendOutcome>;
  /** One message over the DataChannel of a peer. Throws HeliographError. */
  sendTo(peerId: string, message: MeshMessage | string): void;
  /** The same to every open channel; returns how many took it. */
  broadcast(message: MeshMessage | string): number;
  connectTo(peerId: string): Peer;
  disconnectFrom(peerId: string): void;
  addEventListener<K extends keyof ClientEvents>(type: K, listener: (event: CustomEvent<ClientEvents[K]>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof ClientEvents>(type: K, listener: (event: CustomEvent<ClientEvents[K]>) => void, options?: boolean | EventListenerOptions): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** `code` is stable: no_token, no_server, no_credential, not_connected, too_large, buffer_full, unknown_peer, too_many_peers, too_many_connections, negotiation, … */
export class HeliographError extends Error {
  constructor(code: string, message: string, more?: { status?: number; retryAfterMs?: number; cause?: unknown });
  readonly code: string;
  readonly status?: number;
  readonly retryAfterMs?: number;
}

export function socketUrl(server?: string): string;
export function exchangeToken(credential?: Credential): Promise<Required<TokenAnswer>>;
export function tokenSource(credential: Credential): () => Promise<TokenAnswer>;
export function fetchIceServers(credential?: Credential & { token?: string }): Promise<RTCIceServer[]>;

export function backoffDelay(attempt: number, options?: { baseMs?: number; capMs?: number; floorMs?: number; random?: () => number }): number;
export function afterClose(code: number): { comeBack: boolean; newToken: boolean; floorMs: number; reason: string };
export function isPolite(self: string, other: string, role?: Role): boolean;
export function judgeOffer(state: { polite: boolean; makingOffer: boolean; signalingState: RTCSignalingState; settingAnswer?: boolean }): "accept" | "rollback" | "ignore";
export function sessionId(sdp: string | null | undefined): string | null;
export function readCandidate(payload: unknown): { candidate: string; sdpMid: string | null; sdpMLineIndex: number | null } | null;
export function readClaims(token: string): { sub: string | null; exp: number | null };
export function retryAfterMs(header: string | null, now?: number): number | undefined;
