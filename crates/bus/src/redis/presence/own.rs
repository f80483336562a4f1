//! What this node knows of its own sessions, and what it still owes Redis.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use heliograph_core::id::{Epoch, PeerId, SpaceName};
use prometheus::IntCounter;

/// Most releases and doubts that wait for Redis to be back. Beyond, the oldest is left to the slow round that compares
/// all that Redis holds of this node.
const MAX_DEBTS: usize = 100_000;
/// How old a session that nobody here knows must be before it is taken for a ghost. Longer than any claim takes.
pub(super) const GHOST_AGE: Duration = Duration::from_secs(10);

/// One of this node's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) epoch: Epoch,
    /// The place that it has or inherited.
    pub(super) place: Option<u64>,
}

/// A peer of a space.
pub(super) type Who = (SpaceName, PeerId);

/// The sessions that were claimed here and not released.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Who, Own, RandomState>>);

// Every critical section below leaves its map consistent at each step, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub(super) fn began(&self, who: Who, own: Own) {
        let mut sessions = lock(&self.0);
        let current = sessions.entry(who).or_insert(own);
        // Answers to two claims of one peer may be read in either order.
        if own.epoch > current.epoch {
            *current = own;
        }
    }

    pub(super) fn placed(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch, place: Option<u64>) {
        let mut sessions = lock(&self.0);
        if let Some(own) = sessions.get_mut(&(space.clone(), peer.clone())).filter(|own| own.epoch == epoch) {
            own.place = place;
        }
    }

    /// The session ends; answers its place.
    pub(super) fn ended(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Option<u64> {
        let mut sessions = lock(&self.0);
        let who = (space.clone(), peer.clone());
        let ended = sessions.get(&who).copied().filter(|own| own.epoch == epoch)?;
        sessions.remove(&who);
        ended.place
    }

    pub(super) fn get(&self, space: &SpaceName, peer: &PeerId) -> Option<Own> {
        lock(&self.0).get(&(space.clone(), peer.clone())).copied()
    }
}

/// Something that Redis has not been told, or may not have understood.
#[derive(Debug, Clone)]
pub(super) enum Debt {
    /// A session ended.
    Release { who: Who, epoch: Epoch, place: Option<u64> },
    /// A claim may have been made, and no session came of it.
    Doubt { who: Who, since: Instant },
}

/// What is owed, oldest first.
pub(super) struct Ledger {
    releases: Mutex<VecDeque<Debt>>,
    doubts: Mutex<VecDeque<Debt>>,
    dropped: IntCounter,
}

impl Ledger {
    pub(super) fn new(dropped: IntCounter) -> Self {
        Self { releases: Mutex::default(), doubts: Mutex::default(), dropped }
    }

    /// Owes `debt` from the moment when the answer is dropped, unless it is paid until then: whatever fails, is
    /// cancelled or never comes back is kept.
    pub(super) fn owe(&self, debt: Debt) -> Owing<'_> {
        Owing { ledger: self, debt: Some(debt) }
    }

    pub(super) fn add(&self, debt: Debt) {
        let queue = match debt {
            Debt::Release { .. } => &self.releases,
            Debt::Doubt { .. } => &self.doubts,
        };
        let mut queue = lock(queue);
        if queue.len() >= MAX_DEBTS {
            queue.pop_front();
            self.dropped.inc();
        }
        queue.push_back(debt);
    }

    /// Takes out the oldest releases.
    pub(super) fn take_releases(&self, most: usize) -> Vec<Debt> {
        let mut releases = lock(&self.releases);
        let count = releases.len().min(most);
        releases.drain(..count).collect()
    }

    /// Takes out the oldest doubts that are old enough to be looked into.
    pub(super) fn take_doubts(&self, most: usize, now: Instant) -> Vec<Who> {
        let mut doubts = lock(&self.doubts);
        let mut taken = vec![];
        while taken.len() < most {
            let Some(Debt::Doubt { since, .. }) = doubts.front() else { break };
            if now.saturating_duration_since(*since) < GHOST_AGE {
                break;
            }
            if let Some(Debt::Doubt { who, .. }) = doubts.pop_front() {
                taken.push(who);
            }
        }
        taken
    }
}

/// A debt that is about to be paid.
pub(super) struct Owing<'a> {
    ledger: &'a Ledger,
    debt: Option<Debt>,
}

impl Owing<'_> {
    pub(super) fn paid(mut self) {
        self.debt = None;
    }
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        if let Some(debt) = self.debt.take() {
            self.ledger.add(debt);
        }
    }
}
