//! Presence as `heliograph_bus::Presence` describes it, over a backend that may be away or emptied, and that gives nodes
//! up which it has not heard of for a while.

use std::collections::{BTreeMap, BTreeSet};

use heliograph_bus::{BusError, Place, Placement, Reseated, Seat};
use heliograph_core::id::{Epoch, PeerId};
use heliograph_core::message::Member;

use crate::net::NodeNo;

/// A session as the backend knows it.
#[derive(Debug, Clone)]
struct Chair {
    node: NodeNo,
    epoch: Epoch,
    place: Option<u64>,
    hidden: bool,
    /// The latest session of the peer that began anew: what former ones left is not the whole story.
    anew: Epoch,
}

/// Whom a claim took over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) node: NodeNo,
    pub(crate) placed: bool,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: Epoch,
    pub(crate) former: Option<Former>,
    /// The latest session of the peer that began anew.
    pub(crate) anew: Epoch,
}

/// What became of a seat.
#[derive(Debug)]
pub(crate) struct Reseating {
    pub(crate) reseated: Reseated,
    /// Whether an older session of the peer had said its seat before.
    pub(crate) displaces: bool,
}

/// The backend's table of one mesh.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    chairs: BTreeMap<PeerId, Chair>,
    last_epoch: u64,
    last_place: u64,
    alive: BTreeSet<NodeNo>,
    /// Who has to say its sessions before anybody is told who is there.
    unheard: BTreeSet<NodeNo>,
}

impl Presence {
    /// A node lives, and has said its sessions.
    pub(crate) fn came(&mut self, node: NodeNo) {
        self.alive.insert(node);
    }

    /// A node was not heard of for too long: its sessions are not listed any more.
    pub(crate) fn gone(&mut self, node: NodeNo) {
        self.alive.remove(&node);
        self.unheard.remove(&node);
        self.chairs.retain(|_, chair| chair.node != node);
    }

    pub(crate) fn is_alive(&self, node: NodeNo) -> bool {
        self.alive.contains(&node)
    }

    /// Everything may be lost: all who live say again whom they have.
    pub(crate) fn shaken(&mut self, emptied: bool) {
        if emptied {
            self.chairs.clear();
        }
        self.unheard = self.alive.clone();
    }

    fn heard_all(&self) -> Result<(), BusError> {
        if self.unheard.is_empty() {
            return Ok(());
        }
        Err(BusError::Unavailable("not all nodes have said whom they have".to_owned()))
    }

    pub(crate) fn claim(&mut self, peer: &PeerId, node: NodeNo) -> Result<Claim, BusError> {
        self.heard_all()?;
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        let older = self.chairs.remove(peer);
        let place = older.as_ref().and_then(|chair| chair.place);
        let anew = older.as_ref().map_or(Epoch(0), |chair| chair.anew);
        self.chairs.insert(peer.clone(), Chair { node, epoch, place, hidden: true, anew });
        let former = older.filter(|chair| self.alive.contains(&chair.node));
        let former = former.map(|chair| Former { node: chair.node, placed: chair.place.is_some() });
        Ok(Claim { epoch, former, anew })
    }

    fn chair(&mut self, peer: &PeerId, epoch: Epoch) -> Option<&mut Chair> {
        self.chairs.get_mut(peer).filter(|chair| chair.epoch == epoch)
    }

    pub(crate) fn place(&mut self, peer: &PeerId, epoch: Epoch, which: Place) -> Result<Placement, BusError> {
        self.heard_all()?;
        let next = self.last_place + 1;
        let chair = self.chair(peer, epoch).ok_or(BusError::Superseded)?;
        chair.hidden = false;
        if which == Place::New {
            chair.anew = epoch;
        }
        let kept = chair.place.filter(|_| which == Place::Same);
        let place = kept.unwrap_or(next);
        chair.place = Some(place);
        self.last_place = self.last_place.max(place);
        Ok(Placement { place, members: self.others(peer) })
    }

    fn others(&self, but: &PeerId) -> Vec<Member> {
        let listed = self.chairs.iter().filter(|(peer, chair)| *peer != but && !chair.hidden);
        listed.filter_map(|(peer, chair)| Some(Member::new(peer.clone(), chair.place?))).collect()
    }

    pub(crate) fn hide(&mut self, peer: &PeerId, epoch: Epoch) {
        if let Some(chair) = self.chair(peer, epoch) {
            chair.hidden = true;
        }
    }

    pub(crate) fn release(&mut self, peer: &PeerId, epoch: Epoch) {
        if self.chair(peer, epoch).is_some() {
            self.chairs.remove(peer);
        }
    }

    /// A node says all its sessions.
    pub(crate) fn reseat(&mut self, node: NodeNo, seats: &[Seat], up_to: Epoch) -> Vec<Reseating> {
        self.alive.insert(node);
        // All of this node, none left out: what it does not say is over, but for what it claimed since it said so.
        let said = |peer: &PeerId, chair: &Chair| {
            chair.epoch > up_to || seats.iter().any(|seat| seat.peer == *peer && seat.epoch == chair.epoch)
        };
        self.chairs.retain(|peer, chair| chair.node != node || said(peer, chair));
        let outcomes = seats.iter().map(|seat| self.reseat_one(node, seat)).collect();
        self.unheard.remove(&node);
        outcomes
    }

    fn reseat_one(&mut self, node: NodeNo, seat: &Seat) -> Reseating {
        let present = self.chairs.get(&seat.peer);
        let displaces = present.is_some_and(|chair| chair.epoch < seat.epoch);
        let told = |reseated| Reseating { reseated, displaces };
        match present {
            Some(chair) if chair.epoch > seat.epoch => return told(Reseated::Superseded(chair.epoch)),
            Some(chair) if chair.epoch == seat.epoch => return told(Reseated::Kept),
            _ => {}
        }
        // While nobody was told anything since the upheaval, the old place is as good as ever.
        let keeps_its_place = self.unheard.contains(&node);
        let place = seat.place.map(|place| {
            if keeps_its_place {
                return place;
            }
            self.last_place += 1;
            self.last_place
        });
        self.last_place = self.last_place.max(place.unwrap_or(0));
        self.last_epoch = self.last_epoch.max(seat.epoch.0);
        let chair = Chair { node, epoch: seat.epoch, place, hidden: seat.hidden, anew: Epoch(0) };
        self.chairs.insert(seat.peer.clone(), chair);
        match place {
            Some(place) if !keeps_its_place => {
                told(Reseated::Moved(Placement { place, members: self.others(&seat.peer) }))
            }
            _ => told(Reseated::Kept),
        }
    }
}
