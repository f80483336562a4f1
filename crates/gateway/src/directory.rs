//! Who is on this node: mesh → peer → handle, and the one value per peer that all its holders share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use heliograph_core::close::CloseCode;
use heliograph_core::id::{Epoch, MeshName, PeerId};
use heliograph_core::message::Peer;
use heliograph_wire::Dialect;

use crate::outbox::Outbox;

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
    pub(crate) outbox: Outbox,
    /// Whether its place was announced. Written under [`Space::news`].
    pub(crate) announced: AtomicBool,
    /// Whether the client asked for events, so that others are not woken for nothing.
    pub(crate) wants_events: AtomicBool,
    /// Whether the client asked for ICE servers, which expire.
    pub(crate) wants_ice: AtomicBool,
    /// Nanoseconds on the gateway's clock since which a write turn is in progress; 0: none.
    writing_since: AtomicU64,
    /// Nanoseconds on the gateway's clock at which the session's deadlines should be looked at.
    pub(crate) next_due: AtomicU64,
}

impl Handle {
    pub(crate) fn new(peer: Arc<Peer>, epoch: Epoch, dialect: Dialect) -> Self {
        Self {
            peer,
            epoch,
            dialect,
            outbox: Outbox::default(),
            announced: AtomicBool::new(false),
            wants_events: AtomicBool::new(false),
            wants_ice: AtomicBool::new(false),
            writing_since: AtomicU64::new(0),
            next_due: AtomicU64::new(0),
        }
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

/// The sessions of one mesh on this node.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) mesh: MeshName,
    sessions: RwLock<Map<PeerId, Arc<Handle>>>,
    peers: Mutex<Map<PeerId, Weak<Peer>>>,
    news: Mutex<()>,
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
    fn new(mesh: MeshName) -> Self {
        Self { mesh, sessions: RwLock::default(), peers: Mutex::default(), news: Mutex::default() }
    }

    /// The one value of a peer on this node, made if nobody holds it yet.
    pub(crate) fn intern(&self, id: &PeerId) -> Arc<Peer> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(id).and_then(Weak::upgrade) {
            return peer;
        }
        let peer = Arc::new(Peer::new(self.mesh.clone(), id.clone()));
        peers.insert(id.clone(), Arc::downgrade(&peer));
        peer
    }

    /// The value of a peer, if anybody here holds it.
    pub(crate) fn known(&self, id: &PeerId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(id).and_then(Weak::upgrade)
    }

    /// Held while somebody's coming or going is told, so that the news of one peer go out in the order in which they
    /// happened: the end of its older session never after the start of its newer one.
    pub(crate) fn news(&self) -> MutexGuard<'_, ()> {
        lock(&self.news)
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

    pub(crate) fn sessions(&self) -> Vec<Arc<Handle>> {
        read(&self.sessions).values().cloned().collect()
    }

    pub(crate) fn for_each(&self, visit: impl FnMut(&Arc<Handle>)) {
        read(&self.sessions).values().for_each(visit);
    }

    /// Calls `visit` for each session whose client wants events, but the one of `except`.
    pub(crate) fn for_each_listener(&self, except: &PeerId, mut visit: impl FnMut(&Handle)) {
        for handle in read(&self.sessions).values() {
            if handle.wants_events.load(Ordering::Relaxed) && handle.peer.id != *except {
                visit(handle);
            }
        }
    }

    fn forget_unheld(&self) {
        let mut peers = lock(&self.peers);
        peers.retain(|_, peer| peer.strong_count() > 0);
        if peers.capacity() > 64 && peers.len() < peers.capacity() / 4 {
            peers.shrink_to_fit();
        }
    }
}

/// All meshes of this node.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    spaces: RwLock<Map<MeshName, Arc<Space>>>,
    held: Mutex<VecDeque<(Instant, Arc<Peer>)>>,
}

impl Directory {
    pub(crate) fn space(&self, mesh: &MeshName) -> Arc<Space> {
        if let Some(space) = read(&self.spaces).get(mesh) {
            return Arc::clone(space);
        }
        let mut spaces = write(&self.spaces);
        Arc::clone(spaces.entry(mesh.clone()).or_insert_with(|| Arc::new(Space::new(mesh.clone()))))
    }

    /// The mesh, if anybody was ever here.
    pub(crate) fn known(&self, mesh: &MeshName) -> Option<Arc<Space>> {
        read(&self.spaces).get(mesh).cloned()
    }

    pub(crate) fn spaces(&self) -> Vec<Arc<Space>> {
        read(&self.spaces).values().cloned().collect()
    }

    /// Keeps a peer's right current for a while even if nobody else needs it.
    pub(crate) fn hold(&self, peer: Arc<Peer>, now: Instant) {
        let mut held = lock(&self.held);
        if held.len() >= MAX_HELD {
            held.pop_front();
        }
        held.push_back((now, peer));
    }

    /// Lets go of what nobody needs.
    pub(crate) fn tidy(&self, now: Instant) {
        {
            let mut held = lock(&self.held);
            while held.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > HOLD) {
                held.pop_front();
            }
        }
        for space in self.spaces() {
            space.forget_unheld();
        }
    }

    /// Waits until every write turn that was in progress in `mesh` has ended, so that no frame checked before a
    /// change of rights is still to be written. Sockets that stand still past `patience` are cut off.
    pub(crate) async fn settle(&self, mesh: &MeshName, patience: Duration) {
        let Some(space) = self.known(mesh) else { return };
        fence(Ordering::SeqCst);
        let busy: Vec<_> =
            space.sessions().into_iter().filter_map(|h| h.turn().map(|turn| (h, turn))).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(space: &Space, name: &str, epoch: u64) -> Arc<Handle> {
        Arc::new(Handle::new(space.intern(&PeerId::parse(name).unwrap()), Epoch(epoch), Dialect::Mesh))
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
        let space = directory.space(&mesh);
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
