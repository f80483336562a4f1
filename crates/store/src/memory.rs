//! The reference implementation: plain maps under one mutex.
//!
//! It says what the traits mean in the fewest words; a backend is right when it answers as this one does. Each
//! change first checks all that could stand in its way and then writes, so that no undo is needed. Lookups by
//! hash go through all rows: nothing here is made for size, and nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use tokio::sync::watch;

use crate::local::LocalLeases;
use crate::record::{Draft, Head};
use crate::{
    ApiKey, AuditLog, Hint, Invite, LeaseRow, Leases, LogEntry, Page, Pairing, PeerRecord, Renewal, Result,
    Rows, SecretHash, Settings,
};

mod group;
mod keys;
mod pairings;

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    leases: LocalLeases,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one change and wakes those who wait, if it took a version.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.read();
        let before = state.version();
        let result = change(&mut state);
        let after = state.version();
        drop(state);
        if after > before {
            self.leases.waiters().wake(Hint::Change);
        }
        result
    }
}

#[derive(Debug, Default)]
struct State {
    invites: BTreeMap<String, Kept<Invite>>,
    pairings: BTreeMap<String, Kept<Pairing>>,
    peers: BTreeMap<(MeshName, PeerId), PeerRecord>,
    keys: BTreeMap<String, Kept<ApiKey>>,
    settings: BTreeMap<String, Vec<u8>>,
    /// Row `n` has version `n + 1`.
    log: Vec<LogEntry>,
}

/// A row with what is kept of it and never answered.
#[derive(Debug)]
struct Kept<T> {
    row: T,
    /// The version under which it came to be: the order of lists.
    since: Version,
    /// Hash of the code, the key, or the pairing's claim token.
    secret: SecretHash,
    /// Hash of the pairing's device token.
    device_token: Option<SecretHash>,
}

impl<T: Clone> Kept<T> {
    fn new(row: &T, since: Version, secret: SecretHash) -> Self {
        Self { row: row.clone(), since, secret, device_token: None }
    }
}

impl State {
    fn version(&self) -> Version {
        Version(self.log.len() as u64)
    }

    fn record(&mut self, draft: Draft) -> Version {
        let head = self.log.last().map(Head::from).unwrap_or_default();
        let entry = draft.seal(&head);
        let version = entry.version;
        self.log.push(entry);
        version
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn log(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<LogEntry>> {
        let below = page.below()?;
        let state = self.read();
        let rows = state
            .log
            .iter()
            .rev()
            .filter(|entry| entry.version < below && mesh.is_none_or(|mesh| entry.mesh == mesh.as_str()))
            .take(page.rows() as usize + 1)
            .cloned()
            .collect();
        Ok(Rows::cut(rows, page.rows(), |entry: &LogEntry| entry.version.to_string()))
    }

    async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>> {
        let state = self.read();
        let rows = state.log.iter().filter(|entry| entry.version > after).take(limit as usize);
        Ok(rows.cloned().collect())
    }

    async fn version(&self) -> Result<Version> {
        Ok(self.read().version())
    }
}

#[async_trait]
impl Leases for MemoryStore {
    async fn renew(&self, gateway: &GatewayId, applied: Version, acknowledged: Version) -> Result<Renewal> {
        // The state stays locked until the lease is granted: no change can come between the two.
        let state = self.read();
        self.leases.renew(gateway, acknowledged);
        let changes = state.log.iter().filter(|entry| entry.version > applied);
        let changes = changes.map(LogEntry::standing_change).filter_map(Result::transpose);
        Ok(Renewal { version: state.version(), changes: changes.collect::<Result<_>>()? })
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>> {
        Ok(self.leases.rows())
    }

    async fn remove_lease(&self, gateway: &GatewayId, beat: Option<u64>) -> Result<bool> {
        Ok(self.leases.remove(gateway, beat))
    }

    fn hints(&self, of: Hint) -> watch::Receiver<u64> {
        self.leases.waiters().subscribe(of)
    }

    fn hint(&self) {
        self.leases.waiters().wake_all();
    }
}

#[async_trait]
impl Settings for MemoryStore {
    async fn setting(&self, name: &str, initial: &[u8]) -> Result<Vec<u8>> {
        let mut state = self.read();
        Ok(state.settings.entry(name.to_owned()).or_insert_with(|| initial.to_vec()).clone())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

/// A page of those rows that are wanted, by the version under which they came to be.
fn newest_first<T: Clone>(
    map: &BTreeMap<String, Kept<T>>,
    wanted: impl Fn(&T) -> bool,
    page: &Page,
) -> Result<Rows<T>> {
    let below = page.below()?;
    let mut kept: Vec<_> = map.values().filter(|kept| kept.since < below && wanted(&kept.row)).collect();
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.since));
    Rows::cut(kept, page.rows(), |kept| kept.since.to_string()).try_map(|kept| Ok(kept.row.clone()))
}
