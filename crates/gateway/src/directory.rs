//! Who is on this node: space → peer → handle, and the one value per peer that all its holders share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::quality::RandomState;
use heliograph_core::authority::{Authority, Standing};
use heliograph_core::close::CloseCode;
use heliograph_core::id::{Epoch, MeshName, PeerId, SpaceName};
use heliograph_core::message::{Capabilities, Peer};
use heliograph_core::session::Session;
use heliograph_core::stage::{Arrival, AtomicStage, Stage};
use heliograph_wire::Dialect;

use crate::gateway::unix_millis;
use crate::outbox::Outbox;
use crate::resume::Resumable;

type Map<K, V> = HashMap<K, V, RandomState>;

/// How long a peer's right is kept after it was needed: a revoked one longer than any frame of it can be under way,
/// any other so that a peer that comes back needs no database read.
const HOLD: Duration = Duration::from_mins(10);
/// Most peers that are held so.
const MAX_HELD: usize = 100_000;

/// What others hold of a session. The socket and the state machine belong to its connection alone.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) peer: Arc<Peer>,
    pub(crate) epoch: Epoch,
    pub(crate) dialect: Dialect,
    /// What it shows to the others in its room.
    pub(crate) profile: Option<Bytes>,
    pub(crate) since_unix_ms: u64,
    pub(crate) opened: Instant,
    pub(crate) outbox: Outbox,
    pub(crate) stage: AtomicStage,
    /// The first session in the chain of resumptions that led here: receipts for any since then are for this one.
    first_epoch: AtomicU64,
    /// Its place in the order of registrations; 0: none.
    place: AtomicU64,
    /// Set for a client that may resume.
    pub(crate) resumable: OnceLock<Box<Resumable>>,
    /// Whether the client asked for events, so that others are not woken for nothing.
    pub(crate) wants_events: AtomicBool,
    /// Whether the client asked for ICE servers, which expire.
    pub(crate) wants_ice: AtomicBool,
    /// Nanoseconds on the gateway's clock at which its TURN credentials are to be renewed; 0: it has none yet.
    pub(crate) ice_due: AtomicU64,
    /// Whether the client asked for a word before its socket is closed.
    pub(crate) wants_goaway: AtomicBool,
    /// Nanoseconds on the gateway's clock since which a write turn is in progress; 0: none.
    writing_since: AtomicU64,
    /// Nanoseconds on the gateway's clock at which the session's deadlines should be looked at.
    pub(crate) next_due: AtomicU64,
}

impl Handle {
    pub(crate) fn new(
        peer: Arc<Peer>,
        epoch: Epoch,
        dialect: Dialect,
        profile: Option<Bytes>,
        stage: Stage,
    ) -> Self {
        Self {
            peer,
            epoch,
            dialect,
            profile,
            since_unix_ms: unix_millis(),
            opened: Instant::now(),
            outbox: Outbox::default(),
            stage: AtomicStage::new(stage),
            first_epoch: AtomicU64::new(epoch.0),
            place: AtomicU64::new(0),
            resumable: OnceLock::new(),
            wants_goaway: AtomicBool::new(false),
            wants_events: AtomicBool::new(false),
            wants_ice: AtomicBool::new(false),
            ice_due: AtomicU64::new(0),
            writing_since: AtomicU64::new(0),
            next_due: AtomicU64::new(0),
        }
    }

    /// Whether a receipt for a message that was sent in `epoch` is for this session.
    pub(crate) fn accepts(&self, epoch: Epoch) -> bool {
        (self.first_epoch.load(Ordering::Relaxed)..=self.epoch.0).contains(&epoch.0)
    }

    /// The first session in the chain of resumptions that led here.
    pub(crate) fn first_epoch(&self) -> Epoch {
        Epoch(self.first_epoch.load(Ordering::Relaxed))
    }

    /// This session goes on for those since `first`.
    pub(crate) fn goes_on_for(&self, first: Epoch) {
        self.first_epoch.fetch_min(first.0, Ordering::Relaxed);
    }

    pub(crate) fn place(&self) -> Option<u64> {
        Some(self.place.load(Ordering::Relaxed)).filter(|&place| place != 0)
    }

    pub(crate) fn set_place(&self, place: Option<u64>) {
        self.place.store(place.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether its client is away.
    pub(crate) fn is_parked(&self) -> bool {
        self.stage.get().is_parked()
    }

    /// Takes over what the client asked for when it registered.
    pub(crate) fn note(&self, session: &Session) {
        self.wants_events.store(session.has(Capabilities::EVENTS), Ordering::Relaxed);
        self.wants_ice.store(session.has(Capabilities::ICE), Ordering::Relaxed);
        self.wants_goaway.store(session.has(Capabilities::GOAWAY), Ordering::Relaxed);
    }

    /// Marks the start of a turn: [`Directory::settle`] waits for the checks of rights that follow.
    pub(crate) fn begin_turn(&self, now: u64) {
        self.writing_since.store(now.max(1), Ordering::SeqCst);
        // The store must be visible before the rights are read: either the authority feed sees this turn and waits
        // for it, or this turn sees the feed's change.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn end_turn(&self) {
        self.writing_since.store(0, Ordering::Release);
    }

    /// Since when a turn is in progress, if one is.
    pub(crate) fn turn(&self) -> Option<u64> {
        Some(self.writing_since.load(Ordering::SeqCst)).filter(|&since| since != 0)
    }
}

/// The sessions of one mesh or room on this node.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) name: SpaceName,
    /// Held while it is decided whether this node receives what is for the whole space.
    pub(crate) channel: tokio::sync::Mutex<()>,
    sessions: RwLock<Map<PeerId, Arc<Handle>>>,
    /// Older sessions that have something left for their newer ones.
    former: Mutex<Map<PeerId, Arc<Handle>>>,
    peers: Mutex<Map<PeerId, Weak<Peer>>>,
}

// Every critical section below leaves its map consistent at each step, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Space {
    fn new(name: impl Into<SpaceName>) -> Self {
        Self {
            name: name.into(),
            channel: tokio::sync::Mutex::default(),
            sessions: RwLock::default(),
            former: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    /// The one value of a peer on this node, made if nobody holds it yet.
    pub(crate) fn intern(&self, id: &PeerId) -> Arc<Peer> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(id).and_then(Weak::upgrade) {
            return peer;
        }
        let peer = Arc::new(Peer::new(self.name.clone(), id.clone()));
        peers.insert(id.clone(), Arc::downgrade(&peer));
        peer
    }

    /// The one value of a member that is in this room by the right of `behind`, a peer of the mesh.
    pub(crate) fn intern_by_right_of(&self, behind: &Arc<Peer>, id: &PeerId) -> Arc<Peer> {
        let mut peers = lock(&self.peers);
        let known = peers.get(id).and_then(Weak::upgrade);
        if let Some(peer) = known.filter(|peer| peer.is_by_right_of(behind)) {
            return peer;
        }
        let peer = Arc::new(Peer::by_right_of(Arc::clone(behind), self.name.clone(), id.clone()));
        peers.insert(id.clone(), Arc::downgrade(&peer));
        peer
    }

    /// The value of a peer, if anybody here holds it.
    pub(crate) fn known(&self, id: &PeerId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(id).and_then(Weak::upgrade)
    }

    pub(crate) fn session(&self, peer: &str) -> Option<Arc<Handle>> {
        read(&self.sessions).get(peer).cloned()
    }

    /// Makes `handle` the peer's session here and answers the older one; a newer one stays, and `handle` comes back.
    pub(crate) fn insert(&self, handle: Arc<Handle>) -> Option<Arc<Handle>> {
        let mut sessions = write(&self.sessions);
        match sessions.get_mut(&handle.peer.id) {
            Some(present) if present.epoch > handle.epoch => Some(handle),
            Some(present) => Some(std::mem::replace(present, handle)),
            None => {
                sessions.insert(handle.peer.id.clone(), handle);
                None
            }
        }
    }

    /// Removes the session, unless a newer one stands there. Answers whether the peer has none here any more.
    pub(crate) fn remove(&self, handle: &Handle) -> bool {
        let mut sessions = write(&self.sessions);
        match sessions.get(&handle.peer.id) {
            Some(present) if present.epoch == handle.epoch => {
                sessions.remove(&handle.peer.id);
                if sessions.capacity() > 64 && sessions.len() < sessions.capacity() / 4 {
                    sessions.shrink_to_fit();
                }
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Remembers an older session until its newer one asks for what it left; answers one that is forgotten for it.
    pub(crate) fn set_former(&self, handle: Arc<Handle>) -> Option<Arc<Handle>> {
        lock(&self.former).insert(handle.peer.id.clone(), handle)
    }

    pub(crate) fn former(&self, peer: &str) -> Option<Arc<Handle>> {
        lock(&self.former).get(peer).cloned()
    }

    /// Forgets a former session. Answers whether it was remembered.
    pub(crate) fn remove_former(&self, handle: &Handle) -> bool {
        let mut former = lock(&self.former);
        let there = former.get(&handle.peer.id).is_some_and(|present| present.epoch == handle.epoch);
        there && former.remove(&handle.peer.id).is_some()
    }

    /// Whether no newer session of the peer is here.
    pub(crate) fn is_newest(&self, handle: &Handle) -> bool {
        self.session(handle.peer.id.as_str()).is_none_or(|present| present.epoch <= handle.epoch)
    }

    /// Whether the session is among the newest or the former ones.
    pub(crate) fn remembers(&self, handle: &Handle) -> bool {
        let id = handle.peer.id.as_str();
        self.session(id).into_iter().chain(self.former(id)).any(|known| known.epoch == handle.epoch)
    }

    /// Which session takes a message that came by the channel of `peer`, or what else to do with it.
    pub(crate) fn receiver(&self, peer: &str) -> Result<Arc<Handle>, Arrival> {
        let Some(newest) = self.session(peer) else { return Err(Arrival::Refuse) };
        match newest.stage.get().arrival() {
            Arrival::Take => Ok(newest),
            Arrival::Leave => {
                // An older session here may still be the one, as long as the fence of the newer has not come by.
                let former = self.former(peer).filter(|former| former.stage.get().arrival() == Arrival::Take);
                former.ok_or(Arrival::Leave)
            }
            Arrival::Refuse => Err(Arrival::Refuse),
        }
    }

    /// All handles, older ones among them.
    pub(crate) fn handles(&self) -> Vec<Arc<Handle>> {
        let mut all = self.sessions();
        all.extend(lock(&self.former).values().cloned());
        all
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Handle>> {
        read(&self.sessions).values().cloned().collect()
    }

    pub(crate) fn for_each(&self, visit: impl FnMut(&Arc<Handle>)) {
        read(&self.sessions).values().for_each(visit);
    }

    /// Calls `visit` for each session whose client is there and wants events, but the one of `except`.
    pub(crate) fn for_each_listener(&self, except: &PeerId, mut visit: impl FnMut(&Handle)) {
        for handle in read(&self.sessions).values() {
            if handle.wants_events.load(Ordering::Relaxed) && handle.peer.id != *except && !handle.is_parked()
            {
                visit(handle);
            }
        }
    }

    /// Calls `visit` for each session of this room but that of `except`.
    pub(crate) fn for_each_other(&self, except: &PeerId, mut visit: impl FnMut(&Arc<Handle>)) {
        read(&self.sessions).values().filter(|handle| handle.peer.id != *except).for_each(&mut visit);
    }

    /// Whether nobody is here, nor left anything.
    pub(crate) fn is_empty(&self) -> bool {
        read(&self.sessions).is_empty() && lock(&self.former).is_empty()
    }

    fn forget_unheld(&self) {
        let mut peers = lock(&self.peers);
        peers.retain(|_, peer| peer.strong_count() > 0);
        if peers.capacity() > 64 && peers.len() < peers.capacity() / 4 {
            peers.shrink_to_fit();
        }
    }
}

/// All spaces of this node.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    spaces: RwLock<Map<SpaceName, Arc<Space>>>,
    held: Mutex<VecDeque<(Instant, Arc<Peer>)>>,
}

impl Directory {
    pub(crate) fn space(&self, name: &SpaceName) -> Arc<Space> {
        if let Some(space) = read(&self.spaces).get(name) {
            return Arc::clone(space);
        }
        let mut spaces = write(&self.spaces);
        Arc::clone(spaces.entry(name.clone()).or_insert_with(|| Arc::new(Space::new(name.clone()))))
    }

    /// The mesh itself.
    pub(crate) fn mesh(&self, mesh: &MeshName) -> Arc<Space> {
        self.space(&mesh.clone().into())
    }

    /// A room, made if its mesh has fewer than `most` here; 0: no bound.
    pub(crate) fn room(&self, name: &SpaceName, most: u32) -> Option<Arc<Space>> {
        if let Some(space) = read(&self.spaces).get(name) {
            return Some(Arc::clone(space));
        }
        let mut spaces = write(&self.spaces);
        if most > 0 && rooms_of(&spaces, name.mesh()) >= most as usize {
            retain_needed(&mut spaces);
            if rooms_of(&spaces, name.mesh()) >= most as usize {
                return None;
            }
        }
        Some(Arc::clone(spaces.entry(name.clone()).or_insert_with(|| Arc::new(Space::new(name.clone())))))
    }

    /// The mesh and its rooms, as far as anybody was ever here.
    pub(crate) fn all_of(&self, mesh: &MeshName) -> Vec<Arc<Space>> {
        read(&self.spaces).values().filter(|space| space.name.mesh() == mesh).cloned().collect()
    }

    pub(crate) fn spaces(&self) -> Vec<Arc<Space>> {
        read(&self.spaces).values().cloned().collect()
    }

    /// The sessions of a peer of a mesh, older ones among them, there and in rooms that it is in by its right.
    pub(crate) fn sessions_by_right_of(&self, peer: &Arc<Peer>) -> Vec<Arc<Handle>> {
        let mut found = vec![];
        for space in self.all_of(peer.space.mesh()) {
            if space.name.is_room() {
                found.extend(space.handles().into_iter().filter(|handle| handle.peer.is_by_right_of(peer)));
            } else {
                let id = peer.id.as_str();
                found.extend(space.session(id).into_iter().chain(space.former(id)));
            }
        }
        found
    }

    /// Keeps a peer's right current for a while even if nobody else needs it. `authority` hears of a revocation that
    /// is let go for it.
    pub(crate) fn hold(&self, peer: Arc<Peer>, now: Instant, authority: &Authority) {
        let mut held = lock(&self.held);
        if held.len() >= MAX_HELD {
            let_go(held.pop_front(), authority);
        }
        held.push_back((now, peer));
    }

    /// Lets go of what nobody needs.
    pub(crate) fn tidy(&self, now: Instant, authority: &Authority) {
        {
            let mut held = lock(&self.held);
            while held.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > HOLD) {
                let_go(held.pop_front(), authority);
            }
        }
        for space in self.spaces() {
            space.forget_unheld();
        }
        retain_needed(&mut write(&self.spaces));
    }

    /// Waits until every write turn that was in progress in `mesh` and its rooms has ended, so that no frame checked before a
    /// change of rights is still to be written. Sockets that stand still past `patience` are cut off.
    pub(crate) async fn settle(&self, mesh: &MeshName, patience: Duration) {
        fence(Ordering::SeqCst);
        let handles = self.all_of(mesh).into_iter().flat_map(|space| space.handles());
        let busy: Vec<_> = handles.filter_map(|h| h.turn().map(|turn| (h, turn))).collect();
        let give_up = Instant::now() + patience;
        for (handle, turn) in busy {
            while handle.turn() == Some(turn) {
                if Instant::now() >= give_up {
                    handle.outbox.abort(CloseCode::SlowConsumer);
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    }
}

fn rooms_of(spaces: &Map<SpaceName, Arc<Space>>, mesh: &MeshName) -> usize {
    spaces.keys().filter(|name| name.is_room() && name.mesh() == mesh).count()
}

/// Lets go of rooms that are empty and that nobody is about to enter. Meshes stay: there are as many as tenants.
fn retain_needed(spaces: &mut Map<SpaceName, Arc<Space>>) {
    spaces.retain(|name, space| !name.is_room() || Arc::strong_count(space) > 1 || !space.is_empty());
}

/// While the value is still there, so that nobody takes an old word for the peer in between.
fn let_go(held: Option<(Instant, Arc<Peer>)>, authority: &Authority) {
    if let Some((_, peer)) = held
        && peer.right.standing() == Standing::Revoked
    {
        authority.forgets(peer.right.version());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(space: &Space, name: &str, epoch: u64) -> Arc<Handle> {
        Arc::new(Handle::new(
            space.intern(&PeerId::parse(name).unwrap()),
            Epoch(epoch),
            Dialect::Mesh,
            None,
            Stage::Live,
        ))
    }

    #[test]
    fn the_newest_session_stays_whatever_the_order() {
        let space = Space::new(MeshName::default_mesh());
        let (old, new) = (handle(&space, "a", 1), handle(&space, "a", 2));
        assert!(space.insert(Arc::clone(&new)).is_none());
        assert_eq!(space.insert(Arc::clone(&old)).map(|h| h.epoch), Some(Epoch(1)));
        assert_eq!(space.session("a").map(|h| h.epoch), Some(Epoch(2)));
        assert!(!space.remove(&old), "a late disconnect never removes the newer session");
        assert!(space.remove(&new));
        assert!(space.session("a").is_none());
    }

    #[test]
    fn a_peer_is_one_value_while_anybody_holds_it() {
        let space = Space::new(MeshName::default_mesh());
        let id = PeerId::parse("a").unwrap();
        let first = space.intern(&id);
        assert!(Arc::ptr_eq(&first, &space.intern(&id)));
        drop(first);
        assert!(space.known(&id).is_none());
        space.forget_unheld();
        assert!(lock(&space.peers).is_empty());
    }

    #[tokio::test]
    async fn settling_waits_for_turns_in_progress() {
        let directory = Arc::new(Directory::default());
        let mesh = MeshName::default_mesh();
        let space = directory.mesh(&mesh);
        let busy = handle(&space, "a", 1);
        space.insert(Arc::clone(&busy));
        busy.begin_turn(5);
        let settled = tokio::spawn({
            let (directory, mesh) = (Arc::clone(&directory), mesh.clone());
            async move { directory.settle(&mesh, Duration::from_secs(5)).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!settled.is_finished());
        busy.end_turn();
        settled.await.unwrap();
    }
}
