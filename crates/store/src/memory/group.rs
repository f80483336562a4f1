//! Rights that are taken away together.

use heliograph_core::id::{MeshName, PeerId};
use heliograph_core::pairing::Transition;

use super::State;
use crate::record::{GroupWork, leaving};
use crate::{By, Group, GroupStep, Invite, PeerRecord, Result, StoreError};

impl State {
    pub(super) fn revoke_group(&mut self, group: &Group<'_>, by: &By<'_>) -> Result<GroupStep> {
        let mesh = self.mesh_of(group)?;
        let mut work = GroupWork::new(mesh.clone(), self.version());
        for id in self.invites_of(group, work.left()) {
            let version = self.revoke_invite(&id, by)?;
            work.took_back(id, version);
        }
        for (peer, transition) in self.peers_of(group, &mesh, work.left()) {
            let (version, keys) = self.move_peer(&mesh, &peer, transition, by)?;
            work.moved(peer, transition, keys, version);
        }
        Ok(work.done())
    }

    fn mesh_of(&self, group: &Group<'_>) -> Result<MeshName> {
        let (id, only) = match *group {
            Group::Mesh { mesh, .. } => return Ok(mesh.clone()),
            Group::Enrolled { invite, mesh } => (invite, mesh),
        };
        let itself = self.invites.get(id).map(|kept| &kept.row.mesh);
        let came_by_it = self.pairings.values().map(|kept| &kept.row).filter(|row| row.invite == id);
        let mesh = itself.or_else(|| came_by_it.map(|row| &row.mesh).min());
        mesh.filter(|mesh| only.is_none_or(|only| only == *mesh)).cloned().ok_or(StoreError::NotFound)
    }

    fn invites_of(&self, group: &Group<'_>, limit: u32) -> Vec<String> {
        let belongs = |row: &Invite| match *group {
            Group::Enrolled { invite, .. } => row.id == invite,
            Group::Mesh { mesh, .. } => row.mesh == *mesh && row.uses_left > 0,
        };
        let rows = self.invites.values().map(|kept| &kept.row);
        let mut rows: Vec<_> = rows.filter(|row| !row.revoked && belongs(row)).collect();
        rows.sort_by_key(|row| row.expires_at);
        let mut ids: Vec<_> = rows.into_iter().take(limit as usize).map(|row| row.id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    fn peers_of(&self, group: &Group<'_>, mesh: &MeshName, limit: u32) -> Vec<(PeerId, Transition)> {
        let came_by = |row: &PeerRecord, invite: &str| {
            let pairing = row.pairing.as_ref().and_then(|id| self.pairings.get(id));
            pairing.is_some_and(|kept| kept.row.invite == invite)
        };
        let belongs = |row: &&PeerRecord| match *group {
            Group::Enrolled { invite, .. } => came_by(row, invite),
            Group::Mesh { spared, .. } => spared != Some(&row.peer),
        };
        let rows = self.peers.values().filter(|row| row.mesh == *mesh).filter(belongs);
        let leaving = rows.filter_map(|row| leaving(row.state).map(|how| (row.peer.clone(), how)));
        leaving.take(limit as usize).collect()
    }
}
