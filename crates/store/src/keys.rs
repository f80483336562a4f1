//! API keys, without their secrets.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};

use crate::{By, Page, Result, Rows, SecretHash, UnixMillis};

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public id.
    pub id: String,
    /// The mesh that it opens.
    pub mesh: MeshName,
    /// The peer that it stands for.
    pub peer: PeerId,
    /// `admin` may administer; everything else may not.
    pub role: String,
    /// A name for people.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// A new [`ApiKey`].
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its public id.
    pub id: String,
    /// Hash of the secret.
    pub secret: SecretHash,
    /// The mesh that it opens.
    pub mesh: MeshName,
    /// The peer that it stands for; made (approved) if it does not exist.
    pub peer: PeerId,
    /// Its role.
    pub role: String,
    /// A name for people.
    pub name: String,
}

/// API keys.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Makes a key, and its peer (approved) if it does not exist. A secret that exists already with the same
    /// mesh, peer and role is answered as it is without a new version (imports are idempotent), else `Exists`;
    /// `Conflict` if the peer is not approved (pending, rejected, revoked). A revoked key that is imported again is
    /// answered too, and stays revoked. An existing peer keeps its name and role.
    async fn create_key(&self, key: NewKey, by: By<'_>) -> Result<ApiKey>;
    /// A live key by its secret's hash; `NotFound` for unknown and revoked ones.
    async fn key_of_secret(&self, secret: &SecretHash) -> Result<ApiKey>;
    /// Newest first, revoked ones among them.
    async fn keys(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<ApiKey>>;
    /// A key by its id, live or not.
    async fn key(&self, id: &str) -> Result<ApiKey>;
    /// Revokes a key. A peer that stands on this key alone (origin [`Origin::Key`](crate::Origin::Key), no other live
    /// key) loses its right with it, under the same version. `NotFound` if there is none or it was revoked before.
    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version>;
}
