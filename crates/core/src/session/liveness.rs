//! Whether the client is still there: pings, and the deadlines that close its socket.

use std::time::Instant;

use super::{Effect, Phase, Session};
use crate::close::CloseCode;
use crate::limits::Limits;

impl Session {
    /// The client gave a sign of life.
    pub fn on_activity(&mut self, now: Instant) {
        self.last_seen = now;
        self.pinged = None;
    }

    /// A ping, if so much was written that the client should show that it has it.
    pub fn ask_for_sign<'a>(&mut self, now: Instant) -> Effect<'a> {
        if self.replay.is_filling() && self.pinged.is_none() { self.ping(now) } else { Effect::None }
    }

    fn ping<'a>(&mut self, now: Instant) -> Effect<'a> {
        self.pinged = Some(now);
        Effect::Ping { covers: self.replay.last() }
    }

    /// A deadline may have passed.
    pub fn on_tick(&mut self, limits: &Limits, now: Instant) -> Effect<'static> {
        if self.phase == Phase::Connected && now >= self.opened + limits.register_deadline {
            return Effect::Close(CloseCode::Deadline);
        }
        // From the ping and not from the silence: a node that stood still itself must not close everybody.
        if self.pinged.is_some_and(|pinged| now >= pinged + limits.pong_deadline) {
            return Effect::Close(CloseCode::Deadline);
        }
        if self.pinged.is_none() && now >= self.last_seen + self.ping_after {
            return self.ping(now);
        }
        Effect::None
    }

    /// When [`Self::on_tick`] has something to do, if nothing else happens before.
    pub fn next_deadline(&self, limits: &Limits) -> Instant {
        let alive = match self.pinged {
            Some(pinged) => pinged + limits.pong_deadline,
            None => self.last_seen + self.ping_after,
        };
        let alive = self.unanswered.next_deadline().map_or(alive, |deadline| alive.min(deadline));
        match self.phase {
            Phase::Connected => alive.min(self.opened + limits.register_deadline),
            Phase::Waiting | Phase::Placed(_) => alive,
        }
    }
}
