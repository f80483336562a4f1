//! What comes from elsewhere, worked off in turns, each written at once.

use std::collections::VecDeque;
use std::time::Instant;

use heliograph_core::close::CloseCode;
use heliograph_core::message::{ServerMessage, Signal, Undeliverable};
use heliograph_core::session::{Effect, Mail, Outcome, Step};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ending::End;
use super::{Cold, Connection};
use crate::metrics::{MessageKind, Side};
use crate::outbox::Batch;
use crate::trace::{self, Leg};

/// A turn is written when it has collected so much, even if more waits.
const TURN_BYTES: usize = 64 * 1024;

/// What one turn writes.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) frames: Vec<u8>,
    /// How many messages of the protocol are among the frames.
    pub(super) written: usize,
    /// The messages of other peers among them.
    pub(super) signals: Vec<Signal>,
    pub(super) cold: Option<Cold>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Works off what waited: in turns, each written at once.
    pub(super) async fn on_batch(&mut self, batch: Batch) -> Result<(), End> {
        let Batch { mut mail, tick, close } = batch;
        // What a newer session of the client may fetch is not written to this one any more.
        let leaves = close == Some(CloseCode::Superseded) && self.session.is_resumable();
        while !mail.is_empty() && !leaves {
            let result = self.turn(&mut mail).await;
            if result.is_err() {
                self.unwritten = mail;
                return result;
            }
        }
        self.unwritten = mail;
        if tick {
            self.on_tick().await?;
        }
        close.map_or(Ok(()), |code| Err(End::Close(code)))
    }

    pub(super) async fn on_tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let effect = self.session.on_tick(&self.gateway.config.limits, now);
        let mut frames = self.sort(effect)?.frames;
        while let Some(effect) = self.session.overdue(now) {
            frames.append(&mut self.sort(effect)?.frames);
        }
        self.schedule();
        if frames.is_empty() { Ok(()) } else { self.write(frames).await }
    }

    /// One turn of writing: every message is checked last before it is encoded, everything is written at the turn's
    /// end, and the authority feed waits for turns in progress. So no frame that was checked before a revoke was
    /// acknowledged begins to be written after it.
    pub(super) async fn turn(&mut self, mail: &mut VecDeque<Mail>) -> Result<(), End> {
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let mut turn = Turn::default();
        self.collect(mail, now, &mut turn, TURN_BYTES);
        let asks = self.session.ask_for_sign(now);
        turn.frames.append(&mut self.sort(asks)?.frames);
        announce(&turn.signals);
        let result = match (turn.frames.is_empty(), turn.signals.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => self.write(turn.frames).await,
            (false, false) => self.write_checked(turn.frames).await,
        };
        self.handle.end_turn();
        self.account(&turn.signals, now, result.is_ok());
        result?;
        match turn.cold {
            Some(cold) => Box::pin(self.carry_out(cold)).await,
            None => Ok(()),
        }
    }

    /// Checks and encodes until the turn is full, or something has to be waited for.
    pub(super) fn collect(&mut self, mail: &mut VecDeque<Mail>, now: Instant, turn: &mut Turn, full: usize) {
        while turn.frames.len() < full
            && let Some(next) = mail.pop_front()
        {
            let next = match next {
                Mail::FormerReceipt(epoch, _) if !self.handle.accepts(epoch) => continue,
                Mail::FormerReceipt(_, receipt) => Mail::Receipt(receipt),
                next => next,
            };
            let Step { effect, outcome } = self.session.on_mail(next, &self.gateway.authority, now);
            match effect {
                Effect::Send(message) => {
                    self.encode(&message, &mut turn.frames);
                    turn.written += 1;
                    if let ServerMessage::Signal { signal, .. } = message {
                        turn.signals.push(signal);
                    }
                }
                Effect::Return(signal) => self.refused_here(&signal, outcome),
                Effect::Place => turn.cold = Some(Cold::Place),
                Effect::Unplace => turn.cold = Some(Cold::Unplace),
                // The others answer clients and ticks, never mail.
                Effect::None
                | Effect::Relay { .. }
                | Effect::Broadcast(_)
                | Effect::Enter(_)
                | Effect::Leave
                | Effect::Resume { .. }
                | Effect::Pong { .. }
                | Effect::Health
                | Effect::Ping { .. }
                | Effect::Close(_) => {}
            }
            if turn.cold.is_some() {
                break;
            }
        }
    }

    pub(super) fn refused_here(&self, signal: &Signal, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Denied(denial) => {
                self.gateway.metrics.denied(Side::Target, denial);
                heliograph_core::session::reason_of(denial)
            }
            _ => Undeliverable::Unavailable,
        };
        if let Some(span) = trace::go_on(Leg::Write, signal.trace, Instant::now()) {
            self.end_span(span, MessageKind::of(&signal.kind), Some(outcome.as_str()));
        }
        tracing::debug!(target = %self.handle.peer.id, outcome = outcome.as_str(), "message refused before the write");
        self.gateway.tell_sender(signal, &self.handle.peer.id, Some(reason));
    }

    /// Times and receipts of what was written, or not, in a turn that began at `since`.
    pub(super) fn account(&mut self, signals: &[Signal], since: Instant, arrived: bool) {
        for signal in signals {
            if let Some(span) = trace::go_on(Leg::Write, signal.trace, since) {
                self.end_span(span, MessageKind::of(&signal.kind), (!arrived).then_some("not_written"));
            }
        }
        if arrived {
            self.session.on_written();
        } else if self.handle.resumable.get().is_some() && self.session.is_resumable() {
            return; // the client says what it got when it comes back, and senders hear then
        }
        if signals.is_empty() {
            return;
        }
        let now = Instant::now();
        for signal in signals {
            if arrived {
                let taken = now.saturating_duration_since(signal.accepted_at);
                let metrics = &self.gateway.metrics;
                let path = if signal.via_bus { &metrics.relay_bus } else { &metrics.relay_local };
                path.observe(taken.as_secs_f64());
            }
            let failure = (!arrived).then_some(Undeliverable::Unavailable);
            self.gateway.tell_sender(signal, &self.handle.peer.id, failure);
        }
    }
}

/// For tests of revocation, which compare moments of several processes: on one machine they share the monotonic clock.
/// A comparison each while nobody listens.
pub(super) fn announce(signals: &[Signal]) {
    for Signal { id, .. } in signals {
        tracing::trace!(target: "heliograph::write", id = id.as_deref(), now = ?Instant::now(), "write begins");
    }
}
