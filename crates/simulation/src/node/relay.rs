//! The way of a message to its target, here or on another node, and what becomes of what arrives.

use heliograph_bus::{Due, Lost, Parcel, RemoteSignal, Sent, Witness};
use heliograph_core::close::CloseCode;
use heliograph_core::id::{Epoch, PeerId};
use heliograph_core::message::{Receipt, Signal, Undeliverable};
use heliograph_core::replay::Written;
use heliograph_core::session::Mail;
use heliograph_core::stage::{Arrival, Stage, Way};

use super::Node;
use crate::bus::Channel;
use crate::net::{Event, HandleNo, Net};

impl Node {
    pub(crate) fn relay(
        &mut self,
        target: &str,
        signal: Signal,
        net: &mut Net,
    ) -> Result<bool, Undeliverable> {
        if let Some(&no) = self.sessions.get(target) {
            match self.handles[no].way() {
                Way::Here => return self.deliver(no, signal, net).map(|()| false),
                Way::None => return Err(Undeliverable::Unavailable),
                Way::Bus => {}
            }
        }
        let target = PeerId::parse(target).map_err(|_| Undeliverable::Unavailable)?;
        match net.publish(self.number, Channel::Peer(target), Parcel::Signal(into_remote(signal))) {
            Sent::Queued => Ok(true),
            Sent::Offline => Err(Undeliverable::Unavailable),
            Sent::Full => Err(Undeliverable::QueueFull),
            Sent::Down => Err(Undeliverable::BusUnavailable),
        }
    }

    pub(crate) fn deliver(
        &mut self,
        no: HandleNo,
        signal: Signal,
        net: &mut Net,
    ) -> Result<(), Undeliverable> {
        if self.push(no, Mail::Signal(signal), net) { Ok(()) } else { Err(Undeliverable::Unavailable) }
    }

    /// Queues for a session; false when nobody will ever take it.
    pub(crate) fn push(&mut self, no: HandleNo, mail: Mail, net: &mut Net) -> bool {
        if self.handles[no].outbox.sealed {
            return false;
        }
        self.handles[no].outbox.mail.push_back(mail);
        self.wake(no, net);
        true
    }

    pub(crate) fn close(&mut self, no: HandleNo, code: CloseCode, net: &mut Net) {
        self.handles[no].outbox.close.get_or_insert(code);
        self.place_if_reachable(no, net);
        self.wake(no, net);
    }

    /// Plans a turn of the connection, if it lives.
    pub(crate) fn wake(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &mut self.handles[no];
        if handle.session.is_some() && !handle.turn_planned {
            handle.turn_planned = true;
            let delay = net.dice.micros(1, 300);
            net.clock.after(delay, Event::Turn { node: self.number, handle: no });
        }
    }

    pub(crate) fn tell_sender(
        &mut self,
        signal: &Signal,
        target: &PeerId,
        failure: Option<Undeliverable>,
        net: &mut Net,
    ) {
        if failure.is_none() && !signal.receipt {
            return;
        }
        let receipt = Receipt { id: signal.id.clone(), target: Box::from(target.as_str()), failure };
        self.tell(&signal.from.id.clone(), signal.from_epoch, receipt, net);
    }

    pub(crate) fn tell(&mut self, sender: &PeerId, epoch: Epoch, receipt: Receipt, net: &mut Net) {
        if let Some(&no) = self.sessions.get(sender)
            && self.handles[no].way() == Way::Here
        {
            return self.receive(no, epoch, receipt, net);
        }
        let _sender_gone =
            net.publish(self.number, Channel::Peer(sender.clone()), Parcel::Receipt { epoch, receipt });
    }

    pub(crate) fn receive(&mut self, no: HandleNo, epoch: Epoch, receipt: Receipt, net: &mut Net) {
        let handle = &mut self.handles[no];
        if let Some(early) = handle.early.as_mut().filter(|_| net.switches.early_receipts) {
            early.push((epoch, receipt));
        } else if (handle.first_epoch..=handle.epoch).contains(&epoch) {
            self.push(no, Mail::Receipt(receipt), net);
        }
    }

    /// It is known now whether the session resumes another one: answers for it are told.
    pub(crate) fn decided(&mut self, no: HandleNo, net: &mut Net) {
        for (epoch, receipt) in self.handles[no].early.take().unwrap_or_default() {
            self.receive(no, epoch, receipt, net);
        }
    }

    /// Which session takes what came by the channel of `peer`.
    pub(crate) fn receiver(&self, peer: &PeerId) -> Result<HandleNo, Arrival> {
        let Some(&newest) = self.sessions.get(peer) else { return Err(Arrival::Refuse) };
        match self.handles[newest].arrival() {
            Arrival::Take => Ok(newest),
            Arrival::Leave => {
                let takes = |no: &HandleNo| self.handles[*no].arrival() == Arrival::Take;
                self.former.get(peer).copied().filter(takes).ok_or(Arrival::Leave)
            }
            Arrival::Refuse => Err(Arrival::Refuse),
        }
    }

    pub(crate) fn arrived(&mut self, channel: &Channel, parcel: Parcel, net: &mut Net) {
        match (channel, parcel) {
            (Channel::Peer(peer), Parcel::Signal(remote)) => self.arrived_signal(peer, remote, net),
            (Channel::Peer(peer), Parcel::Receipt { epoch, receipt }) => {
                if let Ok(no) = self.receiver(peer) {
                    self.receive(no, epoch, receipt, net);
                }
            }
            (Channel::Peer(peer), Parcel::Superseded { by }) => self.arrived_fence(peer, by, net),
            (Channel::Node(_), Parcel::TakeOver(request)) => self.take_over(request, net),
            (Channel::Node(_), Parcel::HandOver(answer)) => self.handed_over(answer, net),
            _ => {}
        }
    }

    pub(crate) fn arrived_signal(&mut self, peer: &PeerId, remote: RemoteSignal, net: &mut Net) {
        let receiver = self.receiver(peer);
        if receiver == Err(Arrival::Leave) {
            return; // another session of the peer has it
        }
        let signal = self.local(remote, net);
        let result = match receiver {
            Ok(no) => self.deliver(no, signal.clone(), net),
            Err(_) => Err(Undeliverable::Unavailable),
        };
        if let Err(reason) = result {
            self.tell_sender(&signal, peer, Some(reason), net);
        }
    }

    pub(crate) fn arrived_fence(&mut self, peer: &PeerId, by: Epoch, net: &mut Net) {
        let here = [self.sessions.get(peer), self.former.get(peer)];
        for no in here.into_iter().flatten().copied().collect::<Vec<_>>() {
            if self.handles[no].epoch == by {
                self.handles[no].stage.change(Stage::after_own_fence);
                self.place_if_reachable(no, net);
            } else if self.handles[no].epoch < by {
                self.handles[no].elsewhere =
                    self.handles[no].stage.get() == Stage::Over && net.switches.linger;
                self.pass(no, net);
            }
        }
    }

    pub(crate) fn returned(&mut self, peer: &PeerId, witness: Witness, why: Lost, net: &mut Net) {
        let failure = Some(match why {
            Lost::Offline => Undeliverable::Unavailable,
            Lost::Down => Undeliverable::BusUnavailable,
        });
        let receipt = Receipt { id: witness.id, target: Box::from(peer.as_str()), failure };
        self.tell(&witness.from, witness.from_epoch, receipt, net);
    }

    pub(crate) fn local(&mut self, remote: RemoteSignal, net: &Net) -> Signal {
        Signal {
            from: self.peer(&remote.from),
            from_epoch: remote.from_epoch,
            kind: remote.kind,
            id: remote.id,
            payload: remote.payload,
            receipt: remote.receipt,
            to_all: false,
            accepted_at: net.clock.instant(),
            via_bus: true,
            trace: None,
        }
    }
}

pub(crate) fn into_remote(signal: Signal) -> RemoteSignal {
    RemoteSignal {
        from: signal.from.id.clone(),
        from_epoch: signal.from_epoch,
        from_version: signal.from.right.version(),
        kind: signal.kind,
        id: signal.id,
        payload: signal.payload,
        receipt: signal.receipt,
        accepted_unix_us: 0,
        trace: None,
        behind: None,
    }
}

pub(crate) fn into_signal(mail: Mail) -> Option<Signal> {
    match mail {
        Mail::Signal(signal) | Mail::Again(_, Written::Signal(signal)) => Some(signal),
        _ => None,
    }
}

pub(super) fn into_due(mail: Mail) -> Option<Due> {
    match mail {
        Mail::Signal(signal) => Some(Due::Signal(into_remote(signal))),
        Mail::Receipt(receipt) => Some(Due::Receipt(receipt)),
        _ => None,
    }
}
