//! Under which era this node has said whom it has.
//!
//! An era is a partition's life in Redis between two losses. It opens when all nodes had time to say whom they have.
//! Claims and places name the era under which their node has spoken, and are refused under any other: so no list is
//! made before those are back who were there, and no node takes part that has not said whom it has.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::BusError;
use crate::redis::keys::{PARTITIONS, Partition};

/// The era of each partition; 0 is unknown.
pub(super) type PerPartition = [u64; PARTITIONS as usize];

pub(super) struct Eras {
    known: [AtomicU64; PARTITIONS as usize],
    /// Changes when some became known.
    opened: watch::Sender<()>,
    upheavals: watch::Sender<u64>,
    /// The upheaval after which all was said last.
    answered: AtomicU64,
}

impl Eras {
    pub(super) fn new() -> Self {
        Self {
            known: [const { AtomicU64::new(0) }; PARTITIONS as usize],
            opened: watch::Sender::new(()),
            upheavals: watch::Sender::new(1),
            answered: AtomicU64::new(0),
        }
    }

    /// Changes when all is to be said (again); also right after subscribing.
    pub(super) fn upheavals(&self) -> watch::Receiver<u64> {
        let mut receiver = self.upheavals.subscribe();
        receiver.mark_changed();
        receiver
    }

    pub(super) fn upheaval(&self) {
        self.upheavals.send_modify(|count| *count += 1);
    }

    /// The partition's era if it is known.
    pub(super) fn now(&self, partition: Partition) -> Option<u64> {
        Some(self.known[partition.index()].load(Ordering::Acquire)).filter(|&era| era != 0)
    }

    /// Waits until the partition's era is known.
    pub(super) async fn known(&self, partition: Partition, deadline: Instant) -> Result<u64, BusError> {
        let mut opened = self.opened.subscribe();
        loop {
            if let Some(era) = self.now(partition) {
                return Ok(era);
            }
            let late = |_| BusError::Unavailable("Redis was emptied, sessions are being put back".into());
            // The sender is in `self`.
            let _never_closed = timeout_at(deadline, opened.changed()).await.map_err(late)?;
        }
    }

    /// The partition is not in that era any more.
    pub(super) fn over(&self, partition: Partition, era: u64) {
        let known = &self.known[partition.index()];
        if known.compare_exchange(era, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.upheaval();
        }
    }

    /// An attempt to say all begins; it answers all upheavals up to now.
    pub(super) fn begin(&self) -> u64 {
        *self.upheavals.borrow()
    }

    /// All was said under these eras.
    pub(super) fn learn(&self, eras: &PerPartition, upheaval: u64) {
        for (known, era) in self.known.iter().zip(eras) {
            known.store(*era, Ordering::Release);
        }
        self.answered.store(upheaval, Ordering::Release);
        self.opened.send_replace(());
    }

    /// Whether all is said.
    pub(super) fn are_settled(&self) -> bool {
        self.answered.load(Ordering::Acquire) == *self.upheavals.borrow()
    }
}
