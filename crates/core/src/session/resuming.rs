//! What outlives a lost connection: what is kept for the client, left behind and taken over.

use std::borrow::Cow;

use super::{Effect, Outcome, Phase, Session, Step};
use crate::message::Capabilities;
use crate::replay::{Replay, Written};
use crate::unanswered::Unanswered;

/// What a session takes over from the one that it resumes.
#[derive(Debug, Clone, Copy)]
pub struct Inheritance {
    /// What the client can do.
    pub capabilities: Capabilities,
    /// The place that it has.
    pub place: u64,
    /// The next number.
    pub next_seq: u64,
    /// Up to here senders have heard that it was written.
    pub confirmed: u64,
}

/// What is left of a session that ended.
#[derive(Debug)]
pub struct Remains {
    /// What the client could do.
    pub capabilities: Capabilities,
    /// The place that it had, if it was listed.
    pub place: Option<u64>,
    /// What was written and not acknowledged.
    pub replay: Replay,
    /// What it sent and has no answer for.
    pub unanswered: Unanswered,
}

impl Session {
    /// Whether the session may go on after its connection is lost.
    pub fn is_resumable(&self) -> bool {
        self.is_placed() && self.has(Capabilities::RESUME) && self.peer.right.is_approved()
    }

    /// Ends the session and answers what is left of it.
    pub fn into_remains(self) -> Remains {
        Remains {
            capabilities: self.capabilities.unwrap_or_default(),
            place: self.place(),
            replay: self.replay,
            unanswered: self.unanswered,
        }
    }

    pub(super) fn resume<'a>(&mut self, token: Cow<'a, str>, received: Option<u64>) -> Step<'a> {
        if self.phase != Phase::Connected {
            return Step {
                effect: self.error("resume_too_late", "resume comes first, before register"),
                outcome: Outcome::Ignored,
            };
        }
        Step { effect: Effect::Resume { token, received }, outcome: Outcome::Accepted }
    }

    /// The driver fetched what a former session left: this one goes on in its place.
    pub fn on_resumed(&mut self, inheritance: Inheritance) {
        self.capabilities = Some(inheritance.capabilities);
        self.phase = Phase::Placed(inheritance.place);
        self.replay = Replay::from(inheritance.next_seq, inheritance.confirmed);
    }

    /// Numbers what a client that may resume is about to be written.
    pub(super) fn number(&mut self, written: impl FnOnce() -> Written) -> Option<u64> {
        (self.is_placed() && self.has(Capabilities::RESUME)).then(|| self.replay.push(written()))
    }

    /// Everything that was handed out for writing so far has been written.
    pub fn on_written(&mut self) {
        self.replay.confirm();
    }

    /// The client answered a ping that said `covers`: it has everything up to there.
    pub fn on_pong(&mut self, covers: u64) {
        self.replay.acknowledge(covers);
    }
}
