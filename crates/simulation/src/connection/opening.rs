//! How a connection becomes the live session of its peer, and how a session leaves its node.

use std::collections::VecDeque;
use std::sync::Arc;

use heliograph_bus::Sent;
use heliograph_core::close::CloseCode;
use heliograph_core::id::PeerId;
use heliograph_core::message::Undeliverable;
use heliograph_core::session::{Opening, Session};
use heliograph_core::stage::Stage;

use super::End;
use crate::bus::Channel;
use crate::net::{Call, Event, HandleNo, LineNo, Net};
use crate::node::{Handle, Job, Node};
use crate::presence::{Claim, Former};

impl Node {
    /// Begins and ends of a peer's sessions happen one after the other on a node.
    pub(crate) fn enqueue(&mut self, peer: &PeerId, job: Job, net: &mut Net) {
        let gate = self.gates.entry(peer.clone()).or_default();
        gate.push_back(job);
        if gate.len() == 1 {
            self.begin(peer, job, net);
        }
    }

    pub(crate) fn begin(&mut self, peer: &PeerId, job: Job, net: &mut Net) {
        match job {
            Job::Open(line) => net.call(self.number, Call::Claim { peer: peer.clone(), line }),
            Job::Depart(handle) => {
                if !net.switches.linger {
                    self.forget(handle);
                }
                let (epoch, passed) =
                    (self.handle(handle).epoch, self.handle(handle).stage.get() == Stage::Passed);
                if passed {
                    self.departed(handle, net);
                } else {
                    net.call(self.number, Call::Release { handle, peer: peer.clone(), epoch });
                }
            }
        }
    }

    pub(crate) fn forget(&mut self, handle: HandleNo) {
        let peer = self.handle(handle).peer.id.clone();
        self.former.retain(|_, no| *no != handle);
        if self.sessions.get(&peer) == Some(&handle) {
            self.sessions.remove(&peer);
        }
    }

    /// The next one's turn.
    pub(crate) fn next_job(&mut self, peer: &PeerId, net: &mut Net) {
        let gate = self.gates.entry(peer.clone()).or_default();
        gate.pop_front();
        if let Some(&job) = gate.front() {
            self.begin(peer, job, net);
        }
    }

    /// Presence knows that the session is over; the last thing is that nothing more arrives for it.
    pub(crate) fn departed(&mut self, handle: HandleNo, net: &mut Net) {
        let peer = self.handle(handle).peer.id.clone();
        if self.sessions.get(&peer).is_some_and(|newest| *newest != handle) {
            return self.gone(handle, net);
        }
        let delay = net.dice.delay();
        let (node, channel) = (self.number, Channel::Peer(peer));
        net.clock.after(delay, Event::Unsubscribe { node, channel, handle });
    }

    pub(crate) fn gone(&mut self, handle: HandleNo, net: &mut Net) {
        self.forget(handle);
        let peer = self.handle(handle).peer.id.clone();
        self.next_job(&peer, net);
    }

    pub(crate) fn claimed(&mut self, peer: &PeerId, line: LineNo, claim: Option<Claim>, net: &mut Net) {
        let Some(claim) = claim else {
            net.hang_up(line, Some(CloseCode::Unavailable));
            return self.next_job(peer, net);
        };
        let handle = self.admit(peer, line, claim, net);
        net.lines[line].handle = Some(handle);
        let (delay, era) = (net.dice.delay(), net.bus.era);
        net.clock.after(delay, Event::Subscribed { node: self.number, handle, era });
    }

    /// Makes a session the newest of its peer here, and ends an older one.
    pub(crate) fn admit(&mut self, id: &PeerId, line: LineNo, claim: Claim, net: &mut Net) -> HandleNo {
        let peer = self.peer(id);
        let here = |former: Former| former.node == self.number;
        let awaits = |older: &HandleNo| self.handle(*older).stage.get().awaits_fence();
        let elsewhere = claim.former.map_or(net.switches.fence_always, |former| !here(former))
            || self.sessions.get(id).is_some_and(awaits);
        let awaits = elsewhere && net.switches.fence;
        let stage = if awaits { Stage::Awaiting } else { Stage::Live };
        let opening = Opening {
            peer: Arc::clone(&peer),
            epoch: claim.epoch,
            now: net.clock.instant(),
            ping_phase: 0.5,
        };
        let session = Session::new(opening, &self.limits);
        let no = self.handles.len();
        self.handles.push(Handle::new(peer, claim.epoch, stage, line, session, net.clock.instant()));
        self.handle_mut(no).anew = claim.anew;
        self.handle_mut(no).busy = true; // until its subscription stands
        self.handle_mut(no).outbox.held = claim.former.is_some_and(|former| former.placed);
        let Some(older) = self.sessions.insert(id.clone(), no) else { return no };
        if elsewhere {
            self.close(older, CloseCode::Superseded, net);
        } else {
            self.pass(older, net);
        }
        if let Some(forgotten) = self.former.insert(id.clone(), older) {
            self.give_up(forgotten, Undeliverable::Unavailable, net);
        }
        no
    }

    pub(crate) fn subscribed(&mut self, no: HandleNo, era: u32, net: &mut Net) {
        let peer = self.handle(no).peer.id.clone();
        let mut well = !net.bus.down && era == net.bus.era;
        if well {
            net.bus.subscribe(Channel::Peer(peer.clone()), self.number);
            if self.handle(no).stage.get().awaits_fence() {
                well = self.fence(no, net) == Sent::Queued;
            }
        }
        self.next_job(&peer, net);
        if !well {
            return self.end(no, End::Close(CloseCode::Unavailable), VecDeque::new(), net);
        }
        let line = self.handle(no).line;
        let early = std::mem::take(&mut net.lines[line].early);
        for frame in early.into_iter().rev() {
            self.handle_mut(no).inbox.push_front(frame);
        }
        self.go_on(no, net);
        if !net.lines[line].node_open {
            self.cut(line, net);
        }
    }
}
