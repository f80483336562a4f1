//! What nodes tell one another: three small seams and their in-process twins.
//!
//! - [`Bus`] carries parcels to the node that holds a peer, and to all nodes that hold members of a mesh.
//! - [`Presence`] says which session of a peer is the live one, and keeps the order in which peers registered.
//! - [`Budget`] counts what is limited across nodes.
//!
//! To add a bus: implement the traits and pass `testing`'s conformance suite with a factory; then name it in
//! `heliograph-server`'s `assemble`. Nothing that rights depend on may live here: a bus may lose, repeat and delay.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heliograph_core::id::{Epoch, GatewayId, MeshName, PeerId, Version};
use heliograph_core::message::{Kind, Member, Receipt, TraceContext};

pub mod budget;
pub mod local;
#[cfg(feature = "testing")]
pub mod testing;

pub use budget::Budget;

/// A message on its way to another node.
#[derive(Debug, Clone)]
pub struct RemoteSignal {
    /// The sender, as its node authenticated it.
    pub from: PeerId,
    /// The sender's session.
    pub from_epoch: Epoch,
    /// The pairing version at which the sender's node found the sender approved.
    pub from_version: Version,
    /// What it is.
    pub kind: Kind,
    /// The sender's name for the message.
    pub id: Option<Box<str>>,
    /// The payload as JSON text.
    pub payload: Bytes,
    /// Whether the sender wants to hear that it arrived.
    pub receipt: bool,
    /// Set when the message is traced.
    pub trace: Option<TraceContext>,
}

/// What travels.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// For the session of a peer.
    Signal(RemoteSignal),
    /// For the session that sent a message: what became of it.
    Receipt {
        /// Which session.
        epoch: Epoch,
        /// What became of it.
        receipt: Receipt,
    },
    /// A newer session of this peer took over; older ones end.
    Superseded {
        /// The newer one.
        by: Epoch,
    },
    /// For all members of a mesh: a peer took its place.
    Joined(Member),
    /// For all members of a mesh: a peer gave up its place.
    Left(PeerId),
}

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To the node that holds the live session of a peer.
    Peer(MeshName, PeerId),
    /// To every node that holds members of a mesh.
    Mesh(MeshName),
}

/// What became of a parcel at once. A later failure comes back as a [`Parcel::Receipt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, in order behind earlier ones of the same sender.
    Queued,
    /// Nobody is there.
    Offline,
    /// The queue to the bus is full.
    Full,
    /// The bus cannot be reached.
    Down,
}

/// Takes what arrives from other nodes. Must not block; called from the bus's own tasks.
pub trait Inbox: Send + Sync {
    /// A parcel for `destination` arrived.
    fn arrived(&self, destination: &Destination, parcel: Parcel);
}

/// The way to the other nodes.
///
/// Parcels of one node to one destination arrive in the order of their sending, at most once each; a parcel may
/// get lost when the bus fails. A node never receives what it sent itself.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends without waiting.
    fn send(&self, destination: Destination, parcel: Parcel) -> Sent;
    /// Starts to receive for `destination`; when it answers, nothing sent from now on is missed.
    async fn subscribe(&self, destination: Destination) -> Result<(), BusError>;
    /// Stops receiving. Idempotent.
    async fn unsubscribe(&self, destination: &Destination);
    /// Whether parcels can be expected to pass.
    fn is_up(&self) -> bool;
}

/// A bus or presence call failed; the caller may try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The backend cannot be reached.
    #[error("bus unavailable: {0}")]
    Unavailable(String),
    /// A newer session of the peer exists.
    #[error("superseded by a newer session")]
    Superseded,
}

/// What a session says of itself for administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// When it was opened, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// What its client speaks, as in the `dialect` label of metrics.
    pub dialect: Cow<'static, str>,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// This session's epoch: higher than that of every earlier session of the peer.
    pub epoch: Epoch,
    /// Whether the session that it took over from had a place, wherever it was. The claimer tells the mesh.
    pub displaced: bool,
}

/// The answer to taking a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The place in the mesh's total order of registrations.
    pub place: u64,
    /// On the first call of a session: who came before. On later ones: everyone else.
    pub members: Vec<Member>,
}

/// A live session, as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// On which node.
    pub gateway: GatewayId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it has registered and is listed.
    pub placed: bool,
    /// What it said of itself.
    pub visit: Visit,
}

/// Who is on.
///
/// Every call names the epoch, and a call with an older epoch than the claimed one changes nothing: a late
/// disconnect never removes the newer session (DESIGN G5).
#[async_trait]
pub trait Presence: Send + Sync {
    /// Makes a new session of the peer the live one. Older sessions on other nodes are told by the bus.
    async fn claim(&self, mesh: &MeshName, peer: &PeerId, visit: Visit) -> Result<Claim, BusError>;
    /// Gives the session its place, or looks it up again. Of two sessions that are placed, exactly one finds the
    /// other among the members of its first call (DESIGN G9).
    async fn place(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<Placement, BusError>;
    /// Takes the place away; the session stays. Answers whether there was one.
    async fn unplace(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError>;
    /// Ends the session. Answers whether it had a place.
    async fn release(&self, mesh: &MeshName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError>;
    /// How many are placed in the mesh.
    async fn online(&self, mesh: &MeshName) -> Result<u64, BusError>;
    /// Where a peer's live session is.
    async fn locate(&self, mesh: &MeshName, peer: &PeerId) -> Result<Option<Whereabouts>, BusError>;
    /// The live nodes, this one among them.
    async fn gateways(&self) -> Result<Vec<GatewayId>, BusError>;
}

/// One node's connection to the others.
#[derive(Clone)]
pub struct Link {
    /// Parcels.
    pub bus: Arc<dyn Bus>,
    /// Sessions.
    pub presence: Arc<dyn Presence>,
    /// Shared limits.
    pub budget: Arc<dyn Budget>,
}
