//! What a client may say and how often, and which rule each message goes to.

use std::time::Instant;

use super::{Effect, Outcome, Session, Step};
use crate::authority::Authority;
use crate::close::CloseCode;
use crate::limits::Limits;
use crate::message::{ClientMessage, Directed, Envelope, Undeliverable};
use crate::rate::Rate;

/// Messages over the rate that are refused one by one before the socket is closed. A pause in which the bucket
/// fills up forgives them, so that a long life does not add up to a flood.
pub(super) const RATE_STRIKES: u32 = 500;

impl Session {
    /// A message from the client.
    pub fn on_client<'a>(
        &mut self,
        envelope: Envelope<'a>,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if !self.is_within_rate(limits, now) {
            return match &envelope.message {
                ClientMessage::Directed(directed) => self.over_rate(Some(directed)),
                _ => self.over_rate(None),
            };
        }
        if envelope.sender.is_some_and(|sender| *sender != *self.peer.id.as_str()) {
            return Step {
                effect: self.error("wrong_sender", "peer_id is not the identity of this connection"),
                outcome: Outcome::Spoofed,
            };
        }
        match envelope.message {
            ClientMessage::Resume { token, received } => self.resume(token, received),
            ClientMessage::Register(capabilities) => self.register(capabilities),
            ClientMessage::Directed(directed) => self.directed(directed, authority, limits, now),
            ClientMessage::Broadcast { kind, payload } => {
                self.broadcast(kind, payload, authority, limits, now)
            }
            ClientMessage::Enter(enter) => Step { effect: Effect::Enter(enter), outcome: Outcome::Accepted },
            ClientMessage::Leave => Step { effect: Effect::Leave, outcome: Outcome::Accepted },
            ClientMessage::Prove(_) => Step {
                effect: self.error("unexpected", "there was nothing to prove"),
                outcome: Outcome::Ignored,
            },
            ClientMessage::Ping { payload } => {
                Step { effect: Effect::Pong { payload }, outcome: Outcome::Accepted }
            }
            ClientMessage::MeshHealth => Step { effect: Effect::Health, outcome: Outcome::Accepted },
            ClientMessage::Heartbeat | ClientMessage::Authenticate { .. } => Step::quiet(Outcome::Accepted),
            ClientMessage::Unknown { kind } => Step {
                effect: self
                    .error("unknown_type", format!("unknown message type {kind:?} without a target_id")),
                outcome: Outcome::Ignored,
            },
        }
    }

    /// A frame that the codec could not read; `problem` names what was wrong with it.
    pub fn on_malformed(&mut self, problem: String, limits: &Limits, now: Instant) -> Step<'static> {
        if !self.is_within_rate(limits, now) {
            return self.over_rate(None);
        }
        Step { effect: self.error("malformed", problem), outcome: Outcome::Refused(Undeliverable::Malformed) }
    }

    fn is_within_rate(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.bucket.is_full(now) {
            self.strikes = 0;
        }
        self.bucket.take(Rate::per_second(limits.max_messages_per_second, limits.message_burst), now)
    }

    fn over_rate(&mut self, directed: Option<&Directed<'_>>) -> Step<'static> {
        let outcome = Outcome::Refused(Undeliverable::RateLimited);
        self.strikes += 1;
        if self.strikes > RATE_STRIKES {
            return Step { effect: Effect::Close(CloseCode::RateLimited), outcome };
        }
        match directed {
            Some(directed) => self.refuse(directed, Undeliverable::RateLimited),
            None => Step::quiet(outcome),
        }
    }
}
