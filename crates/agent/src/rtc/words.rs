//! The words of a connection.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use heliograph_client::IceServer;

use super::Channel;

/// How a connection is made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// STUN and TURN servers.
    pub(crate) ice_servers: Vec<IceServer>,
    /// No candidate but those of a TURN server leaves, and none else is used.
    pub(crate) relay_only: bool,
    /// What to listen on; empty: every interface of this machine.
    pub(crate) listen: Vec<IpAddr>,
    /// Without a sign of life for this long, a connection is `Disconnected`.
    pub(crate) disconnected_after: Duration,
    /// `Disconnected` for this long, it has `Failed`.
    pub(crate) failed_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ice_servers: vec![],
            relay_only: false,
            listen: vec![],
            // Browsers say so after five seconds, too. They fail after fifteen or more, and so long a peer that was killed
            // would be taken for one that is slow.
            disconnected_after: Duration::from_secs(5),
            failed_after: Duration::from_secs(10),
        }
    }
}

/// The state of a connection, ICE and DTLS together (`RTCPeerConnectionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nothing has been tried.
    #[default]
    New,
    /// Looking for a way.
    Connecting,
    /// There is a way, and it works.
    Connected,
    /// It has not worked for some seconds; it may come back by itself.
    Disconnected,
    /// There is none, or none any more. An ICE restart may find another.
    Failed,
    /// It was closed, perhaps by the other side.
    Closed,
}

impl State {
    /// The word for `status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// A candidate as it travels.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// `candidate:…`.
    pub(crate) text: String,
    /// Of which media section, by name.
    pub(crate) mid: Option<String>,
    /// Of which media section, by number.
    pub(crate) index: Option<u16>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Candidate(•••)")
    }
}

/// What a connection says of itself.
#[derive(Debug)]
pub(crate) enum Event {
    /// A candidate for the other side.
    Candidate(Candidate),
    /// Its state changed.
    State(State),
    /// The other side opened the channel of the mesh.
    Channel(Channel),
}

/// The kinds of the two candidates that ICE chose: `host`, `srflx`, `prflx`, `relay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// On this side.
    pub(crate) local: String,
    /// On the other.
    pub(crate) remote: String,
}

/// Which half of a negotiation a description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The question.
    Offer,
    /// The reply.
    Answer,
}
