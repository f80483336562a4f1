//! API keys.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::PairingState;
use heliograph_store::record::Draft;
use heliograph_store::{
    ApiKey, ApiKeys, By, NewKey, Origin, Page, Result, Rows, SecretHash, StoreError, UnixMillis,
};
use sqlx::PgConnection;

use crate::PostgresStore;
use crate::calls::call;
use crate::change::{Change, Outcome, change};
use crate::error::Refusal;
use crate::list::newest_first;
use crate::pairings::find_peer;
use crate::row::{KeyRow, number};

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn create_key(&self, key: NewKey, by: By<'_>) -> Result<ApiKey> {
        // An import finds most of its keys here and does not queue up to write. Keys are never deleted, so what is
        // found stays true.
        if let Some(existing) = self.find_secret(&key.secret).await? {
            return imported_before(&key, existing);
        }
        change!(self, |change| change.create_key(&key, &by))
    }

    async fn key_of_secret(&self, secret: &SecretHash) -> Result<ApiKey> {
        let found = self.find_secret(secret).await?;
        found.filter(|key| key.revoked_at.is_none()).ok_or(StoreError::NotFound)
    }

    async fn keys(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<ApiKey>> {
        let below = page.below()?;
        self.list::<KeyRow>(&page, "since DESC", || newest_first::<KeyRow>("since", below, mesh)).await
    }

    async fn key(&self, id: &str) -> Result<ApiKey> {
        let row = call!(self.calls, |connection| {
            let row = sqlx::query_as!(
                KeyRow,
                "SELECT id, mesh, peer, role, name, created_at, revoked_at, since FROM api_keys WHERE id = $1",
                id,
            );
            Ok(row.fetch_optional(connection).await?)
        });
        row?.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version> {
        change!(self, |change| change.revoke_key(id, &by))
    }
}

impl PostgresStore {
    async fn find_secret(&self, secret: &SecretHash) -> Result<Option<ApiKey>> {
        call!(self.calls, |connection| find_secret(connection, secret).await)
    }
}

async fn find_secret(
    connection: &mut PgConnection,
    secret: &SecretHash,
) -> std::result::Result<Option<ApiKey>, Refusal> {
    let row = sqlx::query_as!(
        KeyRow,
        "SELECT id, mesh, peer, role, name, created_at, revoked_at, since FROM api_keys WHERE secret = $1",
        secret.as_slice(),
    );
    Ok(row.fetch_optional(connection).await?.map(ApiKey::try_from).transpose()?)
}

fn imported_before(new: &NewKey, existing: ApiKey) -> Result<ApiKey> {
    if new.means(&existing) { Ok(existing) } else { Err(StoreError::Exists) }
}

impl Change<'_> {
    async fn create_key(&mut self, new: &NewKey, by: &By<'_>) -> Outcome<ApiKey> {
        if let Some(existing) = find_secret(self.connection, &new.secret).await? {
            return Ok((imported_before(new, existing)?, None));
        }
        let peer = find_peer(self.connection, &new.mesh, &new.peer).await?;
        if let Some(peer) = peer.as_ref().filter(|peer| peer.state != PairingState::Approved) {
            return Err(StoreError::Conflict(peer.state).into());
        }
        let with_peer = peer.is_none();
        if with_peer {
            self.insert_peer(&new.peer_record(by.now, self.version())).await?;
        }
        let key = new.clone().into_key(by.now);
        self.insert_key(&key, &new.secret).await?;
        Ok((key, Some(Draft::key_created(new, with_peer, by))))
    }

    async fn revoke_key(&mut self, id: &str, by: &By<'_>) -> Outcome<Version> {
        let row = sqlx::query_as!(
            KeyRow,
            "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL
            RETURNING id, mesh, peer, role, name, created_at, revoked_at, since",
            by.now,
            id,
        );
        let row = row.fetch_optional(&mut *self.connection).await?;
        let key: ApiKey = row.ok_or(StoreError::NotFound)?.try_into()?;
        let with_peer = self.revoke_peer_without_keys(&key, by.now).await?;
        Ok((self.version(), Some(Draft::key_revoked(&key, with_peer, by))))
    }

    /// Revokes the key's peer, if it stood on keys alone and this was the last one. Answers whether it did.
    async fn revoke_peer_without_keys(
        &mut self,
        key: &ApiKey,
        now: UnixMillis,
    ) -> std::result::Result<bool, Refusal> {
        let revoke = sqlx::query!(
            "UPDATE peers SET state = $1, updated_at = $2, version = $3
            WHERE mesh = $4 AND peer = $5 AND state = $6 AND origin = $7 AND NOT EXISTS (
                SELECT FROM api_keys AS k
                WHERE k.mesh = peers.mesh AND k.peer = peers.peer AND k.revoked_at IS NULL
            )",
            PairingState::Revoked.as_str(),
            now,
            number(self.version()),
            key.mesh.as_str(),
            key.peer.as_str(),
            PairingState::Approved.as_str(),
            Origin::Key.as_str(),
        );
        Ok(revoke.execute(&mut *self.connection).await?.rows_affected() == 1)
    }

    /// Revokes the live keys that stand for a peer, and counts them.
    pub(crate) async fn revoke_keys(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        now: UnixMillis,
    ) -> std::result::Result<u64, Refusal> {
        let revoke = sqlx::query!(
            "UPDATE api_keys SET revoked_at = $1 WHERE mesh = $2 AND peer = $3 AND revoked_at IS NULL",
            now,
            mesh.as_str(),
            peer.as_str(),
        );
        Ok(revoke.execute(&mut *self.connection).await?.rows_affected())
    }

    async fn insert_key(&mut self, key: &ApiKey, secret: &SecretHash) -> std::result::Result<(), Refusal> {
        let insert = sqlx::query!(
            "INSERT INTO api_keys (id, secret, mesh, peer, role, name, created_at, since)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            key.id,
            secret.as_slice(),
            key.mesh.as_str(),
            key.peer.as_str(),
            key.role,
            key.name,
            key.created_at,
            number(self.version()),
        );
        insert.execute(&mut *self.connection).await?;
        Ok(())
    }
}
