//! One connection of a node, from its opening to its end.

mod opening;
mod returning;
mod writing;

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use heliograph_bus::{BusError, Place, Placement};
use heliograph_core::close::CloseCode;
use heliograph_core::limits;
use heliograph_core::message::{
    Capabilities, ClientMessage, Directed, Envelope, Kind, Receipt, ResumeOffer, ServerMessage, Signal,
    Undeliverable,
};
use heliograph_core::session::{Effect, Mail, Offers, Session, Step};
use heliograph_core::stage::Stage;

use crate::net::{Call, Down, HandleNo, LineNo, Net, Up};
use crate::node::{Job, Node, RESUME_WINDOW, into_signal};

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Close(CloseCode),
    Lost,
}

impl End {
    fn may_be_resumed(self) -> bool {
        match self {
            Self::Lost => true,
            Self::Close(code) => matches!(
                code,
                CloseCode::Superseded
                    | CloseCode::ServiceRestart
                    | CloseCode::Deadline
                    | CloseCode::SlowConsumer
                    | CloseCode::Unavailable
            ),
        }
    }
}

impl Node {
    pub(crate) fn heard(&mut self, line: LineNo, frame: Up, net: &mut Net) {
        match net.lines[line].handle {
            None => net.lines[line].early.push_back(frame),
            Some(no) if self.handle(no).busy => self.handle_mut(no).inbox.push_back(frame),
            Some(no) => self.read(no, frame, net),
        }
    }

    /// The connection waits for nothing any more: what came meanwhile is read, and what waits is written.
    pub(crate) fn go_on(&mut self, no: HandleNo, net: &mut Net) {
        self.handle_mut(no).busy = false;
        while !self.handle(no).busy
            && let Some(frame) = self.handle_mut(no).inbox.pop_front()
        {
            self.read(no, frame, net);
        }
        if !self.handle(no).busy {
            self.wake(no, net);
        }
    }

    fn read(&mut self, no: HandleNo, frame: Up, net: &mut Net) {
        let now = net.clock.instant();
        let sender = self.handle(no).peer.id.clone();
        let Some(session) = &mut self.handles[no].session else { return };
        session.on_activity(now);
        let message = match frame {
            Up::Pong(covers) => return session.on_pong(covers),
            Up::Ask(question) => {
                ClientMessage::Ping { payload: Bytes::copy_from_slice(&question.to_be_bytes()) }
            }
            Up::Register => ClientMessage::Register(Some(Capabilities::OFFERED)),
            Up::Resume { token, received } => {
                ClientMessage::Resume { token: Cow::Owned(token.into()), received: Some(received) }
            }
            Up::Send { id, to, payload } => ClientMessage::Directed(Directed {
                kind: Kind::Offer,
                target: Some(Cow::Owned(to.into())),
                id: Some(Cow::Owned(id.into())),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
            }),
        };
        let envelope = Envelope { sender: Some(Cow::Borrowed(sender.as_str())), message };
        let Step { effect, .. } = session.on_client(envelope, &self.authority, &self.limits, now);
        self.carry_out(no, effect, net);
    }

    fn carry_out(&mut self, no: HandleNo, effect: Effect<'_>, net: &mut Net) {
        match effect {
            Effect::Relay { target, signal } => self.on_relay(no, &target, signal, net),
            Effect::Send(message) => self.write(no, vec![Down::Message(Box::new(message))], net),
            Effect::Pong { payload } => {
                let question = payload[..].try_into().map(u64::from_be_bytes).unwrap_or_default();
                self.write(no, vec![Down::Answered(question)], net);
            }
            Effect::Ping { covers } => self.write(no, vec![Down::Ping(covers)], net),
            Effect::Place => self.place(no, net),
            Effect::Resume { token, received } => {
                self.handle_mut(no).busy = true;
                if !self.fetch_estate(no, Box::from(&*token), received.unwrap_or(0), net) {
                    let epoch = self.handle(no).epoch;
                    self.heirs.remove(&epoch);
                    self.begin_anew(no, net);
                }
            }
            Effect::Close(code) => self.end(no, End::Close(code), VecDeque::new(), net),
            // The clients here enter no rooms.
            Effect::Broadcast(_)
            | Effect::Enter(_)
            | Effect::Leave
            | Effect::None
            | Effect::Unplace
            | Effect::Return(_)
            | Effect::Health => {}
        }
    }

    fn on_relay(&mut self, no: HandleNo, target: &str, signal: Signal, net: &mut Net) {
        let id = signal.id.clone();
        let away = self.relay(target, signal, net);
        let (now, switches) = (net.clock.instant(), net.switches);
        let Some(session) = &mut self.handles[no].session else { return };
        let effect = match (away, id) {
            (Ok(away), Some(id)) if if away { switches.unanswered } else { switches.unanswered_here } => {
                session.on_sent_away(id, target.into(), now + RESUME_WINDOW + limits::ANSWER_GRACE)
            }
            (Ok(_), _) => return,
            (Err(reason), id) => {
                session.on_receipt(Receipt { id, target: target.into(), failure: Some(reason) })
            }
        };
        self.carry_out(no, effect, net);
    }

    fn place(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &mut self.handles[no];
        handle.busy = true;
        let placed = handle.session.as_ref().is_some_and(Session::is_placed);
        handle.to_place = Some(if placed { Place::Same } else { Place::New });
        self.place_if_reachable(no, net);
    }

    /// Nobody hears of a session before its fence came by.
    pub(crate) fn place_if_reachable(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &mut self.handles[no];
        let awaits = handle.stage.get().awaits_fence() && handle.outbox.close.is_none();
        if let Some(which) = handle.to_place.take_if(|_| !awaits) {
            let (peer, epoch) = (handle.peer.id.clone(), handle.epoch);
            net.call(self.number, Call::Place { handle: no, peer, epoch, which });
        }
    }

    pub(crate) fn placed(&mut self, no: HandleNo, placement: Result<Placement, BusError>, net: &mut Net) {
        let Some(is_placed) = self.handle(no).session.as_ref().map(Session::is_placed) else { return };
        let placement = match placement {
            Ok(placement) => placement,
            Err(BusError::Superseded) => {
                return self.end(no, End::Close(CloseCode::Superseded), VecDeque::new(), net);
            }
            Err(BusError::Unavailable(_) | BusError::Full) if !is_placed => {
                return self.end(no, End::Close(CloseCode::Unavailable), VecDeque::new(), net);
            }
            Err(BusError::Unavailable(_) | BusError::Full) => {
                let message = String::new();
                let error = ServerMessage::Error { code: "bus_unavailable", message };
                self.write(no, vec![Down::Message(Box::new(error))], net);
                return self.go_on(no, net);
            }
        };
        let resume = Some(self.offer(no));
        let handle = &mut self.handles[no];
        handle.place = Some(placement.place);
        handle.outbox.held = false;
        let Some(session) = &mut handle.session else { return };
        let offers = Offers { ice_servers: None, resume };
        let list = session.on_placed(placement.place, placement.members, offers);
        self.decided(no, net);
        self.write(no, vec![Down::Message(Box::new(list))], net);
        self.go_on(no, net);
    }

    fn offer(&mut self, no: HandleNo) -> ResumeOffer {
        let window_ms = u64::try_from(RESUME_WINDOW.as_millis()).unwrap_or(u64::MAX);
        ResumeOffer { token: self.token(no), window_ms }
    }

    /// The node learns that a connection is gone.
    pub(crate) fn cut(&mut self, line: LineNo, net: &mut Net) {
        net.lines[line].node_open = false;
        if let Some(no) = net.lines[line].handle {
            self.end(no, End::Lost, VecDeque::new(), net);
        }
    }

    pub(crate) fn end(&mut self, no: HandleNo, end: End, unwritten: VecDeque<Mail>, net: &mut Net) {
        let handle = &mut self.handles[no];
        let Some(session) = handle.session.take() else { return };
        let (line, epoch) = (handle.line, handle.epoch);
        let passed = handle.stage.get() == Stage::Passed;
        self.heirs.remove(&epoch);
        if session.is_resumable() && self.handle(no).token.is_some() && (passed || end.may_be_resumed()) {
            self.park(no, session.into_remains(), unwritten, net);
        } else {
            self.leave(no, unwritten, net);
        }
        let code = if let End::Close(code) = end { Some(code) } else { None };
        net.hang_up(line, code);
    }

    fn leave(&mut self, no: HandleNo, unwritten: VecDeque<Mail>, net: &mut Net) {
        let handle = &mut self.handles[no];
        handle.stage.change(|stage| if stage == Stage::Passed { stage } else { Stage::Over });
        let queued = unwritten.into_iter().chain(handle.outbox.finish());
        let lost: Vec<_> = queued.filter_map(into_signal).collect();
        let peer = handle.peer.id.clone();
        for signal in lost {
            self.tell_sender(&signal, &peer, Some(Undeliverable::Unavailable), net);
        }
        self.enqueue(&peer, Job::Depart(no), net);
    }
}
