//! Pairings and peers.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::record::{Draft, Moved};
use heliograph_store::{
    By, Group, GroupStep, Invite, NewInvite, Page, Pairing, Pairings, PeerRecord, Redemption, Result, Rows,
    SecretHash, StoreError, UnixMillis,
};
use sqlx::{PgConnection, QueryBuilder};

use crate::PostgresStore;
use crate::calls::call;
use crate::change::{Change, Outcome, change};
use crate::error::{Refusal, inconsistent};
use crate::list::{Listed, newest_first};
use crate::row::{InviteRow, PairingRow, PeerRow, number};

#[async_trait]
impl Pairings for PostgresStore {
    async fn create_invite(&self, invite: NewInvite, by: By<'_>) -> Result<Invite> {
        change!(self, |change| change.create_invite(&invite, &by))
    }

    async fn invites(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<Invite>> {
        let below = page.below()?;
        self.list::<InviteRow>(&page, "since DESC", || newest_first::<InviteRow>("since", below, mesh)).await
    }

    async fn revoke_invite(&self, id: &str, by: By<'_>) -> Result<Version> {
        change!(self, |change| change.revoke_invite(id, &by))
    }

    async fn redeem(&self, redemption: Redemption, now: UnixMillis) -> Result<Pairing> {
        change!(self, |change| change.redeem(&redemption, now))
    }

    async fn pairing(&self, id: &str) -> Result<Pairing> {
        call!(self.calls, |connection| find_pairing(connection, id).await)
    }

    async fn pairing_of_claim(&self, id: &str, claim: &SecretHash) -> Result<Pairing> {
        let row = call!(self.calls, |connection| {
            let row = sqlx::query_as!(
                PairingRow,
                r#"SELECT id, mesh, peer, name, state, invite, public_key, address,
                    device_token IS NOT NULL AS "token_issued!", created_at, updated_at, version, since
                FROM pairings WHERE id = $1 AND claim = $2"#,
                id,
                claim.as_slice(),
            );
            Ok(row.fetch_optional(connection).await?)
        });
        row?.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn pairings(
        &self,
        mesh: Option<&MeshName>,
        state: Option<PairingState>,
        page: Page,
    ) -> Result<Rows<Pairing>> {
        let below = page.below()?;
        let statement = || {
            let mut query = newest_first::<PairingRow>("since", below, mesh);
            if let Some(state) = state {
                query.push(" AND state = ").push_bind(state.as_str());
            }
            query
        };
        self.list::<PairingRow>(&page, "since DESC", statement).await
    }

    async fn transition(&self, id: &str, transition: Transition, by: By<'_>) -> Result<Pairing> {
        change!(self, |change| change.transition(id, transition, &by))
    }

    async fn issue_device_token(&self, id: &str, token: SecretHash, now: UnixMillis) -> Result<bool> {
        change!(self, |change| change.issue_device_token(id, &token, now))
    }

    async fn peer_of_device_token(&self, token: &SecretHash) -> Result<PeerRecord> {
        let row = call!(self.calls, |connection| {
            let row = sqlx::query_as!(
                PeerRow,
                "SELECT mesh, peer, name, state, origin, role, pairing, public_key, created_at, updated_at, version
                FROM peers WHERE (mesh, peer) = (SELECT p.mesh, p.peer FROM pairings AS p WHERE p.device_token = $1)",
                token.as_slice(),
            );
            Ok(row.fetch_optional(connection).await?)
        });
        row?.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<PeerRecord> {
        let found = call!(self.calls, |connection| find_peer(connection, mesh, peer).await)?;
        found.ok_or(StoreError::NotFound)
    }

    async fn peers(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<PeerRecord>> {
        let (after_mesh, after_peer) = page.after_peer()?;
        let statement = || {
            let mut query = QueryBuilder::new(PeerRow::SELECT);
            query.push(" WHERE (mesh, peer) > (").push_bind(after_mesh.clone());
            query.push(", ").push_bind(after_peer.clone()).push(")");
            if let Some(mesh) = mesh {
                query.push(" AND mesh = ").push_bind(mesh.to_string());
            }
            query
        };
        self.list::<PeerRow>(&page, "mesh, peer", statement).await
    }

    async fn revoke_peer(&self, mesh: &MeshName, peer: &PeerId, by: By<'_>) -> Result<Version> {
        change!(self, |change| change.revoke_peer(mesh, peer, &by))
    }

    async fn revoke_group(&self, group: Group<'_>, by: By<'_>) -> Result<GroupStep> {
        change!(self, |change| change.revoke_group(&group, &by))
    }
}

pub(crate) async fn find_peer(
    connection: &mut PgConnection,
    mesh: &MeshName,
    peer: &PeerId,
) -> std::result::Result<Option<PeerRecord>, Refusal> {
    let row = sqlx::query_as!(
        PeerRow,
        "SELECT mesh, peer, name, state, origin, role, pairing, public_key, created_at, updated_at, version
        FROM peers WHERE mesh = $1 AND peer = $2",
        mesh.as_str(),
        peer.as_str(),
    );
    Ok(row.fetch_optional(connection).await?.map(PeerRecord::try_from).transpose()?)
}

async fn find_pairing(connection: &mut PgConnection, id: &str) -> std::result::Result<Pairing, Refusal> {
    let row = sqlx::query_as!(
        PairingRow,
        r#"SELECT id, mesh, peer, name, state, invite, public_key, address,
            device_token IS NOT NULL AS "token_issued!", created_at, updated_at, version, since
        FROM pairings WHERE id = $1"#,
        id,
    );
    Ok(row.fetch_optional(connection).await?.ok_or(StoreError::NotFound)?.try_into()?)
}

impl Change<'_> {
    async fn redeem(&mut self, new: &Redemption, now: UnixMillis) -> Outcome<Pairing> {
        let (invite, mesh) = self.use_invite(&new.code, now).await?;
        if self.waiting_reach(new.max_pending, &mesh).await? {
            return Err(StoreError::Full.into());
        }
        let version = self.version();
        let pairing = new.pairing(&mesh, &invite, now, version);
        self.insert_peer(&new.peer_record(&mesh, now, version)).await?;
        self.insert_pairing(&pairing, &new.claim).await?;
        Ok((pairing, Some(Draft::paired(new, &mesh, &invite, now))))
    }

    async fn transition(&mut self, id: &str, transition: Transition, by: &By<'_>) -> Outcome<Pairing> {
        let Pairing { mesh, peer, .. } = find_pairing(self.connection, id).await?;
        let draft = self.move_peer(&mesh, &peer, transition, by).await?;
        Ok((find_pairing(self.connection, id).await?, Some(draft)))
    }

    async fn revoke_peer(&mut self, mesh: &MeshName, peer: &PeerId, by: &By<'_>) -> Outcome<Version> {
        let draft = self.move_peer(mesh, peer, Transition::Revoke, by).await?;
        Ok((self.version(), Some(draft)))
    }

    /// Moves a peer and its pairing, if it has one; a revoke takes its keys along.
    async fn move_peer(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        transition: Transition,
        by: &By<'_>,
    ) -> std::result::Result<Draft, Refusal> {
        let moved = sqlx::query_scalar!(
            "UPDATE peers SET state = $1, updated_at = $2, version = $3
            WHERE mesh = $4 AND peer = $5 AND state = $6 RETURNING pairing",
            transition.leads_to().as_str(),
            by.now,
            number(self.version()),
            mesh.as_str(),
            peer.as_str(),
            transition.expects().as_str(),
        );
        let Some(pairing) = moved.fetch_optional(&mut *self.connection).await? else {
            let found = find_peer(self.connection, mesh, peer).await?.ok_or(StoreError::NotFound)?;
            return Err(StoreError::Conflict(found.state).into());
        };
        if let Some(id) = &pairing {
            self.move_pairing(id, transition, by.now).await?;
        }
        let revoked = transition == Transition::Revoke;
        let keys_revoked = if revoked { self.revoke_keys(mesh, peer, by.now).await? } else { 0 };
        Ok(Draft::moved(transition, &Moved { mesh, peer, pairing: pairing.as_deref(), keys_revoked }, by))
    }

    async fn move_pairing(
        &mut self,
        id: &str,
        transition: Transition,
        now: UnixMillis,
    ) -> std::result::Result<(), Refusal> {
        let moved = sqlx::query!(
            "UPDATE pairings SET state = $1, updated_at = $2, version = $3 WHERE id = $4 AND state = $5",
            transition.leads_to().as_str(),
            now,
            number(self.version()),
            id,
            transition.expects().as_str(),
        );
        if moved.execute(&mut *self.connection).await?.rows_affected() == 1 {
            return Ok(());
        }
        Err(inconsistent(format!("pairing {id} and its peer are in different states")).into())
    }

    async fn issue_device_token(&mut self, id: &str, token: &SecretHash, now: UnixMillis) -> Outcome<bool> {
        let issue = sqlx::query!(
            "UPDATE pairings SET device_token = $1, updated_at = $2, version = $3
            WHERE id = $4 AND state = $5 AND device_token IS NULL",
            token.as_slice(),
            now,
            number(self.version()),
            id,
            PairingState::Approved.as_str(),
        );
        let issued = issue.execute(&mut *self.connection).await?;
        let pairing = find_pairing(self.connection, id).await?;
        match issued.rows_affected() {
            0 if pairing.state != PairingState::Approved => Err(StoreError::Conflict(pairing.state).into()),
            0 => Ok((false, None)),
            _ => Ok((true, Some(Draft::token_issued(&pairing, now)))),
        }
    }

    async fn waiting_reach(&mut self, bound: u32, mesh: &MeshName) -> std::result::Result<bool, Refusal> {
        let waiting = sqlx::query_scalar!(
            r#"SELECT count(*) AS "waiting!" FROM (
                SELECT FROM pairings WHERE mesh = $1 AND state = $2 LIMIT $3
            ) AS counted"#,
            mesh.as_str(),
            PairingState::PendingApproval.as_str(),
            i64::from(bound),
        );
        Ok(waiting.fetch_one(&mut *self.connection).await? >= i64::from(bound))
    }

    async fn insert_pairing(
        &mut self,
        pairing: &Pairing,
        claim: &SecretHash,
    ) -> std::result::Result<(), Refusal> {
        let insert = sqlx::query!(
            "INSERT INTO pairings (id, mesh, peer, name, state, invite, claim, public_key, address, created_at,
                updated_at, version, since)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)",
            pairing.id,
            pairing.mesh.as_str(),
            pairing.peer.as_str(),
            pairing.name,
            pairing.state.as_str(),
            pairing.invite,
            claim.as_slice(),
            pairing.public_key.as_deref(),
            pairing.address.as_deref(),
            pairing.created_at,
            pairing.updated_at,
            number(pairing.version),
        );
        insert.execute(&mut *self.connection).await?;
        Ok(())
    }

    pub(crate) async fn insert_peer(&mut self, peer: &PeerRecord) -> std::result::Result<(), Refusal> {
        let insert = sqlx::query!(
            "INSERT INTO peers (mesh, peer, name, state, origin, role, pairing, public_key, created_at, updated_at,
                version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            peer.mesh.as_str(),
            peer.peer.as_str(),
            peer.name,
            peer.state.as_str(),
            peer.origin.as_str(),
            peer.role,
            peer.pairing.as_deref(),
            peer.public_key.as_deref(),
            peer.created_at,
            peer.updated_at,
            number(peer.version),
        );
        insert.execute(&mut *self.connection).await?;
        Ok(())
    }
}
