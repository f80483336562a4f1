//! Changes of invites.

use heliograph_core::id::{MeshName, Version};
use heliograph_store::record::Draft;
use heliograph_store::{
    By, EXPIRED_INVITES_CLEARED, Invite, NewInvite, Result, SecretHash, StoreError, UnixMillis,
};

use crate::change::{Change, Outcome};
use crate::error::refused;
use crate::row::{self, number};

impl Change<'_> {
    pub(crate) async fn create_invite(&mut self, new: NewInvite, by: &By<'_>) -> Outcome<Invite> {
        if self.open_invites_reach(new.max_open, &new.mesh, by.now).await? {
            return Err(StoreError::Full);
        }
        self.clear_expired_code(&new.code, by.now).await?;
        let draft = Draft::invite_created(&new, by);
        let code = new.code;
        let invite = new.into_invite(by);
        self.insert_invite(&invite, &code).await?;
        self.clear_expired_invites(by.now).await?;
        Ok((invite, Some(draft)))
    }

    pub(crate) async fn revoke_invite(&mut self, id: &str, by: &By<'_>) -> Outcome<Version> {
        let mesh: Option<String> =
            sqlx::query_scalar("UPDATE invites SET revoked = 1 WHERE id = ? AND revoked = 0 RETURNING mesh")
                .bind(id)
                .fetch_optional(&mut *self.connection)
                .await
                .map_err(refused)?;
        let mesh = row::mesh(&mesh.ok_or(StoreError::NotFound)?)?;
        Ok((self.version(), Some(Draft::invite_revoked(id, &mesh, by))))
    }

    /// Takes one use of the open invite that has this code: its id and mesh.
    pub(crate) async fn use_invite(
        &mut self,
        code: &SecretHash,
        now: UnixMillis,
    ) -> Result<(String, MeshName)> {
        let found: Option<(String, String)> = sqlx::query_as(
            "UPDATE invites SET uses_left = uses_left - 1 \
             WHERE code = ? AND revoked = 0 AND uses_left > 0 AND expires_at > ? RETURNING id, mesh",
        )
        .bind(code.as_slice())
        .bind(now)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(refused)?;
        let (id, mesh) = found.ok_or(StoreError::NotFound)?;
        Ok((id, row::mesh(&mesh)?))
    }

    async fn open_invites_reach(&mut self, bound: u32, mesh: &MeshName, now: UnixMillis) -> Result<bool> {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM invites \
             WHERE mesh = ? AND revoked = 0 AND uses_left > 0 AND expires_at > ? LIMIT ?)",
        )
        .bind(mesh.as_str())
        .bind(now)
        .bind(bound)
        .fetch_one(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(open >= i64::from(bound))
    }

    /// An expired invite must not keep its code from being drawn again.
    async fn clear_expired_code(&mut self, code: &SecretHash, now: UnixMillis) -> Result<()> {
        sqlx::query(
            "DELETE FROM invites WHERE code = ? AND revoked = 0 AND uses_left > 0 AND expires_at <= ?",
        )
        .bind(code.as_slice())
        .bind(now)
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }

    async fn clear_expired_invites(&mut self, now: UnixMillis) -> Result<()> {
        sqlx::query(
            "DELETE FROM invites WHERE id IN \
             (SELECT id FROM invites WHERE expires_at <= ? ORDER BY expires_at, id LIMIT ?)",
        )
        .bind(now)
        .bind(EXPIRED_INVITES_CLEARED)
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }

    async fn insert_invite(&mut self, invite: &Invite, code: &SecretHash) -> Result<()> {
        sqlx::query(
            "INSERT INTO invites (id, mesh, code, uses_left, expires_at, created_at, created_by, since) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&invite.id)
        .bind(invite.mesh.as_str())
        .bind(code.as_slice())
        .bind(invite.uses_left)
        .bind(invite.expires_at)
        .bind(invite.created_at)
        .bind(&invite.created_by)
        .bind(number(self.version()))
        .execute(&mut *self.connection)
        .await
        .map_err(refused)?;
        Ok(())
    }
}
