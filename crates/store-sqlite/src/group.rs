//! Rights that are taken away together.

use heliograph_core::id::{MeshName, PeerId};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::record::{GroupWork, leaving};
use heliograph_store::{By, Group, GroupStep, Result, StoreError};

use crate::change::{Change, Outcome};
use crate::error::{inconsistent, refused};
use crate::row;

/// A peer that has something to lose: its id, its state, and how many live keys it has.
type Member = (String, String, i64);

impl Change<'_> {
    pub(crate) async fn revoke_group(&mut self, group: &Group<'_>, by: &By<'_>) -> Outcome<GroupStep> {
        let mesh = self.mesh_of(group).await?;
        let mut work = GroupWork::new(mesh.clone(), self.head().version);
        for id in self.invites_of(group, work.left()).await? {
            let (version, draft) = self.revoke_invite(&id, by).await?;
            if let Some(draft) = draft {
                self.append(draft).await?;
            }
            work.took_back(id, version);
        }
        for (peer, state, keys) in self.members_of(group, &mesh, work.left()).await? {
            let (peer, transition) = (row::peer(&peer)?, going(&state)?);
            let version = self.version();
            let draft = self.move_peer(&mesh, &peer, transition, by).await?;
            self.append(draft).await?;
            work.moved(peer, transition, u64::try_from(keys).map_err(inconsistent)?, version);
        }
        Ok((work.done(), None))
    }

    async fn mesh_of(&mut self, group: &Group<'_>) -> Result<MeshName> {
        let (invite, only) = match *group {
            Group::Mesh { mesh, .. } => return Ok(mesh.clone()),
            Group::Enrolled { invite, mesh } => (invite, mesh),
        };
        let found: Option<String> = sqlx::query_scalar(
            "SELECT coalesce((SELECT mesh FROM invites WHERE id = ?1), \
             (SELECT mesh FROM pairings WHERE invite = ?1 ORDER BY mesh LIMIT 1))",
        )
        .bind(invite)
        .fetch_one(&mut *self.connection)
        .await
        .map_err(refused)?;
        let mesh = row::mesh(&found.ok_or(StoreError::NotFound)?)?;
        if only.is_none_or(|only| *only == mesh) { Ok(mesh) } else { Err(StoreError::NotFound) }
    }

    async fn invites_of(&mut self, group: &Group<'_>, limit: u32) -> Result<Vec<String>> {
        let ids = match *group {
            Group::Enrolled { invite, .. } => {
                sqlx::query_scalar("SELECT id FROM invites WHERE id = ? AND revoked = 0 LIMIT ?").bind(invite)
            }
            Group::Mesh { mesh, .. } => sqlx::query_scalar(
                "SELECT id FROM invites WHERE mesh = ? AND revoked = 0 AND uses_left > 0 ORDER BY expires_at LIMIT ?",
            )
            .bind(mesh.as_str()),
        };
        let mut ids: Vec<String> = ids.bind(limit).fetch_all(&mut *self.connection).await.map_err(refused)?;
        ids.sort_unstable();
        Ok(ids)
    }

    async fn members_of(&mut self, group: &Group<'_>, mesh: &MeshName, limit: u32) -> Result<Vec<Member>> {
        let (invite, spared) = match *group {
            Group::Enrolled { invite, .. } => (Some(invite), None),
            Group::Mesh { spared, .. } => (None, spared.map(PeerId::as_str)),
        };
        let members = sqlx::query_as(
            "SELECT peer, state, \
             (SELECT count(*) FROM api_keys AS k \
              WHERE k.mesh = peers.mesh AND k.peer = peers.peer AND k.revoked_at IS NULL) \
             FROM peers WHERE mesh = ?1 AND state IN (?2, ?3) AND peer IS NOT ?4 \
             AND (?5 IS NULL OR pairing IN (SELECT id FROM pairings WHERE invite = ?5)) ORDER BY peer LIMIT ?6",
        )
        .bind(mesh.as_str())
        .bind(PairingState::PendingApproval.as_str())
        .bind(PairingState::Approved.as_str())
        .bind(spared)
        .bind(invite)
        .bind(limit);
        members.fetch_all(&mut *self.connection).await.map_err(refused)
    }
}

fn going(state: &str) -> Result<Transition> {
    leaving(row::state(state)?).ok_or_else(|| inconsistent("a peer without a right that has one"))
}
