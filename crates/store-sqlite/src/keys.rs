//! API keys.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::PairingState;
use heliograph_store::record::Draft;
use heliograph_store::{
    ApiKey, ApiKeys, By, NewKey, Origin, Page, Result, Rows, SecretHash, StoreError, UnixMillis,
};
use sqlx::SqliteExecutor;

use crate::SqliteStore;
use crate::change::{Change, Outcome};
use crate::error::refused;
use crate::list::{fetch, newest_first};
use crate::pairings::find_peer;
use crate::row::{KeyRow, number, select_keys};

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn create_key(&self, key: NewKey, by: By<'_>) -> Result<ApiKey> {
        // An import finds most of its keys here and does not queue up to write. Keys are never deleted, so what is
        // found stays true.
        if let Some(existing) = find_secret(&self.readers, &key.secret).await? {
            return imported_before(&key, existing);
        }
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.create_key(key, &by).await;
        change.finish(outcome, &self.leases).await
    }

    async fn key_of_secret(&self, secret: &SecretHash) -> Result<ApiKey> {
        let found = find_secret(&self.readers, secret).await?;
        found.filter(|key| key.revoked_at.is_none()).ok_or(StoreError::NotFound)
    }

    async fn keys(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<ApiKey>> {
        let query = newest_first(select_keys!(""), "since", mesh, &page)?;
        fetch::<KeyRow>(&self.readers, query, "since DESC", &page).await
    }

    async fn key(&self, id: &str) -> Result<ApiKey> {
        let row = sqlx::query_as::<_, KeyRow>(select_keys!("WHERE id = ?")).bind(id);
        row.fetch_optional(&self.readers).await.map_err(refused)?.ok_or(StoreError::NotFound)?.try_into()
    }

    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version> {
        let mut writer = self.writer.write().await;
        let mut change = writer.begin().await?;
        let outcome = change.revoke_key(id, &by).await;
        change.finish(outcome, &self.leases).await
    }
}

async fn find_secret(executor: impl SqliteExecutor<'_>, secret: &SecretHash) -> Result<Option<ApiKey>> {
    let row = sqlx::query_as::<_, KeyRow>(select_keys!("WHERE secret = ?")).bind(secret.as_slice());
    row.fetch_optional(executor).await.map_err(refused)?.map(ApiKey::try_from).transpose()
}

fn imported_before(new: &NewKey, existing: ApiKey) -> Result<ApiKey> {
    if new.means(&existing) { Ok(existing) } else { Err(StoreError::Exists) }
}

impl Change<'_> {
    async fn create_key(&mut self, new: NewKey, by: &By<'_>) -> Outcome<ApiKey> {
        if let Some(existing) = find_secret(&mut *self.connection, &new.secret).await? {
            return Ok((imported_before(&new, existing)?, None));
        }
        let peer = find_peer(&mut *self.connection, &new.mesh, &new.peer).await?;
        if let Some(peer) = peer.as_ref().filter(|peer| peer.state != PairingState::Approved) {
            return Err(StoreError::Conflict(peer.state));
        }
        let with_peer = peer.is_none();
        if with_peer {
            self.insert_peer(&new.peer_record(by.now, self.version())).await?;
        }
        let draft = Draft::key_created(&new, with_peer, by);
        let secret = new.secret;
        let key = new.into_key(by.now);
        self.insert_key(&key, &secret).await?;
        Ok((key, Some(draft)))
    }

    async fn revoke_key(&mut self, id: &str, by: &By<'_>) -> Outcome<Version> {
        let row = sqlx::query_as::<_, KeyRow>(
            "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL \
             RETURNING id, mesh, peer, role, name, created_at, revoked_at, since",
        )
        .bind(by.now)
        .bind(id)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(refused)?;
        let key: ApiKey = row.ok_or(StoreError::NotFound)?.try_into()?;
        let with_peer = self.revoke_peer_without_keys(&key, by.now).await?;
        Ok((self.version(), Some(Draft::key_revoked(&key, with_peer, by))))
    }

    /// Revokes the key's peer, if it stood on keys alone and this was the last one. Answers whether it did.
    async fn revoke_peer_without_keys(&mut self, key: &ApiKey, now: UnixMillis) -> Result<bool> {
        let revoked = sqlx::query(
            "UPDATE peers SET state = ?, updated_at = ?, version = ? \
             WHERE mesh = ? AND peer = ? AND state = ? AND origin = ? AND NOT EXISTS \
             (SELECT 1 FROM api_keys AS k WHERE k.mesh = peers.mesh AND k.peer = peers.peer AND k.revoked_at IS NULL)",
        )
        .bind(PairingState::Revoked.as_str())
        .bind(now)
        .bind(number(self.version()))
        .bind(key.mesh.as_str())
        .bind(key.peer.as_str())
        .bind(PairingState::Approved.as_str())
        .bind(Origin::Key.as_str())
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(revoked.rows_affected() == 1)
    }

    /// Revokes the live keys that stand for a peer, and counts them.
    pub(crate) async fn revoke_keys(
        &mut self,
        mesh: &MeshName,
        peer: &PeerId,
        now: UnixMillis,
    ) -> Result<u64> {
        let revoked = sqlx::query(
            "UPDATE api_keys SET revoked_at = ? WHERE mesh = ? AND peer = ? AND revoked_at IS NULL",
        )
        .bind(now)
        .bind(mesh.as_str())
        .bind(peer.as_str())
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(revoked.rows_affected())
    }

    async fn insert_key(&mut self, key: &ApiKey, secret: &SecretHash) -> Result<()> {
        sqlx::query(
            "INSERT INTO api_keys (id, secret, mesh, peer, role, name, created_at, since) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&key.id)
        .bind(secret.as_slice())
        .bind(key.mesh.as_str())
        .bind(key.peer.as_str())
        .bind(&key.role)
        .bind(&key.name)
        .bind(key.created_at)
        .bind(number(self.version()))
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }
}
