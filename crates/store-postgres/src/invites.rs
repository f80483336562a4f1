//! Changes of invites.

use heliograph_core::id::{MeshName, Version};
use heliograph_store::record::Draft;
use heliograph_store::{By, EXPIRED_INVITES_CLEARED, Invite, NewInvite, SecretHash, StoreError, UnixMillis};

use crate::change::{Change, Outcome};
use crate::error::Refusal;
use crate::row::{self, number};

type Result<T> = std::result::Result<T, Refusal>;

impl Change<'_> {
    pub(crate) async fn create_invite(&mut self, new: &NewInvite, by: &By<'_>) -> Outcome<Invite> {
        if self.open_invites_reach(new.max_open, &new.mesh, by.now).await? {
            return Err(StoreError::Full.into());
        }
        self.clear_expired_code(&new.code, by.now).await?;
        let invite = new.clone().into_invite(by);
        self.insert_invite(&invite, &new.code).await?;
        self.clear_expired_invites(by.now).await?;
        Ok((invite, Some(Draft::invite_created(new, by))))
    }

    pub(crate) async fn revoke_invite(&mut self, id: &str, by: &By<'_>) -> Outcome<Version> {
        let revoked = sqlx::query_scalar!(
            "UPDATE invites SET revoked = TRUE WHERE id = $1 AND NOT revoked RETURNING mesh",
            id,
        );
        let mesh = revoked.fetch_optional(&mut *self.connection).await?.ok_or(StoreError::NotFound)?;
        Ok((self.version(), Some(Draft::invite_revoked(id, &row::mesh(&mesh)?, by))))
    }

    /// Takes one use of the open invite that has this code: its id and mesh.
    pub(crate) async fn use_invite(
        &mut self,
        code: &SecretHash,
        now: UnixMillis,
    ) -> Result<(String, MeshName)> {
        let used = sqlx::query!(
            "UPDATE invites SET uses_left = uses_left - 1
            WHERE code = $1 AND NOT revoked AND uses_left > 0 AND expires_at > $2 RETURNING id, mesh",
            code.as_slice(),
            now,
        );
        let used = used.fetch_optional(&mut *self.connection).await?.ok_or(StoreError::NotFound)?;
        Ok((used.id, row::mesh(&used.mesh)?))
    }

    async fn open_invites_reach(&mut self, bound: u32, mesh: &MeshName, now: UnixMillis) -> Result<bool> {
        let open = sqlx::query_scalar!(
            r#"SELECT count(*) AS "open!" FROM (
                SELECT FROM invites
                WHERE mesh = $1 AND NOT revoked AND uses_left > 0 AND expires_at > $2 LIMIT $3
            ) AS counted"#,
            mesh.as_str(),
            now,
            i64::from(bound),
        );
        Ok(open.fetch_one(&mut *self.connection).await? >= i64::from(bound))
    }

    /// An expired invite must not keep its code from being drawn again.
    async fn clear_expired_code(&mut self, code: &SecretHash, now: UnixMillis) -> Result<()> {
        let clear = sqlx::query!(
            "DELETE FROM invites WHERE code = $1 AND NOT revoked AND uses_left > 0 AND expires_at <= $2",
            code.as_slice(),
            now,
        );
        clear.execute(&mut *self.connection).await?;
        Ok(())
    }

    async fn clear_expired_invites(&mut self, now: UnixMillis) -> Result<()> {
        let clear = sqlx::query!(
            "DELETE FROM invites WHERE id IN (
                SELECT id FROM invites WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT $2
            )",
            now,
            i64::from(EXPIRED_INVITES_CLEARED),
        );
        clear.execute(&mut *self.connection).await?;
        Ok(())
    }

    async fn insert_invite(&mut self, invite: &Invite, code: &SecretHash) -> Result<()> {
        let insert = sqlx::query!(
            "INSERT INTO invites (id, mesh, code, uses_left, expires_at, created_at, created_by, since)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            invite.id,
            invite.mesh.as_str(),
            code.as_slice(),
            i64::from(invite.uses_left),
            invite.expires_at,
            invite.created_at,
            invite.created_by,
            number(self.version()),
        );
        insert.execute(&mut *self.connection).await?;
        Ok(())
    }
}
