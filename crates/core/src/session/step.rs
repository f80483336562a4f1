//! What one input comes to: what the driver has to do, and what is counted.

use std::borrow::Cow;

use bytes::Bytes;

use crate::authority::Denial;
use crate::close::CloseCode;
use crate::message::{Enter, ServerMessage, Signal, Undeliverable};

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect<'a> {
    /// Nothing.
    None,
    /// Write this to the client.
    Send(ServerMessage),
    /// Take (or look up) this session's place in the order of its space, then call
    /// [`Session::on_placed`](super::Session::on_placed).
    Place,
    /// Give up the place: the peer may no longer be listed.
    Unplace,
    /// This message may not be written to this client: tell its sender.
    Return(Signal),
    /// Bring this to `target`; what fails at once goes to [`Session::on_receipt`](super::Session::on_receipt).
    Relay {
        /// For whom, as the client wrote it.
        target: Cow<'a, str>,
        /// The message.
        signal: Signal,
    },
    /// Bring this to all others in the space.
    Broadcast(Signal),
    /// The client enters, again or elsewhere.
    Enter(Enter<'a>),
    /// The client leaves the space. Its socket may stay.
    Leave,
    /// Fetch what a former session left, then call [`Session::on_resumed`](super::Session::on_resumed), or
    /// tell the client that it is new.
    Resume {
        /// What the client shows.
        token: Cow<'a, str>,
        /// What it says it has.
        received: Option<u64>,
    },
    /// Answer with the facts that the node has of the mesh.
    Health,
    /// Send the payload of a `ping` back, with the time, which the core does not know.
    Pong {
        /// JSON text.
        payload: Bytes,
    },
    /// Send a WebSocket ping, with what its pong will acknowledge.
    Ping {
        /// The last number that was written before it.
        covers: u64,
    },
    /// Close the socket.
    Close(CloseCode),
}

/// What became of one input, for metrics and the log: exactly one per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done or answered.
    Accepted,
    /// Handed to the target's queue or to the bus.
    Relayed,
    /// Nothing to do, as the original protocol has it.
    Ignored,
    /// The claimed sender is not the authenticated one.
    Spoofed,
    /// Not registered yet.
    NotRegistered,
    /// Refused because of a right or the lease.
    Denied(Denial),
    /// Told or not told to the sender, by its capabilities.
    Refused(Undeliverable),
}

impl Outcome {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Relayed => "relayed",
            Self::Ignored => "ignored",
            Self::Spoofed => "spoofed",
            Self::NotRegistered => "not_registered",
            Self::Denied(Denial::NoLease) => "authorization_unavailable",
            Self::Denied(_) => "unauthorized",
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

/// The answer of the state machine to one input.
#[derive(Debug)]
pub struct Step<'a> {
    /// What to do.
    pub effect: Effect<'a>,
    /// What to count.
    pub outcome: Outcome,
}

impl Step<'_> {
    pub(super) fn quiet(outcome: Outcome) -> Self {
        Self { effect: Effect::None, outcome }
    }
}

/// What a sender is told about a denial: never whether the target exists.
pub fn reason_of(denial: Denial) -> Undeliverable {
    match denial {
        Denial::NoLease => Undeliverable::AuthorizationUnavailable,
        Denial::Sender(_) | Denial::Target(_) => Undeliverable::Unavailable,
    }
}
