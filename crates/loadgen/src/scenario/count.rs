//! What a message, and a peer that comes and goes, ask of the servers behind the nodes.

use super::join;
use super::relay::Pairs;
use crate::cluster::{Asked, Cluster, Databases};
use crate::peers::Peer;
use crate::target::Manner;

/// Pairs that send.
const PAIRS: usize = 50;

/// Per message, or per peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Each {
    /// Redis commands that publish.
    pub publishes: f64,
    /// All Redis commands, those too by which nodes show at all times that they live.
    pub commands: f64,
    /// SQL statements, those too.
    pub statements: f64,
}

/// Sends `each` messages between each pair of `peers` and counts what they cause. With `apart`, the two of a pair are at
/// different nodes; otherwise all are at the first.
pub async fn run(
    cluster: &Cluster,
    databases: &Databases,
    peers: &[Peer],
    each: u32,
    apart: bool,
    manner: Manner,
) -> anyhow::Result<Each> {
    let mut service = cluster.service().clone();
    if !apart {
        service.nodes.truncate(1);
    }
    let mut pairs = Pairs::open(&service, peers, PAIRS, manner).await?;
    let before = cluster.asked(Some(databases)).await?;
    let messages = pairs.exactly(each).await?;
    let after = cluster.asked(Some(databases)).await?;
    pairs.close().await?;
    Ok(Each::of(&before, &after, messages))
}

/// All `peers` exchange their keys for tokens, join and leave, the nodes in turns.
pub async fn visits(cluster: &Cluster, databases: &Databases, peers: &[Peer]) -> anyhow::Result<Each> {
    let before = cluster.asked(Some(databases)).await?;
    join::arrivals(cluster.service(), peers).await?;
    let after = cluster.asked(Some(databases)).await?;
    Ok(Each::of(&before, &after, peers.len() as u64))
}

impl Each {
    fn of(before: &Asked, after: &Asked, pieces: u64) -> Self {
        let each = |count: u64| count as f64 / pieces as f64;
        Self {
            publishes: each(after.publishes_since(before)),
            commands: each(after.commands_since(before, |_| true)),
            statements: each(after.statements.saturating_sub(before.statements)),
        }
    }
}
