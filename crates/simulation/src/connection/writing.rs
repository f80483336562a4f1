//! What a connection writes.

use std::collections::VecDeque;

use heliograph_core::close::CloseCode;
use heliograph_core::message::{ServerMessage, Signal, Undeliverable};
use heliograph_core::session::{Effect, Mail, Outcome, Session, Step, reason_of};

use super::End;
use crate::net::{Down, HandleNo, Net};
use crate::node::Node;

impl Node {
    pub(crate) fn write(&mut self, no: HandleNo, frames: Vec<Down>, net: &mut Net) {
        let line = self.handle(no).line;
        if self.handle(no).session.is_some() && !net.write_down(line, frames) {
            self.end(no, End::Lost, VecDeque::new(), net);
        }
    }

    pub(crate) fn turn(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &mut self.handles[no];
        handle.turn_planned = false;
        if handle.busy || handle.session.is_none() {
            return; // it is woken when it goes on
        }
        let close = handle.outbox.close;
        let mut mail =
            if handle.outbox.held { VecDeque::new() } else { std::mem::take(&mut handle.outbox.mail) };
        let resumable = handle.session.as_ref().is_some_and(Session::is_resumable);
        let leaves = close == Some(CloseCode::Superseded) && resumable;
        let ticks = std::mem::take(&mut handle.outbox.tick);
        if !leaves && !mail.is_empty() && !self.write_mail(no, &mut mail, net) {
            return;
        }
        if ticks {
            self.on_tick(no, net);
        }
        if let Some(code) = close {
            self.end(no, End::Close(code), mail, net);
        }
    }

    /// Whether the connection goes on.
    pub(crate) fn write_mail(&mut self, no: HandleNo, mail: &mut VecDeque<Mail>, net: &mut Net) -> bool {
        let mut turn = self.collect(no, mail, net);
        let now = net.clock.instant();
        if let Some(session) = &mut self.handles[no].session
            && let Effect::Ping { covers } = session.ask_for_sign(now)
        {
            turn.frames.push(Down::Ping(covers));
        }
        let line = self.handle(no).line;
        let written = turn.frames.is_empty() || net.write_down(line, turn.frames);
        self.account(no, &turn.signals, written, net);
        if !written {
            self.end(no, End::Lost, std::mem::take(mail), net);
        }
        written
    }

    pub(crate) fn on_tick(&mut self, no: HandleNo, net: &mut Net) {
        let now = net.clock.instant();
        let Some(session) = &mut self.handles[no].session else { return };
        let mut effects = vec![session.on_tick(&self.limits, now)];
        effects.extend(std::iter::from_fn(|| session.overdue(now)));
        for effect in effects {
            self.carry_out(no, effect, net);
        }
    }

    pub(super) fn collect(&mut self, no: HandleNo, mail: &mut VecDeque<Mail>, net: &mut Net) -> Turn {
        let mut turn = Turn::default();
        let now = net.clock.instant();
        while let Some(next) = mail.pop_front() {
            let Some(session) = &mut self.handles[no].session else { break };
            let Step { effect, outcome } = session.on_mail(next, &self.authority, now);
            match effect {
                Effect::Send(message) => {
                    if let ServerMessage::Signal { signal, .. } = &message {
                        turn.signals.push(signal.clone());
                    }
                    turn.frames.push(Down::Message(Box::new(message)));
                }
                Effect::Return(signal) => {
                    let reason = match outcome {
                        Outcome::Denied(denial) => reason_of(denial),
                        _ => Undeliverable::Unavailable,
                    };
                    let target = self.handle(no).peer.id.clone();
                    self.tell_sender(&signal, &target, Some(reason), net);
                }
                _ => {}
            }
        }
        turn
    }

    /// Receipts for what was written, or not.
    pub(crate) fn account(&mut self, no: HandleNo, signals: &[Signal], arrived: bool, net: &mut Net) {
        let target = self.handle(no).peer.id.clone();
        if let Some(session) = &mut self.handles[no].session {
            if arrived {
                session.on_written();
            } else if session.is_resumable() {
                return; // the client says what it got when it comes back
            }
        }
        let failure = (!arrived).then_some(Undeliverable::Unavailable);
        for signal in signals {
            self.tell_sender(signal, &target, failure, net);
        }
    }
}

/// What one turn writes.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) frames: Vec<Down>,
    pub(super) signals: Vec<Signal>,
}
