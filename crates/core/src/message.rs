//! The one vocabulary past the codec. SDP and candidates are opaque bytes: they are relayed as they came in.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::authority::Right;
use crate::id::{Epoch, PeerId, SpaceName};
use crate::limits;

pub mod reserved;

/// A peer as its sessions and its messages see it. One value per peer, space and node, shared by all who need it.
#[derive(Debug)]
pub struct Peer {
    /// The mesh, or the room of it.
    pub space: SpaceName,
    /// The identity, unique in the space.
    pub id: PeerId,
    /// What the pairing service says, kept current by the authority feed; in a room that is open to all, what its
    /// policy says.
    pub right: Arc<Right>,
    /// In a room: the peer of the mesh whose right this is, which the feed finds as long as it is held here.
    pub behind: Option<Arc<Self>>,
}

impl Peer {
    /// A peer of which nothing is known yet.
    pub fn new(space: impl Into<SpaceName>, id: PeerId) -> Self {
        Self { space: space.into(), id, right: Arc::default(), behind: None }
    }

    /// Whether it is in a room that is open to all: nothing is known of it but the name that it says.
    pub fn is_guest(&self) -> bool {
        self.space.is_room() && self.behind.is_none()
    }

    /// Whether it is there by the right of that peer of the mesh.
    pub fn is_by_right_of(&self, peer: &Arc<Self>) -> bool {
        self.behind.as_ref().is_some_and(|behind| Arc::ptr_eq(behind, peer))
    }

    /// A member of a room that is there by the right of a peer of its mesh.
    pub fn by_right_of(behind: Arc<Self>, room: SpaceName, id: PeerId) -> Self {
        Self { space: room, id, right: Arc::clone(&behind.right), behind: Some(behind) }
    }
}

/// What a directed message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An SDP offer.
    Offer,
    /// An SDP answer.
    Answer,
    /// An ICE candidate.
    Candidate,
    /// A type of the application's own. Shared, since a message to a room has as many copies as the room has members.
    Application(Arc<str>),
}

impl Kind {
    /// Whether the message may be dropped first when a queue is full: a stale candidate is replaced by the next
    /// one, an offer or answer is not.
    pub fn is_expendable(&self) -> bool {
        matches!(self, Self::Candidate)
    }

    /// The largest payload, in bytes, given the configured maximum of a whole message.
    pub fn max_payload_bytes(&self, max_message_bytes: usize) -> usize {
        match self {
            Self::Candidate => limits::MAX_CANDIDATE_BYTES.min(max_message_bytes),
            Self::Offer | Self::Answer | Self::Application(_) => max_message_bytes,
        }
    }
}

/// What a client said, with borrowed fields of its frame. `sender` is what it claims; the session checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The claimed sender; `None` where the message claims none.
    pub sender: Option<Cow<'a, str>>,
    /// The message.
    pub message: ClientMessage<'a>,
}

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Prove an identity, where the upgrade did not. Handled before there is a session.
    Authenticate {
        /// The token.
        token: Cow<'a, str>,
    },
    /// Take over from a former session of the same peer, before `register`.
    Resume {
        /// What the former session was given.
        token: Cow<'a, str>,
        /// The number of the last thing that arrived, where the client counts.
        received: Option<u64>,
    },
    /// "I am here, who else is?", with what the client can do (`None`: a client of the original protocol).
    Register(Option<Capabilities>),
    /// "I am this one, put me into that room", where the upgrade did not say who one is.
    Enter(Enter<'a>),
    /// The answer to a [`ServerMessage::Challenge`].
    Prove(Proof<'a>),
    /// Out of the room; the socket stays, if the dialect has it so.
    Leave,
    /// A message for one peer.
    Directed(Directed<'a>),
    /// A message for all others in the room.
    Broadcast {
        /// What it is.
        kind: Kind,
        /// The payload, as it came in.
        payload: Bytes,
    },
    /// Answered with a pong that returns the payload.
    Ping {
        /// What to send back, as JSON text.
        payload: Bytes,
    },
    /// How is the mesh?
    MeshHealth,
    /// Sign of life of old clients; no answer.
    Heartbeat,
    /// A type that the service does not know, without a target.
    Unknown {
        /// The type.
        kind: Cow<'a, str>,
    },
}

/// What a client says of itself to be let into a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enter<'a> {
    /// Who it is.
    pub who: Who<'a>,
    /// The room's name; `None`: that of the path.
    pub room: Option<Cow<'a, str>>,
    /// What the others are shown of it, at most [`limits::MAX_PROFILE_BYTES`]. `None` with [`Who::Key`]: the key.
    pub profile: Option<Bytes>,
    /// Whether it wants to prove that the key is its own. It has to where the room is for paired peers only.
    pub proves: bool,
}

/// By what a client is known in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who<'a> {
    /// A name of its own choice.
    Id(Cow<'a, str>),
    /// The fingerprint of a public key: a JWK as JSON text, as it came in, not looked at yet.
    Key(Bytes),
}

/// A signed challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof<'a> {
    /// By which algorithm, in the names of JWS (RFC 7518 §3.1, RFC 8037 §3.1).
    pub algorithm: Cow<'a, str>,
    /// The signature in base64url.
    pub signature: Cow<'a, str>,
}

/// A message for one peer, before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directed<'a> {
    /// What it is.
    pub kind: Kind,
    /// For whom; a client may have forgotten it.
    pub target: Option<Cow<'a, str>>,
    /// Set by clients that want to hear of this message again.
    pub id: Option<Cow<'a, str>>,
    /// The payload as JSON text, as it came in.
    pub payload: Bytes,
}

/// A message on its way from one peer to another.
#[derive(Debug, Clone)]
pub struct Signal {
    /// The authenticated sender; no client can set this.
    pub from: Arc<Peer>,
    /// The sender's session, to which a receipt goes.
    pub from_epoch: Epoch,
    /// What it is.
    pub kind: Kind,
    /// The sender's own name for this message.
    pub id: Option<Box<str>>,
    /// The payload as JSON text, as it came in.
    pub payload: Bytes,
    /// Whether the sender wants to hear that it arrived.
    pub receipt: bool,
    /// Whether it is for all others in a room. Nobody is told what became of each copy.
    pub to_all: bool,
    /// When the sender's node accepted it.
    pub accepted_at: Instant,
    /// Whether it came from another node.
    pub via_bus: bool,
    /// Set when this message is traced.
    pub trace: Option<TraceContext>,
}

/// W3C trace context (<https://www.w3.org/TR/trace-context/>) of a traced message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The sender's span.
    pub span_id: u64,
}

/// Why a message did not arrive, as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undeliverable {
    /// Unknown, offline and not approved look the same: who may not see a peer does not learn of it.
    Unavailable,
    /// The target may be on another node, and the way there is down.
    BusUnavailable,
    /// This node cannot prove that its view of rights is current.
    AuthorizationUnavailable,
    /// The target reads too slowly.
    QueueFull,
    /// The sender sends too much.
    RateLimited,
    /// The payload is over the limit of its type.
    TooLarge,
    /// A member is missing or wrong.
    Malformed,
    /// It waited too long.
    Expired,
}

impl Undeliverable {
    /// The word on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::BusUnavailable => "bus_unavailable",
            Self::AuthorizationUnavailable => "authorization_unavailable",
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
        }
    }
}

/// What became of a directed message, for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The sender's name for the message.
    pub id: Option<Box<str>>,
    /// For whom it was, as the sender wrote it.
    pub target: Box<str>,
    /// `None`: it was written to the target's socket.
    pub failure: Option<Undeliverable>,
}

/// Which of a pair yields when both offer at once (perfect negotiation, W3C WebRTC 1.0 §10.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Yields: drops its own offer.
    Polite,
    /// Insists.
    Impolite,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polite => "polite",
            Self::Impolite => "impolite",
        }
    }

    /// The role of the one that registered at `mine` towards the one that registered at `other`: who came later
    /// is polite. Places are distinct, so the two sides never agree on the same role.
    pub fn of(mine: u64, other: u64) -> Self {
        if mine > other { Self::Polite } else { Self::Impolite }
    }
}

/// A peer in a list, with its place in the order of registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Its place in the space's one total order.
    pub place: u64,
    /// What it shows of itself, in the form of its dialect; bounded by [`limits::MAX_PROFILE_BYTES`].
    pub profile: Option<Bytes>,
}

impl Member {
    /// A member that shows nothing but its name.
    pub fn new(peer: PeerId, place: u64) -> Self {
        Self { peer, place, profile: None }
    }
}

/// An entry of `iceServers` as `RTCPeerConnection` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// For TURN: `expiry:peer`.
    pub username: Option<String>,
    /// For TURN: HMAC of the username.
    pub credential: Option<String>,
}

/// Facts of a session that clients with capabilities get with their first list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What was asked for and can be had.
    pub granted: Capabilities,
    /// The session's epoch.
    pub epoch: Epoch,
    /// The receiver's own place in the order, from which its roles follow.
    pub place: u64,
    /// For clients that asked for `ice`.
    pub ice_servers: Option<Arc<Vec<IceServer>>>,
    /// For clients that asked for `resume`.
    pub resume: Option<ResumeOffer>,
}

/// How a client that loses its connection takes up its session again.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeOffer {
    /// What it shows then. It opens this session's queue only, and only to the same peer.
    pub token: Box<str>,
    /// How long the queue is kept, in milliseconds.
    pub window_ms: u64,
}

impl std::fmt::Debug for ResumeOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeOffer").field("window_ms", &self.window_ms).finish_non_exhaustive()
    }
}

/// What the service says to a client.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    /// Who is here.
    PeerList {
        /// The peers, the receiver not among them.
        peers: Vec<Member>,
        /// For clients that registered with capabilities.
        welcome: Option<Box<Welcome>>,
    },
    /// A message from another peer, for the receiver.
    Signal {
        /// The message.
        signal: Signal,
        /// Its number, for clients that may resume.
        seq: Option<u64>,
    },
    /// The answer to a `resume`.
    Resumed(Resumed),
    /// Sign this, to be let into the room.
    Challenge {
        /// Fresh, for this socket and this attempt alone; base64url.
        nonce: Box<str>,
    },
    /// A peer came.
    PeerJoined {
        /// Who.
        peer: PeerId,
        /// What it shows of itself.
        profile: Option<Bytes>,
        /// The receiver's role towards it, where it asked for roles.
        role: Option<Role>,
    },
    /// A peer went.
    PeerLeft {
        /// Who.
        peer: PeerId,
    },
    /// A peer (perhaps the receiver) lost its right.
    PeerRevoked {
        /// Who.
        peer: PeerId,
    },
    /// The receiver got its right.
    Approved,
    /// What became of a message.
    Receipt {
        /// What became of it.
        receipt: Receipt,
        /// Its number, for clients that may resume.
        seq: Option<u64>,
    },
    /// ICE servers, at first or anew.
    IceServers(Arc<Vec<IceServer>>),
    /// The answer to a ping.
    Pong {
        /// What the ping carried, as JSON text.
        payload: Bytes,
        /// Milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// The answer to `mesh_health`.
    MeshHealth(MeshHealth),
    /// The node is about to close this socket.
    GoAway {
        /// When to come back.
        reconnect_after_ms: u64,
        /// When the socket closes at the latest.
        deadline_ms: u64,
    },
    /// A message could not be understood.
    Error {
        /// A stable word.
        code: &'static str,
        /// What was wrong and what to do.
        message: String,
    },
}

/// What became of a `resume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// The session goes on.
    Recovered {
        /// Messages and receipts that follow.
        recovered: u64,
        /// What is known to be lost.
        lost: u64,
        /// How to resume the next time: the token that was shown is used up.
        resume: ResumeOffer,
    },
    /// The token is unknown or its time is over: the client goes on as new.
    Fresh,
}

/// How the mesh is, as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshHealth {
    /// Registered, approved peers of the mesh.
    pub peers_online: u64,
    /// Live gateways.
    pub gateways: u64,
    /// The applied version of the pairing state.
    pub version: u64,
    /// Whether this node may relay.
    pub authorization_current: bool,
}

/// What a client can do beyond the original protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u8);

impl Capabilities {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// `peer_joined`, `peer_left`, `peer_revoked`, `approved`.
    pub const EVENTS: Self = Self(1);
    /// `delivered`, `undeliverable`, `error`.
    pub const FEEDBACK: Self = Self(1 << 1);
    /// `polite` / `impolite` per pair.
    pub const ROLES: Self = Self(1 << 2);
    /// ICE servers pushed.
    pub const ICE: Self = Self(1 << 3);
    /// A word before a node closes the socket.
    pub const GOAWAY: Self = Self(1 << 4);
    /// What waits for a client that lost its connection is kept for it.
    pub const RESUME: Self = Self(1 << 5);
    /// All that this version grants.
    pub const OFFERED: Self = Self(0b11_1111);

    const NAMES: [(&'static str, Self); 6] = [
        ("events", Self::EVENTS),
        ("feedback", Self::FEEDBACK),
        ("resume", Self::RESUME),
        ("roles", Self::ROLES),
        ("ice", Self::ICE),
        ("goaway", Self::GOAWAY),
    ];

    /// The capability of that name, if this version knows it.
    pub fn named(name: &str) -> Self {
        Self::NAMES.iter().find(|(n, _)| *n == name).map_or(Self::NONE, |(_, c)| *c)
    }

    /// As a number, for other nodes: what a later version adds to it is ignored by this one.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`] of another node, as far as this version grants them.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::OFFERED.0)
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, c)| self.has(*c)).map(|(n, _)| n)
    }
}
