//! The node that this process is, as administration sees it.

use heliograph_core::id::{GatewayId, Version};
use tokio::sync::watch;

/// What the server tells of its gateway, and the one thing it can be asked to do.
pub trait NodeControl: Send + Sync {
    /// The node's name, new at each boot.
    fn id(&self) -> GatewayId;
    /// Live sessions here.
    fn sessions(&self) -> u64;
    /// How far changes of the pairing state are applied.
    fn version(&self) -> Version;
    /// Whether the authorization lease is held.
    fn authorization_current(&self) -> bool;
    /// Whether parcels can be expected to pass between nodes.
    fn bus_up(&self) -> bool;
    /// Whether the node is on its way out.
    fn is_draining(&self) -> bool;
    /// Starts a paced drain, or takes it back. Idempotent; returns at once.
    fn drain(&self, on: bool);
    /// Wakes up when sessions come or go. The value means nothing.
    fn presence_changes(&self) -> watch::Receiver<u64>;
}
