//! Who may come and who is here: invites, pairings and peers.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};

use crate::{By, Page, Result, Rows, SecretHash, UnixMillis};

/// The right to enrol, handed out as a code of which only the hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Its public id.
    pub id: String,
    /// The mesh that it leads to.
    pub mesh: MeshName,
    /// Redemptions left.
    pub uses_left: u32,
    /// When it ends: from this moment on it cannot be redeemed.
    pub expires_at: UnixMillis,
    /// When it was made.
    pub created_at: UnixMillis,
    /// By which key.
    pub created_by: String,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Invite {
    /// Whether it can be redeemed.
    pub fn is_open(&self, now: UnixMillis) -> bool {
        !self.revoked && self.uses_left > 0 && self.expires_at > now
    }
}

/// How many expired invites [`Pairings::create_invite`] clears away at most, those that expired first. A bound,
/// so that no call pays for a long silence before it.
pub const EXPIRED_INVITES_CLEARED: u32 = 100;

/// A new [`Invite`].
#[derive(Debug, Clone)]
pub struct NewInvite {
    /// Its public id.
    pub id: String,
    /// The mesh that it leads to.
    pub mesh: MeshName,
    /// Hash of the code.
    pub code: SecretHash,
    /// How often it may be redeemed; at least 1.
    pub uses: u32,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// Open (unexpired, unused, not revoked) invites that the mesh may have at most.
    pub max_open: u32,
}

/// A device that redeemed an invite.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairing {
    /// Its id in the pairing calls.
    pub id: String,
    /// The mesh.
    pub mesh: MeshName,
    /// The peer that it is or would become.
    pub peer: PeerId,
    /// What the device calls itself.
    pub name: String,
    /// Where it stands.
    pub state: PairingState,
    /// The invite that it came by.
    pub invite: String,
    /// The public key that it enrolled with, as JWK text.
    pub public_key: Option<String>,
    /// From where it came, for the one who has to decide.
    pub address: Option<String>,
    /// Whether its device token was handed out.
    pub token_issued: bool,
    /// When it redeemed.
    pub created_at: UnixMillis,
    /// When it changed last.
    pub updated_at: UnixMillis,
    /// The version of its last change.
    pub version: Version,
}

/// A redemption.
#[derive(Debug, Clone)]
pub struct Redemption {
    /// Hash of the code.
    pub code: SecretHash,
    /// Id for the new pairing.
    pub id: String,
    /// Id for the new peer.
    pub peer: PeerId,
    /// What the device calls itself.
    pub name: String,
    /// Hash of the token with which the device asks for its status.
    pub claim: SecretHash,
    /// The device's public key, as JWK text.
    pub public_key: Option<String>,
    /// From where it comes.
    pub address: Option<String>,
    /// Pairings that may wait in the mesh at most.
    pub max_pending: u32,
}

/// Where an identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An invite.
    Pairing,
    /// An API key.
    Key,
}

impl Origin {
    /// The word in HTTP answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pairing => "pairing",
            Self::Key => "key",
        }
    }
}

/// A peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRecord {
    /// The mesh.
    pub mesh: MeshName,
    /// The identity.
    pub peer: PeerId,
    /// A name for people.
    pub name: String,
    /// Where it stands; peers of API keys are approved from the start.
    pub state: PairingState,
    /// Where it comes from.
    pub origin: Origin,
    /// Its role, as tokens carry it (`agent`, `admin`, or what the seed's file says).
    pub role: String,
    /// Its pairing, if it has one.
    pub pairing: Option<String>,
    /// The public key that it enrolled with, as JWK text.
    pub public_key: Option<String>,
    /// When it came to be.
    pub created_at: UnixMillis,
    /// When it changed last.
    pub updated_at: UnixMillis,
    /// The version of its last change of standing.
    pub version: Version,
}

/// Whose rights [`Pairings::revoke_group`] takes away together.
#[derive(Debug, Clone, Copy)]
pub enum Group<'a> {
    /// An invite and all who came by it; also after the invite itself was cleared away.
    Enrolled {
        /// The invite.
        invite: &'a str,
        /// If it is named, an invite of another mesh is not found.
        mesh: Option<&'a MeshName>,
    },
    /// A mesh: all its peers with their keys, and all its invites that could still be redeemed.
    Mesh {
        /// Its name.
        mesh: &'a MeshName,
        /// A peer that keeps its right and its keys: whoever asks would otherwise lock themselves out.
        spared: Option<&'a PeerId>,
    },
}

/// Peers and invites that one [`Pairings::revoke_group`] changes at most. A change stops all renewals of leases, so none
/// may take long.
pub const GROUP_STEP: u32 = 500;

/// What one step of [`Pairings::revoke_group`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStep {
    /// The mesh.
    pub mesh: MeshName,
    /// The newest version after it: that of its last change, or of the last one before if there was nothing to do.
    pub version: Version,
    /// Invites that were taken back.
    pub invites: Vec<String>,
    /// Peers that were approved.
    pub revoked: Vec<PeerId>,
    /// Peers that waited for their approval.
    pub rejected: Vec<PeerId>,
    /// Keys that died with their peers.
    pub keys: u64,
    /// Whether it stopped at [`GROUP_STEP`], so that there may be more.
    pub more: bool,
}

/// Invites, pairings and peers.
#[async_trait]
pub trait Pairings: Send + Sync {
    /// Makes an invite. `Full` at the bound of open ones, `Exists` if the code is in use by an open one or the id
    /// is taken. Clears away expired invites in passing: an unused one with the same code, and then up to
    /// [`EXPIRED_INVITES_CLEARED`] of any mesh.
    async fn create_invite(&self, invite: NewInvite, by: By<'_>) -> Result<Invite>;
    /// Newest first; used, revoked and expired ones among them until they are cleared away.
    async fn invites(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<Invite>>;
    /// Takes an invite back; those who came by it stay. `NotFound` if there is none or it was taken back before.
    async fn revoke_invite(&self, id: &str, by: By<'_>) -> Result<Version>;
    /// Redeems an invite: one use less, a pending pairing and a pending peer more, in one transaction.
    /// `NotFound` for wrong, used, revoked and expired alike; `Full` at the bound of waiting devices (no use is
    /// lost); `Exists` if the pairing or peer id is taken, whatever its state (the caller draws another). The role
    /// of the peer is `agent`, the actor in the log `system`.
    async fn redeem(&self, redemption: Redemption, now: UnixMillis) -> Result<Pairing>;
    /// A pairing by its id.
    async fn pairing(&self, id: &str) -> Result<Pairing>;
    /// A pairing by its id, if `claim` is the hash of its claim token; else `NotFound`.
    async fn pairing_of_claim(&self, id: &str, claim: &SecretHash) -> Result<Pairing>;
    /// Newest first; of one state or of all.
    async fn pairings(
        &self,
        mesh: Option<&MeshName>,
        state: Option<PairingState>,
        page: Page,
    ) -> Result<Rows<Pairing>>;
    /// Moves a pairing, and with it its peer. `Conflict` when it is not in the state that the transition expects.
    /// A revoke does all that [`Self::revoke_peer`] does.
    async fn transition(&self, id: &str, transition: Transition, by: By<'_>) -> Result<Pairing>;
    /// Records the hash of the one device token of an approved pairing. Only the first caller gets `true`; for
    /// the others nothing changes. `Conflict` when it is not approved, `Exists` if the token is another's.
    async fn issue_device_token(&self, id: &str, token: SecretHash, now: UnixMillis) -> Result<bool>;
    /// The peer of a device token, whatever its state.
    async fn peer_of_device_token(&self, token: &SecretHash) -> Result<PeerRecord>;
    /// A peer.
    async fn peer(&self, mesh: &MeshName, peer: &PeerId) -> Result<PeerRecord>;
    /// By mesh and peer id, ascending.
    async fn peers(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<PeerRecord>>;
    /// Revokes an approved peer whatever its origin, its pairing with it, and all API keys that stand for it.
    /// `Conflict` when it is not approved.
    async fn revoke_peer(&self, mesh: &MeshName, peer: &PeerId, by: By<'_>) -> Result<Version>;
    /// One step towards a group without rights, in one transaction: takes its invites back, those that end first, and then rejects
    /// its waiting and revokes its approved peers, by id, up to [`GROUP_STEP`] of all of them together. Each takes a
    /// version of its own and leaves the row in the log that it would leave alone. If the answer is that there is no
    /// more, then at its version nobody in the group has a right. To do it again is no error, and changes nothing.
    /// `NotFound` if there is no such invite and nobody came by it, or it is of another mesh.
    async fn revoke_group(&self, group: Group<'_>, by: By<'_>) -> Result<GroupStep>;
}
