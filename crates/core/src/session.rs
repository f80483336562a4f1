//! One authenticated socket as a state machine: a message or an event and the time go in, one [`Step`] comes out.
//!
//! ```text
//! connected ──register──▶ registered, placed (approved)   ──▶ sends, receives, is listed
//!                └──────▶ registered, waiting (not yet)   ──approved──▶ placed
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::Epoch;
use crate::limits::Limits;
use crate::message::{Capabilities, Peer, ServerMessage};
use crate::rate::TokenBucket;
use crate::replay::Replay;
use crate::unanswered::Unanswered;

pub use mail::Mail;
pub use placing::Offers;
pub use resuming::{Inheritance, Remains};
pub use step::{Effect, Outcome, Step, reason_of};

mod client;
mod liveness;
mod mail;
mod placing;
mod resuming;
mod sending;
mod step;
#[cfg(test)]
mod tests;

/// What the driver hands a new session.
#[derive(Debug)]
pub struct Opening {
    /// The authenticated peer.
    pub peer: Arc<Peer>,
    /// Of two sessions of a peer the higher epoch is the live one.
    pub epoch: Epoch,
    /// When the socket opened.
    pub now: Instant,
    /// In `0.0..1.0`: this socket's share of the ping jitter.
    pub ping_phase: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected,
    /// Registered, but not approved (or not any more).
    Waiting,
    /// Registered, approved and in its place.
    Placed(u64),
}

/// One session. Small: thousands of them idle in memory.
#[derive(Debug)]
pub struct Session {
    peer: Arc<Peer>,
    epoch: Epoch,
    phase: Phase,
    /// The latest place of anybody whom the client was shown in a list.
    shown: u64,
    /// `None`: a client of the original protocol.
    capabilities: Option<Capabilities>,
    bucket: TokenBucket,
    strikes: u32,
    opened: Instant,
    last_seen: Instant,
    /// When a ping went out that nothing answered yet.
    pinged: Option<Instant>,
    ping_after: Duration,
    replay: Replay,
    unanswered: Unanswered,
}

impl Session {
    /// A session that has just authenticated.
    pub fn new(opening: Opening, limits: &Limits) -> Self {
        let Opening { peer, epoch, now, ping_phase } = opening;
        Self {
            peer,
            epoch,
            phase: Phase::Connected,
            shown: 0,
            capabilities: None,
            bucket: TokenBucket::new(),
            strikes: 0,
            opened: now,
            last_seen: now,
            pinged: None,
            replay: Replay::default(),
            unanswered: Unanswered::default(),
            ping_after: limits.ping_interval.mul_f32(0.75 + ping_phase / 2.0),
        }
    }

    /// Whose session this is.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the client asked for and got `capability`.
    pub fn has(&self, capability: Capabilities) -> bool {
        self.capabilities.is_some_and(|granted| granted.has(capability))
    }

    /// Whether the peer is listed to others.
    pub fn is_placed(&self) -> bool {
        matches!(self.phase, Phase::Placed(_))
    }

    /// The place in the order of registrations, if it is listed.
    pub fn place(&self) -> Option<u64> {
        if let Phase::Placed(place) = self.phase { Some(place) } else { None }
    }

    fn error<'a>(&self, code: &'static str, message: impl Into<String>) -> Effect<'a> {
        if !self.has(Capabilities::FEEDBACK) {
            return Effect::None; // the original is silent
        }
        Effect::Send(ServerMessage::Error { code, message: message.into() })
    }
}
