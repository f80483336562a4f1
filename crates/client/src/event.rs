//! What a client hears.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use heliograph_core::id::PeerId;
use serde_json::value::RawValue;

use crate::outcome::Reason;

/// How it stands with the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Getting a token, a socket, or the first list on it.
    Connecting,
    /// Registered: the list has come.
    Online,
    /// The connection is lost or was refused; the next attempt is made by itself.
    Waiting {
        /// When, from the moment of the event.
        retry_in: Duration,
    },
    /// For good. No event follows.
    Stopped(Stop),
}

/// Why signaling has ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// [`Client::close`](crate::Client::close), or the last handle was dropped.
    #[error("closed by this program")]
    Closed,
    /// The service said good-bye.
    #[error("the service said good-bye")]
    Normal,
    /// This peer may not connect.
    #[error("this peer may not connect")]
    NotAllowed,
    /// A newer session of the same peer took over: the credential is used twice.
    #[error("superseded by a newer session of the same peer")]
    Superseded,
    /// This peer lost its right.
    #[error("this peer was revoked")]
    Revoked,
    /// The token exchange refused the credential: it is unknown, not approved or revoked.
    #[error("the credential was refused")]
    CredentialRefused,
    /// The address of the socket or of the token exchange is none.
    #[error("not an address that can be used: ws://, wss:// for the socket, http://, https:// for the token")]
    BadUrl,
}

impl Stop {
    /// The stable word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Normal => "normal",
            Self::NotAllowed => "not_allowed",
            Self::Superseded => "superseded",
            Self::Revoked => "revoked",
            Self::CredentialRefused => "credential_refused",
            Self::BadUrl => "bad_url",
        }
    }
}

/// Who gives way when two offers cross, seen from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Drops its own offer.
    Polite,
    /// Insists.
    Impolite,
}

impl Role {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "polite" => Some(Self::Polite),
            "impolite" => Some(Self::Impolite),
            _ => None,
        }
    }
}

/// A peer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub peer: PeerId,
    /// Our role towards it, where the service says one.
    pub role: Option<Role>,
}

/// Servers for ICE, in the form of `RTCIceServer`.
#[derive(Debug, Clone)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` addresses.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN; shown as dots.
    pub credential: Option<Arc<Secret>>,
}

/// What happened. [`Events::next`](crate::Events::next) gives them in order.
///
/// `Debug` shows no payload and no credential, so events can be logged.
pub enum Event {
    /// How it stands with the service has changed.
    State(State),
    /// Who is there: the answer to our registration.
    PeerList {
        /// All of them.
        peers: Vec<Listed>,
        /// Not the first list of this session: it holds everybody, not only those who came before us. (The list of a
        /// peer that has just been approved counts as the first.)
        again: bool,
    },
    /// A peer came. It offers to us.
    PeerJoined(Listed),
    /// A peer left. Connections to it may outlive that.
    PeerLeft(PeerId),
    /// A peer lost its right. Close what connects us.
    PeerRevoked(PeerId),
    /// We ourselves lost our right; [`Stop::Revoked`] follows.
    Revoked,
    /// We got our right; a list follows.
    Approved,
    /// A message from a peer. The service has verified the sender.
    Message {
        /// The sender.
        from: PeerId,
        /// `offer`, `answer`, `ice_candidate` or a type of the application's own.
        kind: String,
        /// The bytes that the sender sent; `null` if it sent none.
        payload: Box<RawValue>,
        /// The sender's name for the message.
        id: Option<String>,
    },
    /// The servers for ICE: with each list, before it, and again before their credentials run out.
    IceServers(Vec<IceServer>),
    /// The connection was lost, or moved, and is there again.
    Resumed {
        /// How many messages waited for us; they follow.
        recovered: u64,
        /// How many never come. `None`: the session is a new one, and nobody knows.
        lost: Option<u64>,
    },
    /// A message that nobody waits for was not delivered: one that was posted, or one whose wait is over.
    Undeliverable {
        /// For whom it was, where that is said.
        target: Option<PeerId>,
        /// Why.
        reason: Reason,
    },
    /// The node drains. The client moves by itself.
    GoAway {
        /// When it moves.
        reconnect_after: Duration,
        /// When the node closes the socket, where it says so.
        deadline: Option<Duration>,
    },
    /// The service could not use a message. The client goes on.
    ServiceError {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => f.debug_tuple("State").field(state).finish(),
            Self::PeerList { peers, again } => {
                f.debug_struct("PeerList").field("peers", peers).field("again", again).finish()
            }
            Self::PeerJoined(listed) => f.debug_tuple("PeerJoined").field(listed).finish(),
            Self::PeerLeft(peer) => f.debug_tuple("PeerLeft").field(peer).finish(),
            Self::PeerRevoked(peer) => f.debug_tuple("PeerRevoked").field(peer).finish(),
            Self::Revoked => f.write_str("Revoked"),
            Self::Approved => f.write_str("Approved"),
            // Payloads hold SDP and candidates.
            Self::Message { from, kind, payload, id } => f
                .debug_struct("Message")
                .field("from", from)
                .field("kind", kind)
                .field("id", id)
                .field("payload_bytes", &payload.get().len())
                .finish(),
            Self::IceServers(servers) => f.debug_tuple("IceServers").field(servers).finish(),
            Self::Resumed { recovered, lost } => {
                f.debug_struct("Resumed").field("recovered", recovered).field("lost", lost).finish()
            }
            Self::Undeliverable { target, reason } => {
                f.debug_struct("Undeliverable").field("target", target).field("reason", reason).finish()
            }
            Self::GoAway { reconnect_after, deadline } => f
                .debug_struct("GoAway")
                .field("reconnect_after", reconnect_after)
                .field("deadline", deadline)
                .finish(),
            Self::ServiceError { code, message } => {
                f.debug_struct("ServiceError").field("code", code).field("message", message).finish()
            }
        }
    }
}
