//! The reference implementation: plain maps under one mutex.
//!
//! It says what the traits mean in the fewest words; a backend is right when it answers as this one does. Each
//! change first checks all that could stand in its way and then writes, so that no undo is needed. Lookups by
//! hash go through all rows: nothing here is made for size, and nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use tokio::sync::watch;

use crate::local::LocalLeases;
use crate::page::peer_cursor;
use crate::record::{Draft, Head, Moved};
use crate::{
    ApiKey, ApiKeys, AuditLog, By, EXPIRED_INVITES_CLEARED, Group, GroupStep, Hint, Invite, LeaseRow, Leases,
    LogEntry, NewInvite, NewKey, Origin, Page, Pairing, Pairings, PeerRecord, Redemption, Renewal, Result,
    Rows, SecretHash, Settings, StoreError, UnixMillis,
};

mod group;

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

#[async_trait]
impl Pairings for MemoryStore {
    async fn create_invite(&self, invite: NewInvite, by: By<'_>) -> Result<Invite> {
        self.change(|state| state.create_invite(invite, &by))
    }

    async fn invites(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<Invite>> {
        newest_first(&self.read().invites, |invite| mesh.is_none_or(|mesh| invite.mesh == *mesh), &page)
    }

    async fn revoke_invite(&self, id: &str, by: By<'_>) -> Result<Version> {
        self.change(|state| state.revoke_invite(id, &by))
    }

    async fn redeem(&self, redemption: Redemption, now: UnixMillis) -> Result<Pairing> {
        self.change(|state| state.redeem(&redemption, now))
    }

    async fn pairing(&self, id: &str) -> Result<Pairing> {
        self.read().pairing(id).cloned()
    }

    async fn pairing_of_claim(&self, id: &str, claim: &SecretHash) -> Result<Pairing> {
        let state = self.read();
        let kept = state.pairings.get(id).filter(|kept| kept.secret == *claim);
        kept.map(|kept| kept.row.clone()).ok_or(StoreError::NotFound)
    }

    async fn pairings(
        &self,
        mesh: Option<&MeshName>,
        state: Option<PairingState>,
        page: Page,
    ) -> Result<Rows<Pairing>> {
        let wanted = |row: &Pairing| {
            mesh.is_none_or(|mesh| row.mesh == *mesh) && state.is_none_or(|state| row.state == state)
        };
        newest_first(&self.read().pairings, wanted, &page)
    }

    async fn transition(&self, id: &str, transition: Transition, by: By<'_>) -> Result<Pairing> {
        self.change(|state| {
            let pairing = state.pairing(id)?;
            let (mesh, peer) = (pairing.mesh.clone(), pairing.peer.clone());
            state.move_peer(&mesh, &peer, transition, &by)?;
            state.pairing(id).cloned()
        })
    }

    async fn issue_device_token(&self, id: &str, token: SecretHash, now: UnixMillis) -> Result<bool> {
        self.change(|state| state.issue_device_token(id, token, now))
    }

    async fn peer_of_device_token(&self, token: &SecretHash) -> Result<PeerRecord> {
        let state = self.read();
        let kept = state.pairings.values().find(|kept| kept.device_token == Some(*token));
        let pairing = &kept.ok_or(StoreError::NotFound)?.row;
        state.peer(&pairing.mesh, &pairing.peer).cloned()
    }

    async fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<PeerRecord> {
        self.read().peer(mesh, peer).cloned()
    }

    async fn peers(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<PeerRecord>> {
        let (after_mesh, after_peer) = page.after_peer()?;
        let state = self.read();
        let rows = state
            .peers
            .values()
            .filter(|row| mesh.is_none_or(|mesh| row.mesh == *mesh))
            .filter(|row| (row.mesh.as_str(), row.peer.as_str()) > (&*after_mesh, &*after_peer))
            .take(page.rows() as usize + 1)
            .cloned()
            .collect();
        Ok(Rows::cut(rows, page.rows(), |row| peer_cursor(row.mesh.as_str(), row.peer.as_str())))
    }

    async fn revoke_peer(&self, mesh: &MeshName, peer: &PeerId, by: By<'_>) -> Result<Version> {
        self.change(|state| Ok(state.move_peer(mesh, peer, Transition::Revoke, &by)?.0))
    }

    async fn revoke_group(&self, group: Group<'_>, by: By<'_>) -> Result<GroupStep> {
        self.change(|state| state.revoke_group(&group, &by))
    }
}

#[async_trait]
impl ApiKeys for MemoryStore {
    async fn create_key(&self, key: NewKey, by: By<'_>) -> Result<ApiKey> {
        self.change(|state| state.create_key(key, &by))
    }

    async fn key_of_secret(&self, secret: &SecretHash) -> Result<ApiKey> {
        let state = self.read();
        let kept = state.keys.values().find(|kept| kept.secret == *secret && kept.row.revoked_at.is_none());
        kept.map(|kept| kept.row.clone()).ok_or(StoreError::NotFound)
    }

    async fn keys(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<ApiKey>> {
        newest_first(&self.read().keys, |key| mesh.is_none_or(|mesh| key.mesh == *mesh), &page)
    }

    async fn key(&self, id: &str) -> Result<ApiKey> {
        self.read().keys.get(id).map(|kept| kept.row.clone()).ok_or(StoreError::NotFound)
    }

    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version> {
        self.change(|state| state.revoke_key(id, &by))
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

impl State {
    fn create_invite(&mut self, new: NewInvite, by: &By<'_>) -> Result<Invite> {
        let is_open = |kept: &Kept<Invite>| kept.row.is_open(by.now);
        let open = self.invites.values().filter(|kept| kept.row.mesh == new.mesh && is_open(kept)).count();
        if open >= new.max_open as usize {
            return Err(StoreError::Full);
        }
        let unused = |kept: &Kept<Invite>| !kept.row.revoked && kept.row.uses_left > 0;
        let expired_code =
            |kept: &Kept<Invite>| kept.secret == new.code && unused(kept) && kept.row.expires_at <= by.now;
        let taken = |kept: &Kept<Invite>| {
            (kept.secret == new.code && is_open(kept)) || (kept.row.id == new.id && !expired_code(kept))
        };
        if self.invites.values().any(taken) {
            return Err(StoreError::Exists);
        }
        self.invites.retain(|_, kept| !expired_code(kept));
        let since = self.record(Draft::invite_created(&new, by));
        let secret = new.code;
        let row = new.into_invite(by);
        self.invites.insert(row.id.clone(), Kept::new(&row, since, secret));
        self.clear_expired_invites(by.now);
        Ok(row)
    }

    fn clear_expired_invites(&mut self, now: UnixMillis) {
        let rows = self.invites.values().map(|kept| &kept.row);
        let mut expired: Vec<_> =
            rows.filter(|row| row.expires_at <= now).map(|row| (row.expires_at, row.id.clone())).collect();
        expired.sort();
        for (_, id) in expired.into_iter().take(EXPIRED_INVITES_CLEARED as usize) {
            self.invites.remove(&id);
        }
    }

    fn revoke_invite(&mut self, id: &str, by: &By<'_>) -> Result<Version> {
        let kept = self.invites.get_mut(id).filter(|kept| !kept.row.revoked).ok_or(StoreError::NotFound)?;
        kept.row.revoked = true;
        let mesh = kept.row.mesh.clone();
        Ok(self.record(Draft::invite_revoked(id, &mesh, by)))
    }

    fn redeem(&mut self, new: &Redemption, now: UnixMillis) -> Result<Pairing> {
        let found = self.invites.values().find(|kept| kept.secret == new.code && kept.row.is_open(now));
        let invite = found.ok_or(StoreError::NotFound)?.row.clone();
        let waits = |kept: &&Kept<Pairing>| {
            kept.row.mesh == invite.mesh && kept.row.state == PairingState::PendingApproval
        };
        if self.pairings.values().filter(waits).count() >= new.max_pending as usize {
            return Err(StoreError::Full);
        }
        let whom = (invite.mesh.clone(), new.peer.clone());
        if self.pairings.contains_key(&new.id) || self.peers.contains_key(&whom) {
            return Err(StoreError::Exists);
        }
        if let Some(kept) = self.invites.get_mut(&invite.id) {
            kept.row.uses_left -= 1;
        }
        let version = self.record(Draft::paired(new, &invite.mesh, &invite.id, now));
        let row = new.pairing(&invite.mesh, &invite.id, now, version);
        self.pairings.insert(row.id.clone(), Kept::new(&row, version, new.claim));
        self.peers.insert(whom, new.peer_record(&invite.mesh, now, version));
        Ok(row)
    }

    /// Moves a peer and its pairing, if it has one; a revoke takes its keys along, and their number is answered.
    fn move_peer(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        transition: Transition,
        by: &By<'_>,
    ) -> Result<(Version, u64)> {
        let row = self.peer(mesh, peer)?;
        let state = transition.apply(row.state).map_err(|refused| StoreError::Conflict(refused.current))?;
        let pairing = row.pairing.clone();
        let keys_revoked =
            if transition == Transition::Revoke { self.revoke_keys(mesh, peer, by.now) } else { 0 };
        let moved = Moved { mesh, peer, pairing: pairing.as_deref(), keys_revoked };
        let version = self.record(Draft::moved(transition, &moved, by));
        self.set_peer_state(mesh, peer, state, by.now, version);
        if let Some(kept) = pairing.and_then(|id| self.pairings.get_mut(&id)) {
            (kept.row.state, kept.row.updated_at, kept.row.version) = (state, by.now, version);
        }
        Ok((version, keys_revoked))
    }

    fn revoke_keys(&mut self, mesh: &MeshName, peer: &PeerId, now: UnixMillis) -> u64 {
        let mut count = 0;
        for key in self.keys.values_mut().map(|kept| &mut kept.row) {
            if key.mesh == *mesh && key.peer == *peer && key.revoked_at.is_none() {
                key.revoked_at = Some(now);
                count += 1;
            }
        }
        count
    }

    fn set_peer_state(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        state: PairingState,
        now: UnixMillis,
        version: Version,
    ) {
        if let Some(row) = self.peers.get_mut(&(mesh.clone(), peer.clone())) {
            (row.state, row.updated_at, row.version) = (state, now, version);
        }
    }

    fn issue_device_token(&mut self, id: &str, token: SecretHash, now: UnixMillis) -> Result<bool> {
        let pairing = self.pairing(id)?.clone();
        if pairing.state != PairingState::Approved {
            return Err(StoreError::Conflict(pairing.state));
        }
        if pairing.token_issued {
            return Ok(false);
        }
        if self.pairings.values().any(|kept| kept.device_token == Some(token)) {
            return Err(StoreError::Exists);
        }
        let version = self.record(Draft::token_issued(&pairing, now));
        if let Some(kept) = self.pairings.get_mut(id) {
            kept.device_token = Some(token);
            (kept.row.token_issued, kept.row.updated_at, kept.row.version) = (true, now, version);
        }
        Ok(true)
    }

    fn create_key(&mut self, new: NewKey, by: &By<'_>) -> Result<ApiKey> {
        if let Some(kept) = self.keys.values().find(|kept| kept.secret == new.secret) {
            return if new.means(&kept.row) { Ok(kept.row.clone()) } else { Err(StoreError::Exists) };
        }
        let peer = self.peers.get(&(new.mesh.clone(), new.peer.clone()));
        if let Some(peer) = peer.filter(|peer| peer.state != PairingState::Approved) {
            return Err(StoreError::Conflict(peer.state));
        }
        if self.keys.contains_key(&new.id) {
            return Err(StoreError::Exists);
        }
        let with_peer = peer.is_none();
        let version = self.record(Draft::key_created(&new, with_peer, by));
        if with_peer {
            let peer = new.peer_record(by.now, version);
            self.peers.insert((new.mesh.clone(), new.peer.clone()), peer);
        }
        let secret = new.secret;
        let row = new.into_key(by.now);
        self.keys.insert(row.id.clone(), Kept::new(&row, version, secret));
        Ok(row)
    }

    fn revoke_key(&mut self, id: &str, by: &By<'_>) -> Result<Version> {
        let kept = self.keys.get(id).filter(|kept| kept.row.revoked_at.is_none());
        let key = kept.ok_or(StoreError::NotFound)?.row.clone();
        let stands_for_it = |other: &&Kept<ApiKey>| {
            (&other.row.mesh, &other.row.peer) == (&key.mesh, &key.peer) && other.row.revoked_at.is_none()
        };
        let last = self.keys.values().filter(stands_for_it).count() == 1;
        let with_peer = last && self.peer(&key.mesh, &key.peer)?.origin == Origin::Key;
        let version = self.record(Draft::key_revoked(&key, with_peer, by));
        if with_peer {
            self.set_peer_state(&key.mesh, &key.peer, PairingState::Revoked, by.now, version);
        }
        if let Some(kept) = self.keys.get_mut(id) {
            kept.row.revoked_at = Some(by.now);
        }
        Ok(version)
    }

    fn pairing(&self, id: &str) -> Result<&Pairing> {
        self.pairings.get(id).map(|kept| &kept.row).ok_or(StoreError::NotFound)
    }

    fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<&PeerRecord> {
        self.peers.get(&(mesh.clone(), peer.clone())).ok_or(StoreError::NotFound)
    }

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
