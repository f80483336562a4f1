//! What is kept: pairing, keys, leases and the audit log.
//!
//! Four small traits, one per aggregate, with verbs of the domain; [`Store`] is all of them. Implementations:
//! [`memory`] (the reference), `heliograph-store-sqlite`, `heliograph-store-postgres`. To add one: implement the four traits, pass
//! `testing::conformance` with a factory, and name it in `heliograph-server`'s `backends`.
//!
//! Promises that every implementation keeps, and the conformance suite checks:
//!
//! - Each state change takes the next [`Version`] of one gapless counter in the same transaction, and leaves one
//!   row in the hash-chained log ([`heliograph_core::chain`]) with that number. A change is all or nothing.
//! - A transition names the state it expects; of two that race, one succeeds and the other gets
//!   [`StoreError::Conflict`] with the state that the winner left.
//! - What was answered is durable, as far as the backend is durable at all.
//! - Secrets are never stored: callers hand in keyed hashes ([`SecretHash`]).
//! - The caller hands in the time (milliseconds since the Unix epoch) and all random values; a store has neither.
//! - A call that is refused changes nothing, takes no version and leaves no row in the log.
//!
//! What backends have in common and must do alike is here: the words of the log ([`record`]), pages ([`page`]),
//! leases that live in one process ([`local`]).

use std::collections::BTreeMap;

use async_trait::async_trait;
use heliograph_core::authority::Standing;
use heliograph_core::chain::Hash;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use tokio::sync::watch;

pub mod local;
pub mod memory;
pub mod page;
pub mod record;
#[cfg(feature = "testing")]
pub mod testing;

/// Milliseconds since the Unix epoch. For records and expiry of invites only; leases never look at it.
pub type UnixMillis = i64;

/// A keyed hash of a secret (key, token, code). Equal secrets have equal hashes, so it can be looked up.
pub type SecretHash = [u8; 32];

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has that id (or, for an invite: it is wrong, used, revoked or expired, which look the same).
    #[error("not found")]
    NotFound,
    /// The pairing or peer is in another state than the change expects; this is the state it is in.
    #[error("not possible: it is {}", .0.as_str())]
    Conflict(PairingState),
    /// The id, code, secret or peer exists already; nothing is overwritten.
    #[error("exists already")]
    Exists,
    /// A bound of the store is reached (pending devices or open invites of a mesh).
    #[error("limit reached")]
    Full,
    /// The backend cannot be reached or refused; the caller may try again.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// What is stored does not make sense (a damaged file, a foreign schema).
    #[error("storage inconsistent: {0}")]
    Inconsistent(String),
}

/// What stores answer.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Who changes something, and when.
#[derive(Debug, Clone)]
pub struct By<'a> {
    /// A key id, or `system`.
    pub actor: &'a str,
    /// When.
    pub now: UnixMillis,
}

/// A page of a list: rows after `cursor`, at most `limit`. A cursor that no page of this list answered is
/// `NotFound`. Rows that come to be while one pages forward appear neither twice nor in place of others.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Where the previous page ended; `None`: from the start.
    pub cursor: Option<String>,
    /// At most so many rows; 0 stands for [`heliograph_core::limits::DEFAULT_PAGE`], and more than
    /// [`heliograph_core::limits::MAX_PAGE`] for that.
    pub limit: u32,
}

/// Rows and where the next page starts.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Set when there are more.
    pub next: Option<String>,
}

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

/// A row of the log: a change of state, and the audit entry of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub version: Version,
    /// When.
    pub at: UnixMillis,
    /// Who did it.
    pub actor: String,
    /// What was done: `invite.create`, `invite.revoke`, `pair`, `approve`, `reject`, `revoke`, `token.issue`,
    /// `key.create`, `key.revoke`.
    pub action: String,
    /// The mesh.
    pub mesh: String,
    /// What it was done to.
    pub subject: String,
    /// More, as a JSON object in text, keys sorted.
    pub detail: String,
    /// The peer whose standing changed, and to what. The chain covers it by what it follows from: `pair`,
    /// `approve`, `reject` and `revoke` always change it, key actions where the detail has a `standing`.
    pub standing: Option<(PeerId, Standing)>,
    /// Hash of the row before.
    pub previous: Hash,
    /// Hash of this row.
    pub hash: Hash,
}

impl LogEntry {
    /// The part of the row that the hash chain covers.
    pub fn link(&self) -> heliograph_core::chain::Link<'_> {
        heliograph_core::chain::Link {
            version: self.version,
            at_unix_ms: self.at,
            actor: &self.actor,
            action: &self.action,
            mesh: &self.mesh,
            subject: &self.subject,
            detail: &self.detail,
        }
    }
}

/// A lease as the waiter sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Who holds it.
    pub gateway: GatewayId,
    /// How far the holder says it has applied changes.
    pub acknowledged: Version,
    /// Grows with every renewal and acknowledgement: a waiter sees by it whether the row still moves. A lease
    /// that was removed and granted anew goes on above its former beats.
    pub beat: u64,
}

/// What a wake-up is about. Two, because one acknowledgement is of interest to the one who revokes, and not to all the
/// gateways: with each of them waking each other a revoke would cost the square of their number in renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A change was committed.
    Change,
    /// An acknowledgement goes further, or a lease was removed.
    Lease,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// The newest version. The lease may be used once everything up to it is applied. Below what the holder
    /// named: the storage went back (an old backup), and the holder must not use the lease.
    pub version: Version,
    /// The changes of standing after the version that the holder named, in order: mesh, peer, standing, version.
    pub changes: Vec<StandingChange>,
}

/// One change of standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingChange {
    /// The change's number.
    pub version: Version,
    /// The mesh.
    pub mesh: MeshName,
    /// The peer.
    pub peer: PeerId,
    /// What it is now.
    pub standing: Standing,
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
    /// Revokes a key. A peer that stands on this key alone (origin [`Origin::Key`], no other live key) loses its
    /// right with it, under the same version. `NotFound` if there is none or it was revoked before.
    async fn revoke_key(&self, id: &str, by: By<'_>) -> Result<Version>;
}

/// The log.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Newest first; the cursor is the version below which to go on.
    async fn log(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<LogEntry>>;
    /// Ascending from `after`, at most `limit`: what a check of the chain reads.
    async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>>;
    /// The newest version; 0 before the first change.
    async fn version(&self) -> Result<Version>;
}

/// Leases of the gateways on the pairing state, and the feed of its changes. The protocol is in DESIGN §6.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Grants or renews `gateway`'s lease and answers all changes of standing after `applied`. It takes the
    /// version counter shared, a change takes it exclusively: neither can miss the other. `acknowledged` is what
    /// the holder has fully carried out (never more than `applied`; the row keeps the highest that was named).
    async fn renew(&self, gateway: &GatewayId, applied: Version, acknowledged: Version) -> Result<Renewal>;
    /// All leases.
    async fn leases(&self) -> Result<Vec<LeaseRow>>;
    /// Removes a lease: of one's own at a clean end, or of one that was seen to stand still for a full term. Only
    /// if its beat is still `beat` (`None`: whatever it is); answers whether it was removed.
    async fn remove_lease(&self, gateway: &GatewayId, beat: Option<u64>) -> Result<bool>;
    /// A wake-up for whoever waits for what `of` names, on all nodes; a hint, not the truth, and it may come for less.
    /// The value means nothing. A plain renewal is none, so that renewing on a hint comes to rest.
    fn hints(&self, of: Hint) -> watch::Receiver<u64>;
    /// Wakes all of them up, on all nodes.
    fn hint(&self);
}

/// Small values that all nodes of an installation share (the key of the secret hashes).
#[async_trait]
pub trait Settings: Send + Sync {
    /// The value of `name`; the first caller's `initial` becomes it.
    async fn setting(&self, name: &str, initial: &[u8]) -> Result<Vec<u8>>;
    /// A cheap look whether the backend answers.
    async fn ping(&self) -> Result<()>;
}

/// All that a backend keeps.
pub trait Store: Pairings + ApiKeys + AuditLog + Leases + Settings {}

impl<T: Pairings + ApiKeys + AuditLog + Leases + Settings> Store for T {}

/// Builds the `detail` of a [`LogEntry`]: a JSON object with sorted keys, so that equal details have equal bytes.
pub fn detail(pairs: &[(&str, &str)]) -> String {
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    serde_json::to_string(&map).unwrap_or_default()
}
