//! What nodes tell one another: three small seams and their implementations.
//!
//! - [`Bus`] carries parcels to the node that holds a peer, to all nodes that hold members of a space (a mesh, or a room
//!   of one), and to one node.
//! - [`Presence`] says which session of a peer is the live one, keeps the order in which peers registered, and tells
//!   the nodes of a space who came and went.
//! - [`Budget`] counts what is limited across nodes.
//!
//! [`local`] serves the nodes of one process, `redis` those of a cluster. To add a bus: implement the traits and pass
//! `testing`'s conformance suite with a factory; then name it in `heliograph-server`'s `backends`. Nothing that rights
//! depend on may live here: a bus may lose, repeat and delay.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName, Version};
use heliograph_core::message::{Capabilities, Kind, Member, Receipt, TraceContext};
use tokio::sync::watch;

pub mod budget;
pub mod local;
pub mod redis;
#[cfg(feature = "testing")]
pub mod testing;

pub use budget::Budget;

/// A message on its way to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// When the sender's node accepted it, in microseconds since the Unix epoch by that node's clock. For the
    /// histogram of latencies alone: clocks of nodes differ.
    pub accepted_unix_us: u64,
    /// Set when the message is traced.
    pub trace: Option<TraceContext>,
    /// In a room of paired peers: the peer of the mesh by whose right the sender is there.
    pub behind: Option<PeerId>,
}

/// What a bus remembers of a message until it knows that somebody received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The sender.
    pub from: PeerId,
    /// The sender's session.
    pub from_epoch: Epoch,
    /// The sender's name for the message.
    pub id: Option<Box<str>>,
}

/// A session comes back and asks for what its former self left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The space.
    pub space: SpaceName,
    /// The peer.
    pub peer: PeerId,
    /// The new session.
    pub by: Epoch,
    /// Where it is.
    pub to: GatewayId,
    /// What the former session gave its client as a proof.
    pub token: Box<str>,
    /// The number of the last thing that the client got, where it says so.
    pub received: Option<u64>,
}

/// The session that a [`TakeOver`] is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heir {
    /// The space.
    pub space: SpaceName,
    /// The peer.
    pub peer: PeerId,
    /// The new session.
    pub by: Epoch,
}

/// Something that was on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A message of another peer.
    Signal(RemoteSignal),
    /// What became of a message of its own.
    Receipt(Receipt),
}

/// A message of which its sender has not heard yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// The sender's name for it.
    pub id: Box<str>,
    /// For whom it was.
    pub target: Box<str>,
}

/// What a session leaves to the one that resumes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Estate {
    /// What its client could do.
    pub capabilities: Capabilities,
    /// Its place, if it was registered and listed.
    pub place: Option<u64>,
    /// The epoch of the first session in this chain of resumptions: receipts for any since then are for the heir.
    pub first_epoch: Epoch,
    /// The number of the next thing that is written to the client.
    pub next_seq: u64,
    /// What was written, with its numbers, and did not reach the client as far as is known.
    pub written: Vec<(u64, Due)>,
    /// What was not written yet.
    pub waiting: Vec<Due>,
    /// What the client sent and has no answer for.
    pub unanswered: Vec<Unanswered>,
    /// How many are known to be lost.
    pub lost: u64,
}

/// The answer to a [`TakeOver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// The space.
    pub space: SpaceName,
    /// The peer.
    pub peer: PeerId,
    /// The session that asked.
    pub by: Epoch,
    /// `None`: nothing is known under that token.
    pub estate: Option<Estate>,
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// For the session of a peer.
    Signal(RemoteSignal),
    /// For all members of a room but the sender, who are on the receiving node.
    Broadcast(RemoteSignal),
    /// For the session that sent a message: what became of it.
    Receipt {
        /// Which session.
        epoch: Epoch,
        /// What became of it.
        receipt: Receipt,
    },
    /// A fence in the channel of a peer: what comes before it is for older sessions, what comes after it for this
    /// one, and older ones end. The node that sends it receives it too, in its place among the others.
    Superseded {
        /// The newer one.
        by: Epoch,
    },
    /// News for all members of a space: a peer took its place.
    Joined(Member),
    /// News for all members of a space: a peer gave up its place.
    Left {
        /// The peer, and the place that it had.
        member: Member,
        /// When, in the space's order of places: whoever has a later place never saw the peer there.
        at: u64,
    },
    /// For a node: hand over what a session left.
    TakeOver(TakeOver),
    /// For a node: what the session left.
    HandOver(HandOver),
    /// For a node: drain, or stop draining.
    Drain {
        /// False takes it back.
        on: bool,
    },
}

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To the node that holds the live session of a peer.
    Peer(SpaceName, PeerId),
    /// To every node that holds members of a space.
    Space(SpaceName),
    /// To one node. Every node receives its own from the start.
    Gateway(GatewayId),
}

/// What became of a parcel at once. What fails later comes back by [`Inbox::returned`] or as a [`Parcel::Receipt`].
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

/// Why a parcel came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nobody received it.
    Offline,
    /// The bus failed. It may have arrived all the same.
    Down,
}

/// Takes what arrives from other nodes. Must not block; called from the bus's own tasks.
pub trait Inbox: Send + Sync {
    /// A parcel for `destination` arrived.
    fn arrived(&self, destination: &Destination, parcel: Parcel);
    /// A [`Parcel::Signal`] that was queued for `destination` was lost.
    fn returned(&self, destination: &Destination, witness: Witness, why: Lost);
    /// Nobody received a [`Parcel::TakeOver`] that was queued: the node that it was for is gone.
    fn nobody_hands_over(&self, to: &Heir);
}

/// The way to the other nodes.
///
/// Parcels of one node to one destination arrive in the order of their sending, at most once each; all nodes that
/// subscribe to a destination see its parcels in the same order. A parcel may get lost when the bus fails. A node does
/// not receive what it sent itself, but for [`Parcel::Superseded`].
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends without waiting.
    fn send(&self, destination: Destination, parcel: Parcel) -> Sent;
    /// Starts to receive for `destination`; when it answers, nothing sent from now on is missed.
    async fn subscribe(&self, destination: Destination) -> Result<(), BusError>;
    /// Stops receiving. Idempotent.
    async fn unsubscribe(&self, destination: &Destination);
    /// Whether parcels can be expected to pass, both ways, and presence answers.
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
    /// The space has as many members as it may have.
    #[error("the room is full")]
    Full,
}

/// What a session says of itself for administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// When it was opened, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// What its client speaks, as in the `dialect` label of metrics.
    pub dialect: Cow<'static, str>,
    /// What it shows to the other members of its space: UTF-8.
    pub profile: Option<Bytes>,
}

/// The session that a claim took over from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Where it is; that node lives, as far as is known.
    pub gateway: GatewayId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its place, which the new session inherits until it takes one of its own or ends. Hidden until then: whoever
    /// registers meanwhile is not told of the peer, since it may yet begin anew and be told of them.
    pub place: Option<u64>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// This session's epoch: higher than that of every earlier session of the peer.
    pub epoch: Epoch,
    /// Whom it took over from. If that is on another node, the claimer sends [`Parcel::Superseded`] as soon as it
    /// receives the peer's parcels itself.
    pub previous: Option<Previous>,
}

/// Which place a session wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A new one: what it had or inherited is given up.
    New,
    /// The one that it has or inherited; a new one only if there is none.
    Same,
}

/// The answer to taking a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The place in the space's total order of registrations.
    pub place: u64,
    /// With a new place: who came before. Otherwise: everyone else.
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

/// A session as its node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The space.
    pub space: SpaceName,
    /// The peer.
    pub peer: PeerId,
    /// The session's epoch.
    pub epoch: Epoch,
    /// Its place, if it has one.
    pub place: Option<u64>,
    /// Whether the place is hidden: its client is away.
    pub hidden: bool,
    /// What it said of itself.
    pub visit: Visit,
}

/// What became of a [`Seat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reseated {
    /// It is there as it was said.
    Kept,
    /// A newer session of the peer exists.
    Superseded(Epoch),
    /// It had been given up for lost: it has a new place, and these are all the others. Their nodes were told.
    Moved(Placement),
}

/// What a node says of itself to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub id: GatewayId,
    /// Sessions that are open there.
    pub sessions: u64,
    /// The version of its program.
    pub version: Cow<'static, str>,
    /// Whether it drains.
    pub draining: bool,
}

/// Who is on.
///
/// Every call names the epoch, and a call with an older epoch than the claimed one changes nothing: a late
/// disconnect never removes the newer session (DESIGN G5).
///
/// Whoever comes or goes is told to all nodes that subscribe to the space, the caller's own among them, as
/// [`Parcel::Joined`] and [`Parcel::Left`] in one order, the one in which it happened.
///
/// What is kept here are hints; the truth is with the nodes that hold the sockets. After the backend was away or was
/// emptied, [`Self::upheavals`] changes, every node says with [`Self::reseat`] whom it has, and only then claims and
/// places are answered again, so that no list is without those who were there before (DESIGN G9).
#[async_trait]
pub trait Presence: Send + Sync {
    /// Makes a new session of the peer the live one. The place of the former one is inherited and hidden; nobody is
    /// told anything yet.
    async fn claim(&self, space: &SpaceName, peer: &PeerId, visit: Visit) -> Result<Claim, BusError> {
        self.claim_within(space, peer, visit, 0).await
    }
    /// As [`Self::claim`], unless the space has `most` sessions already and none of this peer: then
    /// [`BusError::Full`]. 0: no bound. In a room an inherited place stays listed: its members are no pairs of which
    /// one has to begin, and who comes meanwhile must not miss one who was there all the time.
    async fn claim_within(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        visit: Visit,
        most: u32,
    ) -> Result<Claim, BusError>;
    /// Gives the session a place, or looks it up again, and lists it if it was hidden. Of two sessions that take a new place, exactly one finds the
    /// other among the members (DESIGN G9).
    async fn place(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        epoch: Epoch,
        place: Place,
    ) -> Result<Placement, BusError>;
    /// Lists the session no more, but keeps its place, and tells nobody: its client is away and may come back.
    async fn hide(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<(), BusError>;
    /// Takes the place away; the session stays. Answers whether there was one.
    async fn unplace(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError>;
    /// Ends the session, and its place. Answers whether it had one. If the backend is away, it is done later.
    async fn release(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError>;
    /// How many are listed in the space.
    async fn online(&self, space: &SpaceName) -> Result<u64, BusError>;
    /// Where a peer's live session is.
    async fn locate(&self, space: &SpaceName, peer: &PeerId) -> Result<Option<Whereabouts>, BusError>;
    /// Changes when presence may have lost something, and once at the start: then [`Self::reseat`] is due.
    fn upheavals(&self) -> watch::Receiver<u64>;
    /// Says all sessions of this node, none left out; answers what became of each, in the same order.
    async fn reseat(&self, seats: &[Seat]) -> Result<Vec<Reseated>, BusError>;
    /// What the others are to know of this node from now on.
    fn report(&self, status: NodeStatus);
    /// The live nodes, this one among them.
    async fn gateways(&self) -> Result<Vec<NodeStatus>, BusError>;
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
