//! Invites, pairings and peers.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};

use super::{Kept, MemoryStore, State, newest_first};
use crate::page::peer_cursor;
use crate::record::{Draft, Moved};
use crate::{
    By, EXPIRED_INVITES_CLEARED, Group, GroupStep, Invite, NewInvite, Page, Pairing, Pairings, PeerRecord,
    Redemption, Result, Rows, SecretHash, StoreError, UnixMillis,
};

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

    pub(super) fn revoke_invite(&mut self, id: &str, by: &By<'_>) -> Result<Version> {
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
    pub(super) fn move_peer(
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

    pub(super) fn set_peer_state(
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

    fn pairing(&self, id: &str) -> Result<&Pairing> {
        self.pairings.get(id).map(|kept| &kept.row).ok_or(StoreError::NotFound)
    }

    pub(super) fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<&PeerRecord> {
        self.peers.get(&(mesh.clone(), peer.clone())).ok_or(StoreError::NotFound)
    }
}
