//! What time and the backend ask of a node.

use heliograph_bus::{Parcel, Reseated, Seat, Sent, Visit};
use heliograph_core::id::Epoch;
use heliograph_core::message::Undeliverable;
use heliograph_core::session::Mail;
use heliograph_core::stage::Stage;

use super::{FENCE_AGAIN, FENCE_GIVEN_UP, LEASE, Node, TICK, mesh};
use crate::bus::Channel;
use crate::net::{Call, Event, HandleNo, Net};
use crate::presence::Reseating;

impl Node {
    pub(crate) fn tick(&mut self, net: &mut Net) {
        let now = net.clock.instant();
        self.ticks += 1;
        if self.ticks.is_multiple_of(2) {
            self.authority.renewed(now, LEASE);
        }
        for no in 0..self.handles.len() {
            let handle = &self.handles[no];
            let due =
                handle.session.as_ref().is_some_and(|session| session.next_deadline(&self.limits) <= now);
            if due {
                self.handles[no].outbox.tick = true;
                self.wake(no, net);
            }
            self.fence_again(no, net);
            if self.handles[no].remains.is_some() && self.handles[no].until.is_some_and(|until| now > until) {
                self.give_up(no, Undeliverable::Expired, net);
            }
        }
        net.clock.after(TICK, Event::Tick { node: self.number });
    }

    /// A fence may get lost with the bus.
    pub(crate) fn fence_again(&mut self, no: HandleNo, net: &mut Net) {
        let handle = &self.handles[no];
        if !handle.stage.get().awaits_fence() || !net.switches.fence_again {
            return;
        }
        let age = net.clock.instant().saturating_duration_since(handle.opened);
        if age > FENCE_GIVEN_UP {
            handle.stage.change(Stage::after_own_fence);
            self.place_if_reachable(no, net);
        } else if age > FENCE_AGAIN {
            let _again_later = self.fence(no, net);
        }
    }

    /// The backend may have lost everything: subscribes again, and says whom this node has.
    pub(crate) fn upheaval(&mut self, net: &mut Net) {
        net.bus.subscribe(Channel::Node(self.number), self.number);
        let ended = |no: HandleNo| matches!(self.handles[no].stage.get(), Stage::Passed | Stage::Over);
        for (peer, _) in self.sessions.iter().filter(|(_, no)| !ended(**no)) {
            net.bus.subscribe(Channel::Peer(peer.clone()), self.number);
        }
        let seated = |no: &HandleNo| self.handles[*no].stage.get().is_seated();
        let handles: Vec<_> = self.sessions.values().copied().filter(seated).collect();
        let seats = handles.iter().map(|&no| self.seat(no)).collect();
        let up_to = self.handles.last().map_or(Epoch(0), |handle| handle.epoch);
        net.call(self.number, Call::Reseat { seats, up_to, handles });
    }

    pub(crate) fn seat(&self, no: HandleNo) -> Seat {
        let handle = &self.handles[no];
        Seat {
            space: mesh().into(),
            peer: handle.peer.id.clone(),
            epoch: handle.epoch,
            place: handle.place,
            hidden: handle.remains.is_some(),
            visit: Visit { since_unix_ms: 0, dialect: "mesh".into(), profile: None },
        }
    }

    pub(crate) fn reseated(&mut self, handles: &[HandleNo], outcomes: Vec<Reseating>, net: &mut Net) {
        for (&no, outcome) in handles.iter().zip(outcomes) {
            if outcome.displaces && net.switches.fence_again {
                self.fence(no, net);
            }
            match outcome.reseated {
                Reseated::Kept => {}
                Reseated::Superseded(_) => self.pass(no, net),
                Reseated::Moved(placement) => {
                    self.handles[no].place = Some(placement.place);
                    self.push(no, Mail::Moved { place: placement.place, members: placement.members }, net);
                }
            }
        }
    }

    /// Puts the fence of a session into the channel of its peer.
    pub(crate) fn fence(&mut self, no: HandleNo, net: &mut Net) -> Sent {
        let handle = &self.handles[no];
        let fence = Parcel::Superseded { by: handle.epoch };
        net.publish(self.number, Channel::Peer(handle.peer.id.clone()), fence)
    }
}
