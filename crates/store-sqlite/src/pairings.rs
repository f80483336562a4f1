//! Pairings and peers.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::record::{Draft, Moved};
use heliograph_store::{
    By, Group, GroupStep, Invite, NewInvite, Page, Pairing, Pairings, PeerRecord, Redemption, Result, Rows,
    SecretHash, StoreError, UnixMillis,
};
use sqlx::SqliteExecutor;

use crate::SqliteStore;
use crate::change::{Change, Outcome};
use crate::error::{inconsistent, refused};
use crate::list::{fetch, newest_first};
use crate::row::{InviteRow, PairingRow, PeerRow, number, select_invites, select_pairings, select_peers};

#[async_trait]
impl Pairings for SqliteStore {
    async fn create_invite(&self, invite: NewInvite, by: By<'_>) -> Result<Invite> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.create_invite(invite, &by).await;
        change.finish(outcome, &self.leases).await
    }

    async fn invites(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<Invite>> {
        let query = newest_first(select_invites!(""), "since", mesh, &page)?;
        fetch::<InviteRow>(&self.readers, query, "since DESC", &page).await
    }

    async fn revoke_invite(&self, id: &str, by: By<'_>) -> Result<Version> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.revoke_invite(id, &by).await;
        change.finish(outcome, &self.leases).await
    }

    async fn redeem(&self, redemption: Redemption, now: UnixMillis) -> Result<Pairing> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.redeem(&redemption, now).await;
        change.finish(outcome, &self.leases).await
    }

    async fn pairing(&self, id: &str) -> Result<Pairing> {
        find_pairing(&self.readers, id).await
    }

    async fn pairing_of_claim(&self, id: &str, claim: &SecretHash) -> Result<Pairing> {
        let row = sqlx::query_as::<_, PairingRow>(select_pairings!("WHERE id = ? AND claim = ?"))
            .bind(id)
            .bind(claim.as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(refused)?;
        row.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn pairings(
        &self,
        mesh: Option<&MeshName>,
        state: Option<PairingState>,
        page: Page,
    ) -> Result<Rows<Pairing>> {
        let mut query = newest_first(select_pairings!(""), "since", mesh, &page)?;
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        fetch::<PairingRow>(&self.readers, query, "since DESC", &page).await
    }

    async fn transition(&self, id: &str, transition: Transition, by: By<'_>) -> Result<Pairing> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.transition(id, transition, &by).await;
        change.finish(outcome, &self.leases).await
    }

    async fn issue_device_token(&self, id: &str, token: SecretHash, now: UnixMillis) -> Result<bool> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.issue_device_token(id, &token, now).await;
        change.finish(outcome, &self.leases).await
    }

    async fn peer_of_device_token(&self, token: &SecretHash) -> Result<PeerRecord> {
        let row = sqlx::query_as::<_, PeerRow>(select_peers!(
            "WHERE (mesh, peer) = (SELECT mesh, peer FROM pairings WHERE device_token = ?)"
        ))
        .bind(token.as_slice())
        .fetch_optional(&self.readers)
        .await
        .map_err(refused)?;
        row.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<PeerRecord> {
        find_peer(&self.readers, mesh, peer).await?.ok_or(StoreError::NotFound)
    }

    async fn peers(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<PeerRecord>> {
        let (after_mesh, after_peer) = page.after_peer()?;
        let mut query = sqlx::QueryBuilder::new(select_peers!("WHERE (mesh, peer) > ("));
        query.push_bind(after_mesh).push(", ").push_bind(after_peer).push(")");
        if let Some(mesh) = mesh {
            query.push(" AND mesh = ").push_bind(mesh.to_string());
        }
        fetch::<PeerRow>(&self.readers, query, "mesh, peer", &page).await
    }

    async fn revoke_peer(&self, mesh: &MeshName, peer: &PeerId, by: By<'_>) -> Result<Version> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.revoke_peer(mesh, peer, &by).await;
        change.finish(outcome, &self.leases).await
    }

    async fn revoke_group(&self, group: Group<'_>, by: By<'_>) -> Result<GroupStep> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.revoke_group(&group, &by).await;
        change.finish(outcome, &self.leases).await
    }
}

pub(crate) async fn find_peer(
    executor: impl SqliteExecutor<'_>,
    mesh: &MeshName,
    peer: &PeerId,
) -> Result<Option<PeerRecord>> {
    let row = sqlx::query_as::<_, PeerRow>(select_peers!("WHERE mesh = ? AND peer = ?"))
        .bind(mesh.as_str())
        .bind(peer.as_str())
        .fetch_optional(executor)
        .await
        .map_err(refused)?;
    row.map(PeerRecord::try_from).transpose()
}

async fn find_pairing(executor: impl SqliteExecutor<'_>, id: &str) -> Result<Pairing> {
    let row = sqlx::query_as::<_, PairingRow>(select_pairings!("WHERE id = ?")).bind(id);
    row.fetch_optional(executor).await.map_err(refused)?.ok_or(StoreError::NotFound)?.try_into()
}

impl Change<'_> {
    async fn redeem(&mut self, new: &Redemption, now: UnixMillis) -> Outcome<Pairing> {
        let (invite, mesh) = self.use_invite(&new.code, now).await?;
        if self.waiting_reach(new.max_pending, &mesh).await? {
            return Err(StoreError::Full);
        }
        let version = self.version();
        let pairing = new.pairing(&mesh, &invite, now, version);
        self.insert_peer(&new.peer_record(&mesh, now, version)).await?;
        self.insert_pairing(&pairing, &new.claim).await?;
        Ok((pairing, Some(Draft::paired(new, &mesh, &invite, now))))
    }

    async fn transition(&mut self, id: &str, transition: Transition, by: &By<'_>) -> Outcome<Pairing> {
        let Pairing { mesh, peer, .. } = find_pairing(&mut *self.connection, id).await?;
        let draft = self.move_peer(&mesh, &peer, transition, by).await?;
        Ok((find_pairing(&mut *self.connection, id).await?, Some(draft)))
    }

    async fn revoke_peer(&mut self, mesh: &MeshName, peer: &PeerId, by: &By<'_>) -> Outcome<Version> {
        let draft = self.move_peer(mesh, peer, Transition::Revoke, by).await?;
        Ok((self.version(), Some(draft)))
    }

    /// Moves a peer and its pairing, if it has one; a revoke takes its keys along.
    pub(crate) async fn move_peer(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        transition: Transition,
        by: &By<'_>,
    ) -> Result<Draft> {
        let moved: Option<Option<String>> = sqlx::query_scalar(
            "UPDATE peers SET state = ?, updated_at = ?, version = ? WHERE mesh = ? AND peer = ? AND state = ? \
             RETURNING pairing",
        )
        .bind(transition.leads_to().as_str())
        .bind(by.now)
        .bind(number(self.version()))
        .bind(mesh.as_str())
        .bind(peer.as_str())
        .bind(transition.expects().as_str())
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(refused)?;
        let Some(pairing) = moved else {
            let found = find_peer(&mut *self.connection, mesh, peer).await?.ok_or(StoreError::NotFound)?;
            return Err(StoreError::Conflict(found.state));
        };
        if let Some(id) = &pairing {
            self.move_pairing(id, transition, by.now).await?;
        }
        let revoked = transition == Transition::Revoke;
        let keys_revoked = if revoked { self.revoke_keys(mesh, peer, by.now).await? } else { 0 };
        Ok(Draft::moved(transition, &Moved { mesh, peer, pairing: pairing.as_deref(), keys_revoked }, by))
    }

    async fn move_pairing(&mut self, id: &str, transition: Transition, now: UnixMillis) -> Result<()> {
        let moved = sqlx::query(
            "UPDATE pairings SET state = ?, updated_at = ?, version = ? WHERE id = ? AND state = ?",
        )
        .bind(transition.leads_to().as_str())
        .bind(now)
        .bind(number(self.version()))
        .bind(id)
        .bind(transition.expects().as_str())
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        if moved.rows_affected() == 1 {
            return Ok(());
        }
        Err(inconsistent(format!("pairing {id} and its peer are in different states")))
    }

    async fn issue_device_token(&mut self, id: &str, token: &SecretHash, now: UnixMillis) -> Outcome<bool> {
        let issued = sqlx::query(
            "UPDATE pairings SET device_token = ?, updated_at = ?, version = ? \
             WHERE id = ? AND state = ? AND device_token IS NULL",
        )
        .bind(token.as_slice())
        .bind(now)
        .bind(number(self.version()))
        .bind(id)
        .bind(PairingState::Approved.as_str())
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        let pairing = find_pairing(&mut *self.connection, id).await?;
        match issued.rows_affected() {
            0 if pairing.state != PairingState::Approved => Err(StoreError::Conflict(pairing.state)),
            0 => Ok((false, None)),
            _ => Ok((true, Some(Draft::token_issued(&pairing, now)))),
        }
    }

    async fn waiting_reach(&mut self, bound: u32, mesh: &MeshName) -> Result<bool> {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM pairings WHERE mesh = ? AND state = ? LIMIT ?)",
        )
        .bind(mesh.as_str())
        .bind(PairingState::PendingApproval.as_str())
        .bind(bound)
        .fetch_one(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(waiting >= i64::from(bound))
    }

    async fn insert_pairing(&mut self, pairing: &Pairing, claim: &SecretHash) -> Result<()> {
        sqlx::query(
            "INSERT INTO pairings (id, mesh, peer, name, state, invite, claim, public_key, address, created_at, \
             updated_at, version, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&pairing.id)
        .bind(pairing.mesh.as_str())
        .bind(pairing.peer.as_str())
        .bind(&pairing.name)
        .bind(pairing.state.as_str())
        .bind(&pairing.invite)
        .bind(claim.as_slice())
        .bind(&pairing.public_key)
        .bind(&pairing.address)
        .bind(pairing.created_at)
        .bind(pairing.updated_at)
        .bind(number(pairing.version))
        .bind(number(pairing.version))
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }

    pub(crate) async fn insert_peer(&mut self, peer: &PeerRecord) -> Result<()> {
        sqlx::query(
            "INSERT INTO peers (mesh, peer, name, state, origin, role, pairing, public_key, created_at, \
             updated_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(peer.mesh.as_str())
        .bind(peer.peer.as_str())
        .bind(&peer.name)
        .bind(peer.state.as_str())
        .bind(peer.origin.as_str())
        .bind(&peer.role)
        .bind(&peer.pairing)
        .bind(&peer.public_key)
        .bind(peer.created_at)
        .bind(peer.updated_at)
        .bind(number(peer.version))
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }
}
