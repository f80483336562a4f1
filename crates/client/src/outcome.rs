//! What became of a message.

use std::fmt;

/// The longest reason that is kept of a service that knows more reasons than we do, in bytes.
const MAX_OTHER_BYTES: usize = 64;

/// What became of a message for one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was written to the target's socket.
    Delivered,
    /// It was not delivered, as far as is known: [`Reason::may_have_arrived`].
    Undeliverable(Reason),
    /// Nobody can say.
    Unknown(Unknown),
}

impl Outcome {
    /// Whether it was delivered.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}

/// Why a message was not delivered: the service's reasons, then those of this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The peer is unknown, offline or not approved, or we are not approved.
    Unavailable,
    /// The way to the peer's node is down.
    BusUnavailable,
    /// The node cannot prove at the moment that its view of approvals is current.
    AuthorizationUnavailable,
    /// The peer reads too slowly.
    QueueFull,
    /// We send too much.
    RateLimited,
    /// The message is over a limit, the service's or [`Config::max_frame_bytes`](crate::Config::max_frame_bytes).
    TooLarge,
    /// The message cannot be sent as it is: its type is empty, too long or one of the protocol's own.
    Malformed,
    /// The peer did not come back for it in time, or nobody answered for it in time.
    Expired,
    /// There is no connection to the service now.
    Offline,
    /// More waits to be written than is kept.
    BufferFull,
    /// As many messages wait for their outcome as may: [`limits::PENDING`](crate::limits::PENDING).
    TooManyPending,
    /// One that this version does not know, cut to 64 bytes.
    Other(String),
}

impl Reason {
    /// Reads the service's word.
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "unavailable" => Self::Unavailable,
            "bus_unavailable" => Self::BusUnavailable,
            "authorization_unavailable" => Self::AuthorizationUnavailable,
            "queue_full" => Self::QueueFull,
            "rate_limited" => Self::RateLimited,
            "too_large" => Self::TooLarge,
            "malformed" => Self::Malformed,
            "expired" => Self::Expired,
            other => Self::Other(other.chars().take(MAX_OTHER_BYTES / 4).collect()),
        }
    }

    /// The stable word for programs, the service's where the reason is its.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unavailable => "unavailable",
            Self::BusUnavailable => "bus_unavailable",
            Self::AuthorizationUnavailable => "authorization_unavailable",
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Offline => "offline",
            Self::BufferFull => "buffer_full",
            Self::TooManyPending => "too_many_pending",
            Self::Other(word) => word,
        }
    }

    /// Whether the same message has a chance a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::BusUnavailable
            | Self::AuthorizationUnavailable
            | Self::QueueFull
            | Self::RateLimited
            | Self::Expired
            | Self::Offline
            | Self::BufferFull
            | Self::TooManyPending => true,
            Self::Unavailable | Self::TooLarge | Self::Malformed | Self::Other(_) => false,
        }
    }

    /// Whether the service gave up waiting rather than knew: the message may have arrived all the same.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::BusUnavailable | Self::Expired)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the fate of a message is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// No word came in time: [`Config::feedback_within`](crate::Config::feedback_within).
    Timeout,
    /// The connection was lost with it, and the session did not go on.
    ConnectionLost,
    /// The service grants no feedback.
    NotGranted,
}

/// Why a message was not even written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no connection to the service now.
    #[error("not connected to the service")]
    Offline,
    /// It is larger than [`Config::max_frame_bytes`](crate::Config::max_frame_bytes).
    #[error("the message is too large")]
    TooLarge,
    /// Its type is empty, too long or one of the protocol's own.
    #[error("not a type that can be sent to a peer")]
    Malformed,
    /// More waits to be written than is kept.
    #[error("too much waits to be written")]
    BufferFull,
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Offline => Self::Offline,
            Refused::TooLarge => Self::TooLarge,
            Refused::Malformed => Self::Malformed,
            Refused::BufferFull => Self::BufferFull,
        }
    }
}
