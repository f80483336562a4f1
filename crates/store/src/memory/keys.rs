//! API keys.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::PairingState;

use super::{Kept, MemoryStore, State, newest_first};
use crate::record::Draft;
use crate::{ApiKey, ApiKeys, By, NewKey, Origin, Page, Result, Rows, SecretHash, StoreError, UnixMillis};

#[async_trait]
impl ApiKeys for MemoryStore {
    async fn create_key(&self, key: NewKey, by: By<'_>) -> Result<ApiKey> {
        self.change(|state| state.create_key(key, &by))
    }

    async fn key_of_secret(&self, secret: &SecretHash) -> Result<ApiKey> {
        let state = self.read();
        let kept = state.keys.values().find(|kept| kept.secret == *secret && kept.row.revoked_at.is_none());
        kept.map(|kept| kept.row.clone()).ok_or(StoreError::NotFound)
    }

    async fn keys(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<ApiKey>> {
        newest_first(&self.read().keys, |key| mesh.is_none_or(|mesh| key.mesh == *mesh), &page)
    }

    async fn key(&self, id: &str) -> Result<ApiKey> {
        self.read().keys.get(id).map(|kept| kept.row.clone()).ok_or(StoreError::NotFound)
    }

    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version> {
        self.change(|state| state.revoke_key(id, &by))
    }
}

impl State {
    fn create_key(&mut self, new: NewKey, by: &By<'_>) -> Result<ApiKey> {
        if let Some(kept) = self.keys.values().find(|kept| kept.secret == new.secret) {
            return if new.means(&kept.row) { Ok(kept.row.clone()) } else { Err(StoreError::Exists) };
        }
        let peer = self.peers.get(&(new.mesh.clone(), new.peer.clone()));
        if let Some(peer) = peer.filter(|peer| peer.state != PairingState::Approved) {
            return Err(StoreError::Conflict(peer.state));
        }
        if self.keys.contains_key(&new.id) {
            return Err(StoreError::Exists);
        }
        let with_peer = peer.is_none();
        let version = self.record(Draft::key_created(&new, with_peer, by));
        if with_peer {
            let peer = new.peer_record(by.now, version);
            self.peers.insert((new.mesh.clone(), new.peer.clone()), peer);
        }
        let secret = new.secret;
        let row = new.into_key(by.now);
        self.keys.insert(row.id.clone(), Kept::new(&row, version, secret));
        Ok(row)
    }

    fn revoke_key(&mut self, id: &str, by: &By<'_>) -> Result<Version> {
        let kept = self.keys.get(id).filter(|kept| kept.row.revoked_at.is_none());
        let key = kept.ok_or(StoreError::NotFound)?.row.clone();
        let stands_for_it = |other: &&Kept<ApiKey>| {
            (&other.row.mesh, &other.row.peer) == (&key.mesh, &key.peer) && other.row.revoked_at.is_none()
        };
        let last = self.keys.values().filter(stands_for_it).count() == 1;
        let with_peer = last && self.peer(&key.mesh, &key.peer)?.origin == Origin::Key;
        let version = self.record(Draft::key_revoked(&key, with_peer, by));
        if with_peer {
            self.set_peer_state(&key.mesh, &key.peer, PairingState::Revoked, by.now, version);
        }
        if let Some(kept) = self.keys.get_mut(id) {
            kept.row.revoked_at = Some(by.now);
        }
        Ok(version)
    }

    pub(super) fn revoke_keys(&mut self, mesh: &MeshName, peer: &PeerId, now: UnixMillis) -> u64 {
        let mut count = 0;
        for key in self.keys.values_mut().map(|kept| &mut kept.row) {
            if key.mesh == *mesh && key.peer == *peer && key.revoked_at.is_none() {
                key.revoked_at = Some(now);
                count += 1;
            }
        }
        count
    }
}
