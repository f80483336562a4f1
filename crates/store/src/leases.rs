//! Leases of the gateways on the pairing state, and the feed of its changes.

use async_trait::async_trait;
use heliograph_core::authority::Standing;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use tokio::sync::watch;

use crate::Result;

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
