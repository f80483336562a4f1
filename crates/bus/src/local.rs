//! The in-process twin: any number of nodes in one process share a [`Hub`]. With one node it is the embedded
//! mode; with several it is the world of the conformance suite and of simulations.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use heliograph_core::id::{Epoch, GatewayId, MeshName, PeerId};
use heliograph_core::message::Member;

use crate::budget::LocalBudget;
use crate::{
    Bus, BusError, Claim, Destination, Inbox, Link, Parcel, Placement, Presence, Sent, Visit, Whereabouts,
};

type Map<K, V> = HashMap<K, V, RandomState>;

/// What the nodes of one process share.
#[derive(Default)]
pub struct Hub {
    nodes: Mutex<Map<GatewayId, Weak<Node>>>,
    subscribers: Mutex<Map<Destination, Vec<GatewayId>>>,
    meshes: Mutex<Meshes>,
}

#[derive(Default)]
struct Meshes {
    last_epoch: u64,
    last_place: u64,
    by_name: Map<MeshName, Mesh>,
}

#[derive(Default)]
struct Mesh {
    sessions: Map<PeerId, Seat>,
    /// Whom a list shows, in the order of registration.
    placed: BTreeMap<u64, PeerId>,
}

struct Seat {
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
        let node = Arc::new(Node { id: id.clone(), hub: Arc::clone(self), inbox: OnceLock::new() });
        lock(&self.nodes).insert(id, Arc::downgrade(&node));
        node
    }

    fn inbox_of(&self, id: &GatewayId) -> Option<Arc<dyn Inbox>> {
        let node = lock(&self.nodes).get(id)?.upgrade()?;
        node.inbox.get()?.upgrade()
    }

    /// Hands a parcel to all subscribers but the sender; answers whether there was one.
    fn deliver(&self, sender: &GatewayId, destination: &Destination, parcel: &Parcel) -> bool {
        let receivers: Vec<_> = match lock(&self.subscribers).get(destination) {
            Some(ids) => ids.iter().filter(|id| *id != sender).cloned().collect(),
            None => return false,
        };
        let mut delivered = false;
        for inbox in receivers.iter().filter_map(|id| self.inbox_of(id)) {
            inbox.arrived(destination, parcel.clone());
            delivered = true;
        }
        delivered
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
        if self.hub.deliver(&self.id, &destination, &parcel) { Sent::Queued } else { Sent::Offline }
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

#[async_trait]
impl Presence for Node {
    async fn claim(&self, mesh: &MeshName, peer: &PeerId, visit: Visit) -> Result<Claim, BusError> {
        let (epoch, older) = {
            let mut meshes = lock(&self.hub.meshes);
            meshes.last_epoch += 1;
            let epoch = Epoch(meshes.last_epoch);
            let mesh = meshes.by_name.entry(mesh.clone()).or_default();
            let seat = Seat { gateway: self.id.clone(), epoch, place: None, visit };
            let older = mesh.sessions.insert(peer.clone(), seat);
            if let Some(place) = older.as_ref().and_then(|seat| seat.place) {
                mesh.placed.remove(&place);
            }
            (epoch, older)
        };
        let displaced = older.as_ref().is_some_and(|seat| seat.place.is_some());
        if let Some(seat) = older.filter(|seat| seat.gateway != self.id) {
            let destination = Destination::Peer(mesh.clone(), peer.clone());
            if let Some(inbox) = self.hub.inbox_of(&seat.gateway) {
                inbox.arrived(&destination, Parcel::Superseded { by: epoch });
            }
        }
        Ok(Claim { epoch, displaced })
    }

    async fn place(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<Placement, BusError> {
        let mut guard = lock(&self.hub.meshes);
        let Meshes { last_place, by_name, .. } = &mut *guard;
        let Mesh { sessions, placed } = by_name.get_mut(mesh).ok_or(BusError::Superseded)?;
        let seat = sessions.get_mut(peer).filter(|seat| seat.epoch == epoch).ok_or(BusError::Superseded)?;
        let member = |(&place, peer): (&u64, &PeerId)| Member { peer: peer.clone(), place };
        if let Some(place) = seat.place {
            let others = placed.iter().filter(|&(&other, _)| other != place).map(member).collect();
            return Ok(Placement { place, members: others });
        }
        let members = placed.iter().map(member).collect();
        *last_place += 1;
        seat.place = Some(*last_place);
        placed.insert(*last_place, peer.clone());
        Ok(Placement { place: *last_place, members })
    }

    async fn unplace(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        let mut meshes = lock(&self.hub.meshes);
        let Some(mesh) = meshes.by_name.get_mut(mesh) else { return Ok(false) };
        let Some(seat) = mesh.sessions.get_mut(peer).filter(|seat| seat.epoch == epoch) else {
            return Ok(false);
        };
        Ok(seat.place.take().is_some_and(|place| mesh.placed.remove(&place).is_some()))
    }

    async fn release(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        let had_place = self.unplace(mesh, peer, epoch).await?;
        let mut meshes = lock(&self.hub.meshes);
        if let Some(entry) = meshes.by_name.get_mut(mesh) {
            if entry.sessions.get(peer).is_some_and(|seat| seat.epoch == epoch) {
                entry.sessions.remove(peer);
            }
            if entry.sessions.is_empty() {
                meshes.by_name.remove(mesh);
            }
        }
        Ok(had_place)
    }

    async fn online(&self, mesh: &MeshName) -> Result<u64, BusError> {
        Ok(lock(&self.hub.meshes).by_name.get(mesh).map_or(0, |mesh| mesh.placed.len() as u64))
    }

    async fn locate(&self, mesh: &MeshName, peer: &PeerId) -> Result<Option<Whereabouts>, BusError> {
        let meshes = lock(&self.hub.meshes);
        let seat = meshes.by_name.get(mesh).and_then(|mesh| mesh.sessions.get(peer));
        Ok(seat.map(|seat| Whereabouts {
            gateway: seat.gateway.clone(),
            epoch: seat.epoch,
            placed: seat.place.is_some(),
            visit: seat.visit.clone(),
        }))
    }

    async fn gateways(&self) -> Result<Vec<GatewayId>, BusError> {
        Ok(lock(&self.hub.nodes).keys().cloned().collect())
    }
}
