//! Leases and hints that live in one process, for backends that only one process uses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heliograph_core::id::{GatewayId, Version};
use tokio::sync::watch;

use crate::{Hint, LeaseRow};

/// The receivers of each kind of hint.
#[derive(Debug, Default)]
pub struct Waiters {
    changes: watch::Sender<u64>,
    leases: watch::Sender<u64>,
}

impl Waiters {
    /// A wake-up for each hint of this kind.
    pub fn subscribe(&self, of: Hint) -> watch::Receiver<u64> {
        self.of(of).subscribe()
    }

    /// Wakes those who wait for it.
    pub fn wake(&self, of: Hint) {
        self.of(of).send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.wake(Hint::Change);
        self.wake(Hint::Lease);
    }

    fn of(&self, hint: Hint) -> &watch::Sender<u64> {
        match hint {
            Hint::Change => &self.changes,
            Hint::Lease => &self.leases,
        }
    }
}

/// The lease table of one process, and the wake-up of those who wait.
///
/// It does not know the version counter: the store around it sees to it that a renewal and a change exclude each
/// other (see [`crate::Leases::renew`]).
#[derive(Debug, Default)]
pub struct LocalLeases {
    table: Mutex<Table>,
    waiters: Waiters,
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<GatewayId, LeaseRow>,
    /// Counts the beats of all leases together, so that a beat is never used twice, also by a lease that comes
    /// back after it was removed.
    beat: u64,
}

impl LocalLeases {
    /// Grants or renews a lease.
    pub fn renew(&self, gateway: &GatewayId, acknowledged: Version) {
        let further = self.table().renew(gateway, acknowledged);
        if further {
            self.waiters.wake(Hint::Lease);
        }
    }

    /// All leases, by gateway.
    pub fn rows(&self) -> Vec<LeaseRow> {
        self.table().rows.values().cloned().collect()
    }

    /// Removes a lease, if its beat is still `beat`; `None`: whatever it is. Answers whether it did.
    pub fn remove(&self, gateway: &GatewayId, beat: Option<u64>) -> bool {
        let removed = self.table().remove(gateway, beat);
        if removed {
            self.waiters.wake(Hint::Lease);
        }
        removed
    }

    /// Who waits.
    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Answers whether the acknowledgement goes further than before.
    fn renew(&mut self, gateway: &GatewayId, acknowledged: Version) -> bool {
        self.beat += 1;
        let fresh = || LeaseRow { gateway: gateway.clone(), acknowledged: Version(0), beat: 0 };
        let row = self.rows.entry(gateway.clone()).or_insert_with(fresh);
        row.beat = self.beat;
        let further = acknowledged > row.acknowledged;
        row.acknowledged = row.acknowledged.max(acknowledged);
        further
    }

    fn remove(&mut self, gateway: &GatewayId, beat: Option<u64>) -> bool {
        let matches = self.rows.get(gateway).is_some_and(|row| beat.is_none_or(|beat| beat == row.beat));
        matches && self.rows.remove(gateway).is_some()
    }
}
