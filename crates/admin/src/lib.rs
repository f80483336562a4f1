//! HTTP for pairing and administration, the console and the pages, health and metrics.
//!
//! One file per group of endpoints; `routes.rs` says which path leads where. What they share: `caller.rs` (who asks,
//! and for which mesh), `budgets.rs` (failures that count), `failure.rs` (storage errors as problem documents),
//! `feed.rs` (the log, followed once for all who wait), `enforcement.rs` (when a revoke has reached every node).
//!
//! To add an endpoint: a handler in its group's file, a line in `routes.rs`, its description in `openapi.json`; a
//! test holds the last two against each other.
//!
//! What must never be true here: a secret in a log line or an error; an `enforced: true` before every lease that
//! was live at the commit has acknowledged or run out; an answer that tells a wrong code from a used one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heliograph_auth::secret::Hasher;
use heliograph_bus::Link;
use heliograph_core::limits::Limits;
use heliograph_store::{Store, UnixMillis};
use prometheus::{IntCounterVec, Registry};

mod app;
mod audit;
mod budgets;
mod caller;
mod codes;
mod decisions;
mod devices;
mod enforcement;
mod events;
mod failure;
mod feed;
mod gateways;
mod groups;
mod invites;
mod keys;
mod lists;
mod metrics;
mod node;
mod ops;
mod pages;
mod peers;
mod revocation;
mod routes;
#[cfg(test)]
mod tests;

pub use app::Admin;
pub use node::NodeControl;
pub use pages::root_page;
pub use routes::{admin_router, assets_router, ops_router, pages_router, public_router};

/// Answers the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// How the service was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For a newcomer on one machine: `/` is the demonstration page.
    Dev,
    /// A cluster node: `/` only names the service.
    Serve,
}

/// What [`Admin`] is made of.
pub struct Parts {
    /// Where pairing, keys, leases and the log are kept.
    pub store: Arc<dyn Store>,
    /// Sessions and shared limits.
    pub link: Link,
    /// Hashes secrets for the store.
    pub hasher: Arc<Hasher>,
    /// What the operator configured.
    pub limits: Limits,
    /// The term of the authorization lease, as the gateways hold it.
    pub lease_term: Duration,
    /// The node that this process is.
    pub node: Arc<dyn NodeControl>,
    /// The time for records and the expiry of invites.
    pub clock: Clock,
    /// Where metrics are registered, and what `/metrics` shows.
    pub registry: Registry,
    /// `heliograph_rate_limited_total{limit}`, which the gateway has registered.
    pub rate_limited: IntCounterVec,
    /// How the service was started.
    pub mode: Mode,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("mode", &self.mode).finish_non_exhaustive()
    }
}
