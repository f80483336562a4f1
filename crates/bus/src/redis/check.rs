//! A look at Redis without joining the nodes on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connect::Connector;
use super::layout::look;
use super::options::Options;
use crate::BusError;

/// What a look at Redis found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The servers that carry messages.
    pub servers: Vec<String>,
    /// Whether every partition has one.
    pub complete: bool,
    /// Whether they have sharded pub/sub (Redis 7).
    pub sharded: bool,
}

/// Looks whether the servers can be reached and used, as a node would, and leaves nothing behind.
pub async fn check(options: Options) -> Result<Found, BusError> {
    let unavailable = |error: super::connect::ConnectError| BusError::Unavailable(error.to_string());
    let connector = Arc::new(Connector::new(options).map_err(unavailable)?);
    let layout = look(&connector, &[]).await.map_err(unavailable)?;
    let servers: BTreeSet<String> = layout.owners.iter().flatten().map(ToString::to_string).collect();
    let complete = layout.owners.iter().all(Option::is_some);
    Ok(Found { servers: servers.into_iter().collect(), complete, sharded: layout.server.sharded_pubsub })
}
