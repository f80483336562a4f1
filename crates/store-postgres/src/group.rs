//! Rights that are taken away together: in a few statements, however many there are, since all changes and renewals
//! wait meanwhile.

use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::record::{Draft, GroupWork, Moved, leaving};
use heliograph_store::{By, Group, GroupStep, StoreError, UnixMillis};

use crate::change::{Change, Outcome};
use crate::error::{Refusal, inconsistent};
use crate::row::{self, number};

type Result<T> = std::result::Result<T, Refusal>;

/// A peer that has something to lose.
struct Member {
    peer: PeerId,
    transition: Transition,
    pairing: Option<String>,
    /// Its live keys.
    keys: u64,
}

struct MemberRow {
    peer: String,
    state: String,
    pairing: Option<String>,
    keys: i64,
}

impl MemberRow {
    fn member(self) -> Result<Member> {
        let lost = || inconsistent("a peer without a right that has one");
        Ok(Member {
            peer: row::peer(&self.peer)?,
            transition: leaving(row::state(&self.state)?).ok_or_else(lost)?,
            pairing: self.pairing,
            keys: u64::try_from(self.keys).map_err(inconsistent)?,
        })
    }
}

impl Change<'_> {
    pub(crate) async fn revoke_group(
        &mut self,
        group: &Group<'_>,
        by: &By<'_>,
    ) -> Outcome<GroupStep, Vec<Draft>> {
        let mesh = self.mesh_of(group).await?;
        let mut work = GroupWork::new(mesh.clone(), self.version_before());
        let mut drafts = vec![];
        for id in self.take_back_invites(group, work.left()).await? {
            work.took_back(id.clone(), self.version_after(drafts.len()));
            drafts.push(Draft::invite_revoked(&id, &mesh, by));
        }
        let members = self.members_of(group, &mesh, work.left()).await?;
        self.move_members(&mesh, &members, self.version_after(drafts.len()), by.now).await?;
        for Member { peer, transition, pairing, keys } in members {
            let moved = Moved { mesh: &mesh, peer: &peer, pairing: pairing.as_deref(), keys_revoked: keys };
            let draft = Draft::moved(transition, &moved, by);
            work.moved(peer, transition, keys, self.version_after(drafts.len()));
            drafts.push(draft);
        }
        Ok((work.done(), drafts))
    }

    async fn mesh_of(&mut self, group: &Group<'_>) -> Result<MeshName> {
        let (invite, only) = match *group {
            Group::Mesh { mesh, .. } => return Ok(mesh.clone()),
            Group::Enrolled { invite, mesh } => (invite, mesh),
        };
        let found = sqlx::query_scalar!(
            "SELECT coalesce((SELECT mesh FROM invites WHERE id = $1),
                (SELECT mesh FROM pairings WHERE invite = $1 ORDER BY mesh LIMIT 1))",
            invite,
        );
        let found = found.fetch_one(&mut *self.connection).await?.ok_or(StoreError::NotFound)?;
        let mesh = row::mesh(&found)?;
        if only.is_none_or(|only| *only == mesh) { Ok(mesh) } else { Err(StoreError::NotFound.into()) }
    }

    async fn take_back_invites(&mut self, group: &Group<'_>, limit: u32) -> Result<Vec<String>> {
        let ids = match *group {
            Group::Enrolled { invite, .. } => {
                let id = sqlx::query_scalar!("SELECT id FROM invites WHERE id = $1 AND NOT revoked", invite);
                id.fetch_all(&mut *self.connection).await?
            }
            Group::Mesh { mesh, .. } => {
                let ids = sqlx::query_scalar!(
                    "SELECT id FROM invites WHERE mesh = $1 AND NOT revoked AND uses_left > 0 ORDER BY expires_at LIMIT $2",
                    mesh.as_str(),
                    i64::from(limit),
                );
                let mut ids = ids.fetch_all(&mut *self.connection).await?;
                ids.sort_unstable();
                ids
            }
        };
        let take_back = sqlx::query!("UPDATE invites SET revoked = TRUE WHERE id = ANY($1)", &ids);
        take_back.execute(&mut *self.connection).await?;
        Ok(ids)
    }

    async fn members_of(&mut self, group: &Group<'_>, mesh: &MeshName, limit: u32) -> Result<Vec<Member>> {
        let (pending, approved) = (PairingState::PendingApproval.as_str(), PairingState::Approved.as_str());
        let limit = i64::from(limit);
        let rows = match *group {
            Group::Enrolled { invite, .. } => {
                let rows = sqlx::query_as!(
                    MemberRow,
                    r#"SELECT d.peer, d.state, d.id AS "pairing?", (
                        SELECT count(*) FROM api_keys AS k
                        WHERE k.mesh = d.mesh AND k.peer = d.peer AND k.revoked_at IS NULL
                    ) AS "keys!"
                    FROM pairings AS d WHERE d.invite = $1 AND d.mesh = $2 AND d.state IN ($3, $4)
                    ORDER BY d.peer LIMIT $5"#,
                    invite,
                    mesh.as_str(),
                    pending,
                    approved,
                    limit,
                );
                rows.fetch_all(&mut *self.connection).await?
            }
            Group::Mesh { spared, .. } => {
                let rows = sqlx::query_as!(
                    MemberRow,
                    r#"SELECT p.peer, p.state, p.pairing, (
                        SELECT count(*) FROM api_keys AS k
                        WHERE k.mesh = p.mesh AND k.peer = p.peer AND k.revoked_at IS NULL
                    ) AS "keys!"
                    FROM peers AS p WHERE p.mesh = $1 AND p.state IN ($2, $3) AND p.peer IS DISTINCT FROM $4
                    ORDER BY p.peer LIMIT $5"#,
                    mesh.as_str(),
                    pending,
                    approved,
                    spared.map(PeerId::as_str),
                    limit,
                );
                rows.fetch_all(&mut *self.connection).await?
            }
        };
        rows.into_iter().map(MemberRow::member).collect()
    }

    /// Moves them all, with their pairings and keys; the first one under the version `first`.
    async fn move_members(
        &mut self,
        mesh: &MeshName,
        members: &[Member],
        first: Version,
        now: UnixMillis,
    ) -> Result<()> {
        if members.is_empty() {
            return Ok(());
        }
        let peers: Vec<&str> = members.iter().map(|member| member.peer.as_str()).collect();
        let states: Vec<&str> = members.iter().map(|member| member.transition.leads_to().as_str()).collect();
        let versions: Vec<i64> = (first.0..).take(members.len()).map(|n| number(Version(n))).collect();
        let moved = sqlx::query!(
            r#"WITH gone AS (
                SELECT * FROM UNNEST($3::TEXT[], $4::TEXT[], $5::BIGINT[]) AS g (peer, state, version)
            ), keys AS (
                UPDATE api_keys AS k SET revoked_at = $2
                FROM gone WHERE k.mesh = $1 AND k.peer = gone.peer AND k.revoked_at IS NULL
            ), devices AS (
                UPDATE pairings AS d SET state = gone.state, updated_at = $2, version = gone.version
                FROM gone WHERE d.mesh = $1 AND d.peer = gone.peer AND d.state IN ('pending_approval', 'approved')
                RETURNING d.id
            ), moved AS (
                UPDATE peers AS p SET state = gone.state, updated_at = $2, version = gone.version
                FROM gone WHERE p.mesh = $1 AND p.peer = gone.peer RETURNING p.pairing
            )
            SELECT (SELECT count(*) FROM moved) AS "peers!", (SELECT count(pairing) FROM moved) AS "paired!",
                (SELECT count(*) FROM devices) AS "pairings!""#,
            mesh.as_str(),
            now,
            &peers as _,
            &states as _,
            &versions,
        );
        let moved = moved.fetch_one(&mut *self.connection).await?;
        if usize::try_from(moved.peers) == Ok(members.len()) && moved.paired == moved.pairings {
            return Ok(());
        }
        Err(inconsistent("a pairing and its peer are in different states").into())
    }
}
