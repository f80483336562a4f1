//! Which messages leave for others, and what their sender is told of them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Effect, Outcome, Phase, Session, Step, reason_of};
use crate::authority::Authority;
use crate::limits::{self, Limits};
use crate::message::{Capabilities, Directed, Kind, Receipt, ServerMessage, Signal, Undeliverable};
use crate::replay::Written;

const _: () = assert!(limits::MAX_MESSAGE_ID_BYTES <= 64, "the interface promises 64");

impl Session {
    pub(super) fn directed<'a>(
        &mut self,
        directed: Directed<'a>,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if self.phase == Phase::Connected {
            return Step::quiet(Outcome::NotRegistered);
        }
        if self.capabilities.is_none() && matches!(directed.kind, Kind::Application(_)) {
            return Step::quiet(Outcome::Ignored); // the original logs and ignores what it does not know
        }
        if directed.target.is_none() {
            return self.refuse(&directed, Undeliverable::Malformed);
        }
        if directed.payload.len() > directed.kind.max_payload_bytes(limits.max_message_bytes) {
            return self.refuse(&directed, Undeliverable::TooLarge);
        }
        if self.peer.space.is_room() && self.is_told_that_it_is_alone(&directed) {
            return self.refuse(&directed, Undeliverable::Unavailable);
        }
        if let Err(denial) = authority.may_send(&self.peer.right, now) {
            let step = self.refuse(&directed, reason_of(denial));
            return Step { outcome: Outcome::Denied(denial), ..step };
        }
        let receipt = self.has(Capabilities::FEEDBACK) && directed.id.is_some();
        let target = directed.target.unwrap_or_default();
        let id = directed.id.map(|id| Box::from(&*id));
        let signal = Signal { id, receipt, ..self.signal(directed.kind, directed.payload, now) };
        Step { effect: Effect::Relay { target, signal }, outcome: Outcome::Relayed }
    }

    /// A message to all others in the room. What cannot be sent is told in general words, since it names no target.
    pub(super) fn broadcast<'a>(
        &mut self,
        kind: Kind,
        payload: Bytes,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if !self.is_placed() || !self.peer.space.is_room() {
            return Step::quiet(Outcome::NotRegistered);
        }
        if payload.len() > kind.max_payload_bytes(limits.max_message_bytes) {
            return Step {
                effect: self.error("too_large", "the message is too large"),
                outcome: Outcome::Refused(Undeliverable::TooLarge),
            };
        }
        if let Err(denial) = authority.may_send(&self.peer.right, now) {
            return Step {
                effect: self.error("not_sent", "the message may not be sent now"),
                outcome: Outcome::Denied(denial),
            };
        }
        let signal = Signal { to_all: true, ..self.signal(kind, payload, now) };
        Step { effect: Effect::Broadcast(signal), outcome: Outcome::Relayed }
    }

    fn signal(&self, kind: Kind, payload: Bytes, now: Instant) -> Signal {
        Signal {
            from: Arc::clone(&self.peer),
            from_epoch: self.epoch,
            kind,
            id: None,
            payload,
            receipt: false,
            to_all: false,
            accepted_at: now,
            via_bus: false,
            trace: None,
        }
    }

    /// In rooms nobody means itself, and who asked for feedback is told.
    fn is_told_that_it_is_alone(&self, directed: &Directed<'_>) -> bool {
        self.has(Capabilities::FEEDBACK) && directed.target.as_deref() == Some(self.peer.id.as_str())
    }

    pub(super) fn refuse<'a>(&mut self, directed: &Directed<'_>, reason: Undeliverable) -> Step<'a> {
        let receipt = Receipt {
            id: directed.id.as_deref().map(Box::from),
            target: Box::from(directed.target.as_deref().unwrap_or_default()),
            failure: Some(reason),
        };
        Step { effect: self.on_receipt(receipt), outcome: Outcome::Refused(reason) }
    }

    /// A message left for another node and the sender wants to hear of it; after `give_up` nobody will answer any more.
    pub fn on_sent_away<'a>(&mut self, id: Box<str>, target: Box<str>, give_up: Instant) -> Effect<'a> {
        match self.unanswered.sent(id, target, give_up) {
            Some(evicted) => self.tell(evicted),
            None => Effect::None,
        }
    }

    /// What became of a message of this session, told to clients that asked for feedback.
    pub fn on_receipt<'a>(&mut self, receipt: Receipt) -> Effect<'a> {
        self.unanswered.answered(&receipt);
        self.tell(receipt)
    }

    fn tell<'a>(&mut self, receipt: Receipt) -> Effect<'a> {
        if !self.has(Capabilities::FEEDBACK) {
            return Effect::None;
        }
        let seq = self.number(|| Written::Receipt(receipt.clone()));
        Effect::Send(ServerMessage::Receipt { receipt, seq })
    }

    /// The next message of which nobody answered in time.
    pub fn overdue(&mut self, now: Instant) -> Option<Effect<'static>> {
        let expired = self.unanswered.overdue(now)?;
        Some(self.tell(expired))
    }
}
