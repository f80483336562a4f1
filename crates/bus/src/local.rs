//! The in-process twin: any number of nodes in one process share a [`Hub`]. With one node it is the embedded
//! mode; with several it is the world of the conformance suite.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use foldhash::fast::RandomState;
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName};
use heliograph_core::message::Member;
use tokio::sync::watch;

use crate::budget::LocalBudget;
use crate::{
    Bus, BusError, Claim, Destination, Inbox, Link, NodeStatus, Parcel, Place, Placement, Presence, Previous,
    Reseated, Seat, Sent, Visit, Whereabouts,
};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Parcels that wait for one node at most. They wait only while another one is being taken in.
const MAX_WAITING: usize = 65_536;

/// What the nodes of one process share.
#[derive(Default)]
pub struct Hub {
    nodes: Mutex<Map<GatewayId, Weak<Node>>>,
    subscribers: Mutex<Map<Destination, Vec<GatewayId>>>,
    spaces: Mutex<Spaces>,
}

#[derive(Default)]
struct Spaces {
    last_epoch: u64,
    last_place: u64,
    by_name: Map<SpaceName, Members>,
}

#[derive(Default)]
struct Members {
    sessions: Map<PeerId, Chair>,
    /// Whom a list shows, in the order of registration.
    placed: BTreeMap<u64, PeerId>,
}

struct Chair {
    gateway: GatewayId,
    epoch: Epoch,
    place: Option<u64>,
    visit: Visit,
}

/// One node on a [`Hub`].
pub struct Node {
    id: GatewayId,
    hub: Arc<Hub>,
    inbox: OnceLock<Weak<dyn Inbox>>,
    waiting: Mutex<VecDeque<(Destination, Parcel)>>,
    /// Held by the thread that takes in what waits.
    taking: Mutex<()>,
    status: Mutex<Option<NodeStatus>>,
    upheavals: watch::Sender<u64>,
}

// Every critical section below leaves the maps consistent at each step, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A new world.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a node.
    pub fn join(self: &Arc<Self>, id: GatewayId) -> Arc<Node> {
        let node = Arc::new(Node {
            id: id.clone(),
            hub: Arc::clone(self),
            inbox: OnceLock::new(),
            waiting: Mutex::default(),
            taking: Mutex::default(),
            status: Mutex::default(),
            upheavals: watch::Sender::new(0),
        });
        lock(&self.nodes).insert(id, Arc::downgrade(&node));
        node
    }

    fn node(&self, id: &GatewayId) -> Option<Arc<Node>> {
        lock(&self.nodes).get(id)?.upgrade()
    }

    fn alive(&self, id: &GatewayId) -> bool {
        lock(&self.nodes).contains_key(id)
    }

    /// Hands a parcel to all subscribers but `except`; answers what became of it.
    fn deliver(&self, except: Option<&GatewayId>, destination: &Destination, parcel: &Parcel) -> Sent {
        let receivers = self.queue(except, destination, parcel);
        if receivers.is_empty() {
            return Sent::Offline;
        }
        let taken: Vec<bool> = receivers
            .iter()
            .map(|(node, queued)| {
                node.take_in();
                *queued
            })
            .collect();
        if taken.contains(&true) { Sent::Queued } else { Sent::Full }
    }

    /// Queues under the lock of the subscribers, so that all see the parcels of a destination in one order.
    fn queue(
        &self,
        except: Option<&GatewayId>,
        destination: &Destination,
        parcel: &Parcel,
    ) -> Vec<(Arc<Node>, bool)> {
        let only_one;
        let subscribers = lock(&self.subscribers);
        let ids = match destination {
            Destination::Gateway(id) => {
                only_one = [id.clone()];
                &only_one[..]
            }
            Destination::Peer(..) | Destination::Space(_) => {
                subscribers.get(destination).map_or(&[][..], Vec::as_slice)
            }
        };
        let nodes = ids.iter().filter(|id| Some(*id) != except).filter_map(|id| self.node(id));
        nodes
            .map(|node| {
                let queued = node.queue(destination, parcel);
                (node, queued)
            })
            .collect()
    }
}

impl Node {
    /// Names who takes what arrives; held weakly, because the receiver holds this node. Only the first call counts.
    pub fn attach(&self, inbox: Weak<dyn Inbox>) {
        let _already_attached = self.inbox.set(inbox);
    }

    /// The three seams of this node.
    pub fn link(self: &Arc<Self>) -> Link {
        Link { bus: self.clone(), presence: self.clone(), budget: Arc::new(LocalBudget::default()) }
    }

    fn queue(&self, destination: &Destination, parcel: &Parcel) -> bool {
        let mut waiting = lock(&self.waiting);
        let room = waiting.len() < MAX_WAITING;
        if room {
            waiting.push_back((destination.clone(), parcel.clone()));
        }
        room
    }

    /// Hands over what waits, in order. One thread at a time; one that finds another (or itself, further up its stack)
    /// at it leaves its parcels to that one.
    fn take_in(&self) {
        while !lock(&self.waiting).is_empty() {
            let _one_at_a_time = match self.taking.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let Some(inbox) = self.inbox.get().and_then(Weak::upgrade) else {
                lock(&self.waiting).clear();
                return;
            };
            loop {
                let Some((destination, parcel)) = lock(&self.waiting).pop_front() else { break };
                inbox.arrived(&destination, parcel);
            }
        }
    }

    /// Changes the spaces, and then tells what `change` says is to be told, in the order of the changes.
    fn change<T>(&self, space: &SpaceName, change: impl FnOnce(&mut Spaces, &mut Vec<Parcel>) -> T) -> T {
        let (answer, receivers) = {
            let mut spaces = lock(&self.hub.spaces);
            let mut news = vec![];
            let answer = change(&mut spaces, &mut news);
            let destination = Destination::Space(space.clone());
            let queue = |parcel: &Parcel| self.hub.queue(None, &destination, parcel);
            (answer, news.iter().flat_map(queue).collect::<Vec<_>>())
        };
        for (node, _queued) in receivers {
            node.take_in();
        }
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        lock(&self.hub.nodes).remove(&self.id);
        lock(&self.hub.subscribers).retain(|_, ids| {
            ids.retain(|id| *id != self.id);
            !ids.is_empty()
        });
    }
}

#[async_trait]
impl Bus for Node {
    fn send(&self, destination: Destination, parcel: Parcel) -> Sent {
        // A fence comes back to its sender, in its place among the parcels of others.
        let except = (!matches!(parcel, Parcel::Superseded { .. })).then_some(&self.id);
        self.hub.deliver(except, &destination, &parcel)
    }

    async fn subscribe(&self, destination: Destination) -> Result<(), BusError> {
        let mut subscribers = lock(&self.hub.subscribers);
        match subscribers.get_mut(&destination) {
            Some(ids) if ids.contains(&self.id) => {}
            Some(ids) => ids.push(self.id.clone()),
            // Exactly one: nearly every peer is on one node, and there are as many lists as peers.
            None => drop(subscribers.insert(destination, vec![self.id.clone()])),
        }
        Ok(())
    }

    async fn unsubscribe(&self, destination: &Destination) {
        let mut subscribers = lock(&self.hub.subscribers);
        if let Some(ids) = subscribers.get_mut(destination) {
            ids.retain(|id| *id != self.id);
            if ids.is_empty() {
                subscribers.remove(destination);
            }
        }
    }

    fn is_up(&self) -> bool {
        true
    }
}

impl Spaces {
    /// The next number in the order of places.
    fn next(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }

    fn chair(&mut self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Option<&mut Chair> {
        let chair = self.by_name.get_mut(space)?.sessions.get_mut(peer)?;
        (chair.epoch == epoch).then_some(chair)
    }

    /// Takes the session's place away and says so; answers whether there was one.
    fn unplace(&mut self, space: &SpaceName, peer: &PeerId, epoch: Epoch, news: &mut Vec<Parcel>) -> bool {
        let Some(place) = self.chair(space, peer, epoch).and_then(|chair| chair.place.take()) else {
            return false;
        };
        let at = self.next();
        if let Some(space) = self.by_name.get_mut(space) {
            space.placed.remove(&place);
        }
        news.push(Parcel::Left { member: Member::new(peer.clone(), place), at });
        true
    }

    /// Gives the session a new place and says so; answers who was there before.
    fn place(
        &mut self,
        space: &SpaceName,
        peer: &PeerId,
        epoch: Epoch,
        news: &mut Vec<Parcel>,
    ) -> Result<Placement, BusError> {
        let place = self.next();
        let chair = self.chair(space, peer, epoch).ok_or(BusError::Superseded)?;
        chair.place = Some(place);
        let members = self.others(space, place);
        if let Some(space) = self.by_name.get_mut(space) {
            space.placed.insert(place, peer.clone());
        }
        let profile = self.profile(space, peer);
        news.push(Parcel::Joined(Member { peer: peer.clone(), place, profile }));
        Ok(Placement { place, members })
    }

    fn others(&self, space: &SpaceName, but: u64) -> Vec<Member> {
        let placed = self.by_name.get(space).map(|space| space.placed.iter());
        let others = placed.into_iter().flatten().filter(|&(&place, _)| place != but);
        let member = |(&place, peer): (&u64, &PeerId)| Member {
            profile: self.profile(space, peer),
            peer: peer.clone(),
            place,
        };
        others.map(member).collect()
    }

    /// What the peer's session shows of itself.
    fn profile(&self, space: &SpaceName, peer: &PeerId) -> Option<Bytes> {
        self.by_name.get(space)?.sessions.get(peer)?.visit.profile.clone()
    }
}

#[async_trait]
impl Presence for Node {
    async fn claim_within(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        visit: Visit,
        most: u32,
    ) -> Result<Claim, BusError> {
        let mut spaces = lock(&self.hub.spaces);
        spaces.last_epoch += 1;
        let epoch = Epoch(spaces.last_epoch);
        let Members { sessions, placed } = spaces.by_name.entry(space.clone()).or_default();
        let older = sessions.remove(peer);
        if older.is_none() && most > 0 && sessions.len() >= most as usize {
            return Err(BusError::Full);
        }
        let place = older.as_ref().and_then(|chair| chair.place);
        if let Some(place) = place.filter(|_| !space.is_room()) {
            placed.remove(&place);
        }
        sessions.insert(peer.clone(), Chair { gateway: self.id.clone(), epoch, place, visit });
        let previous = older.filter(|chair| self.hub.alive(&chair.gateway)).map(|chair| Previous {
            gateway: chair.gateway,
            epoch: chair.epoch,
            place: chair.place,
        });
        Ok(Claim { epoch, previous })
    }

    async fn place(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        epoch: Epoch,
        place: Place,
    ) -> Result<Placement, BusError> {
        self.change(space, |spaces, news| {
            let chair = spaces.chair(space, peer, epoch).ok_or(BusError::Superseded)?;
            if let (Place::Same, Some(place)) = (place, chair.place) {
                if let Some(space) = spaces.by_name.get_mut(space) {
                    space.placed.insert(place, peer.clone());
                }
                return Ok(Placement { place, members: spaces.others(space, place) });
            }
            spaces.unplace(space, peer, epoch, news);
            spaces.place(space, peer, epoch, news)
        })
    }

    async fn hide(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<(), BusError> {
        let mut spaces = lock(&self.hub.spaces);
        let place = spaces.chair(space, peer, epoch).and_then(|chair| chair.place);
        if let (Some(place), Some(space)) = (place, spaces.by_name.get_mut(space)) {
            space.placed.remove(&place);
        }
        Ok(())
    }

    async fn unplace(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        Ok(self.change(space, |spaces, news| spaces.unplace(space, peer, epoch, news)))
    }

    async fn release(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        Ok(self.change(space, |spaces, news| {
            let had_place = spaces.unplace(space, peer, epoch, news);
            let live = spaces.chair(space, peer, epoch).is_some();
            if let Some(entry) = spaces.by_name.get_mut(space) {
                if live {
                    entry.sessions.remove(peer);
                }
                if entry.sessions.is_empty() {
                    spaces.by_name.remove(space);
                }
            }
            had_place
        }))
    }

    async fn online(&self, space: &SpaceName) -> Result<u64, BusError> {
        Ok(lock(&self.hub.spaces).by_name.get(space).map_or(0, |space| space.placed.len() as u64))
    }

    async fn locate(&self, space: &SpaceName, peer: &PeerId) -> Result<Option<Whereabouts>, BusError> {
        let spaces = lock(&self.hub.spaces);
        let chair = spaces.by_name.get(space).and_then(|space| space.sessions.get(peer));
        Ok(chair.map(|chair| Whereabouts {
            gateway: chair.gateway.clone(),
            epoch: chair.epoch,
            placed: chair.place.is_some(),
            visit: chair.visit.clone(),
        }))
    }

    fn upheavals(&self) -> watch::Receiver<u64> {
        self.upheavals.subscribe()
    }

    async fn reseat(&self, seats: &[Seat]) -> Result<Vec<Reseated>, BusError> {
        // Nothing is ever lost within one process; a seat is as it was, or a newer session took it.
        let spaces = lock(&self.hub.spaces);
        let epoch =
            |seat: &Seat| spaces.by_name.get(&seat.space)?.sessions.get(&seat.peer).map(|chair| chair.epoch);
        let newer = |seat: &Seat| epoch(seat).filter(|&epoch| epoch > seat.epoch);
        Ok(seats.iter().map(|seat| newer(seat).map_or(Reseated::Kept, Reseated::Superseded)).collect())
    }

    fn report(&self, status: NodeStatus) {
        *lock(&self.status) = Some(status);
    }

    async fn gateways(&self) -> Result<Vec<NodeStatus>, BusError> {
        let nodes: Vec<_> = lock(&self.hub.nodes).values().filter_map(Weak::upgrade).collect();
        let unsaid =
            |id: &GatewayId| NodeStatus { id: id.clone(), sessions: 0, version: "".into(), draining: false };
        Ok(nodes.iter().map(|node| lock(&node.status).clone().unwrap_or_else(|| unsaid(&node.id))).collect())
    }
}
