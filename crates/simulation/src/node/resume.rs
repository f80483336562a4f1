//! Sessions that outlive their connection: parked, handed over, given up.

use std::collections::VecDeque;

use heliograph_bus::{Due, Estate, HandOver, Parcel, Sent, TakeOver};
use heliograph_core::close::CloseCode;
use heliograph_core::message::Undeliverable;
use heliograph_core::replay::Written;
use heliograph_core::session::{Mail, Remains};
use heliograph_core::stage::Stage;

use super::relay::{into_due, into_remote, into_signal};
use super::{Job, Node, PASSED_HOLD, PATIENCE, RESUME_WINDOW, mesh};
use crate::bus::Channel;
use crate::net::{Call, Event, HandleNo, Net};

impl Node {
    /// The connection ended and its client may come back.
    pub(crate) fn park(&mut self, no: HandleNo, remains: Remains, unwritten: VecDeque<Mail>, net: &mut Net) {
        let now = net.clock.instant();
        let handle = &mut self.handles[no];
        for mail in unwritten.into_iter().rev() {
            handle.outbox.mail.push_front(mail);
        }
        handle.outbox.close = None;
        handle.outbox.held = false;
        handle.until = Some(now + RESUME_WINDOW);
        handle.remains = Some(remains);
        if handle.stage.change(Stage::after_loss) == Stage::Passed {
            handle.until = Some(now + PASSED_HOLD);
        }
        let (peer, epoch) = (handle.peer.id.clone(), handle.epoch);
        net.call(self.number, Call::Hide { peer, epoch });
        self.serve_heirs(no, net);
    }

    /// A newer session took over.
    pub(crate) fn pass(&mut self, no: HandleNo, net: &mut Net) {
        let soon = net.clock.instant() + PASSED_HOLD;
        let handle = &mut self.handles[no];
        handle.stage.change(Stage::after_newer_fence);
        handle.until = handle.until.map(|until| until.min(soon));
        self.close(no, CloseCode::Superseded, net);
        self.serve_heirs(no, net);
    }

    /// Nobody came, or may come, for what a session left.
    pub(crate) fn give_up(&mut self, no: HandleNo, why: Undeliverable, net: &mut Net) {
        let Some(remains) = self.handles[no].remains.take() else { return };
        let handle = &mut self.handles[no];
        handle.stage.change(|stage| if stage == Stage::Passed { stage } else { Stage::Over });
        let written = remains.replay.since(None).again.into_iter().filter_map(|(_, written)| match written {
            Written::Signal(signal) => Some(signal),
            Written::Receipt(_) => None,
        });
        let lost: Vec<_> =
            written.chain(handle.outbox.finish().into_iter().filter_map(into_signal)).collect();
        let peer = handle.peer.id.clone();
        for signal in lost {
            self.tell_sender(&signal, &peer, Some(why), net);
        }
        self.enqueue(&peer, Job::Depart(no), net);
    }

    /// Asks for what a former session left; answers whether anybody may have it.
    pub(crate) fn fetch_estate(
        &mut self,
        heir: HandleNo,
        token: Box<str>,
        received: u64,
        net: &mut Net,
    ) -> bool {
        let handle = &self.handles[heir];
        let mut parts = token.split('.').filter_map(|part| part.parse::<usize>().ok());
        let (holder, epoch) = (parts.next(), parts.nth(1).unwrap_or_default());
        if net.switches.anew_is_anew && (epoch as u64) < handle.anew.0 {
            return false; // a session in between began anew, and its client did not hear of it
        }
        let Some(holder) = holder.filter(|&node| net.presence.is_alive(node)) else { return false };
        let (peer, by) = (handle.peer.id.clone(), handle.epoch);
        let request =
            TakeOver { space: mesh().into(), peer, by, to: self.id.clone(), token, received: Some(received) };
        self.heirs.insert(by, heir);
        net.clock.after(PATIENCE, Event::Impatient { node: self.number, heir });
        if holder == self.number {
            self.take_over(request, net);
            return true;
        }
        net.publish(self.number, Channel::Node(holder), Parcel::TakeOver(request)) == Sent::Queued
    }

    /// Somebody asks for what a session of this node left.
    pub(crate) fn take_over(&mut self, request: TakeOver, net: &mut Net) {
        let here = [self.former.get(&request.peer), self.sessions.get(&request.peer)];
        let fits = |no: &HandleNo| {
            let handle = &self.handles[*no];
            handle.epoch < request.by && handle.token.as_deref() == Some(&*request.token)
        };
        let found = here.into_iter().flatten().copied().find(fits);
        match found {
            Some(no) => {
                if !net.switches.fence {
                    self.pass(no, net);
                }
                self.handles[no].heirs.push(request);
                self.serve_heirs(no, net);
            }
            None => self.hand(request, None, net),
        }
    }

    /// Hands over, once the connection has ended and the fence has come by.
    pub(crate) fn serve_heirs(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &mut self.handles[no];
        if handle.heirs.is_empty() || handle.stage.get() != Stage::Passed {
            return;
        }
        let Some(remains) = handle.remains.take() else { return };
        let mut heirs = std::mem::take(&mut handle.heirs).into_iter();
        let Some(first) = heirs.next() else { return };
        let estate = self.estate(no, remains, first.received, net);
        self.hand(first, Some(estate), net);
        for late in heirs {
            self.hand(late, None, net);
        }
        let peer = self.handles[no].peer.id.clone();
        self.enqueue(&peer, Job::Depart(no), net);
    }

    pub(crate) fn estate(
        &mut self,
        no: HandleNo,
        mut remains: Remains,
        received: Option<u64>,
        net: &mut Net,
    ) -> Estate {
        let next_seq = if net.switches.replay { remains.replay.last() + 1 } else { 1 };
        let rest = remains.replay.since(received);
        let peer = self.handles[no].peer.id.clone();
        for signal in &rest.arrived {
            self.tell_sender(signal, &peer, None, net);
        }
        let handle = &mut self.handles[no];
        let due = |written| match written {
            Written::Signal(signal) => Due::Signal(into_remote(signal)),
            Written::Receipt(receipt) => Due::Receipt(receipt),
        };
        let unanswered = remains.unanswered.drain();
        let unanswered = unanswered.map(|(id, target)| heliograph_bus::Unanswered { id, target }).collect();
        Estate {
            capabilities: remains.capabilities,
            place: handle.place,
            first_epoch: handle.first_epoch,
            next_seq,
            written: rest.again.into_iter().map(|(seq, written)| (seq, due(written))).collect(),
            waiting: handle.outbox.finish().into_iter().filter_map(into_due).collect(),
            unanswered,
            lost: rest.lost,
        }
    }

    pub(crate) fn hand(&mut self, request: TakeOver, estate: Option<Estate>, net: &mut Net) {
        let TakeOver { space, peer, by, to, .. } = request;
        let waiting = estate.as_ref().map(|estate| estate.waiting.clone()).unwrap_or_default();
        let answer = HandOver { space, peer: peer.clone(), by, estate };
        if to == self.id {
            return self.handed_over(answer, net);
        }
        let node = to.as_str().trim_start_matches('n').parse().unwrap_or_default();
        if net.publish(self.number, Channel::Node(node), Parcel::HandOver(answer)) == Sent::Queued {
            return;
        }
        for due in waiting {
            if let Due::Signal(remote) = due {
                let signal = self.local(remote, net);
                self.tell_sender(&signal, &peer, Some(Undeliverable::BusUnavailable), net);
            }
        }
    }

    pub(crate) fn handed_over(&mut self, answer: HandOver, net: &mut Net) {
        if let Some(heir) = self.heirs.remove(&answer.by) {
            match answer.estate {
                Some(estate) => self.inherit(heir, estate, net),
                None => self.begin_anew(heir, net),
            }
        }
    }

    pub(crate) fn impatient(&mut self, heir: HandleNo, net: &mut Net) {
        let epoch = self.handles[heir].epoch;
        if self.heirs.remove(&epoch).is_some() {
            self.begin_anew(heir, net);
        }
    }
}
