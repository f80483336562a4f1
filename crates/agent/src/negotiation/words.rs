//! What a negotiation is told, and what it says.

use std::fmt;
use std::time::Duration;

use heliograph_client::{Outcome, Role};

use crate::rtc::{Candidate, State};

/// The text of a description. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sdp(pub(crate) String);

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl From<String> for Sdp {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Sdp {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A connection is wanted from this side.
    Connect,
    /// The other side offers.
    Offer(Sdp),
    /// The other side answers.
    Answer(Sdp),
    /// A candidate of the other side.
    Candidate(Candidate),
    /// The state of the connection.
    State(State),
    /// The channel is over.
    ChannelClosed,
    /// What became of a description that was sent.
    Sent {
        /// As in [`Action::Send`].
        description: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// Whether the service lists the other side.
    Present(bool),
    /// Who gives way, as the service says.
    Role(Option<Role>),
    /// The connection to the service is there again, and the list with it.
    SignalingBack,
    /// Something between the two was lost, a candidate perhaps.
    SignalsMayBeLost,
    /// A timer that was started has run out.
    Elapsed(Timer),
    /// A step could not be done; those after it were not tried.
    Failed,
    /// It is over.
    Close(Ended),
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A new connection; the one before it is closed.
    Open,
    /// The channel of the mesh, from this side.
    CreateChannel,
    /// Make an offer and set it.
    Offer {
        /// With new ICE credentials.
        restart: bool,
    },
    /// Take the own offer back.
    RollBack,
    /// Set the other side's offer.
    TakeOffer(Sdp),
    /// Make an answer and set it.
    Answer,
    /// Set the other side's answer.
    TakeAnswer(Sdp),
    /// Use a candidate of the other side. That it cannot be used is no failure.
    Add(Candidate),
    /// Send the own description, with the candidates so far.
    Send {
        /// For [`Input::Sent`].
        description: u64,
    },
    /// Start a timer, anew if it runs.
    Start(Timer, Wait),
    /// Stop a timer.
    Stop(Timer),
    /// Close the connection.
    Shut(Ended),
}

/// What is waited for; of each at most one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The answer to the own offer.
    Answer,
    /// The next sending of a description.
    Resend,
    /// The restart of a connection that failed.
    Restart,
}

/// How long: any time between the two, by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wait {
    /// At least.
    pub(crate) least: Duration,
    /// At most.
    pub(crate) most: Duration,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a side that wanted it so, or by the other one starting over.
    Closed,
    /// No way was found, or none any more.
    Failed,
    /// The other side cannot be reached through the service.
    Unreachable,
    /// The other side lost its right.
    Revoked,
}

impl Ended {
    /// The word for `status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Revoked => "revoked",
        }
    }
}
