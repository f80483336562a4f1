//! Joining and leaving, and the token exchange before it.

use anyhow::ensure;

use super::{Cost, Meter, close_all, side_by_side};
use crate::http::Connection;
use crate::peers::Peer;
use crate::target::{Manner, Service};

/// Joins under way at any time.
const WIDTH: usize = 16;

/// What coming and going costs.
#[derive(Debug, Clone, Copy)]
pub struct Coming {
    /// Per join: connection, upgrade and registration until the list is there.
    pub join: Cost,
    /// Per leave: the closing handshake.
    pub leave: Cost,
}

/// All `peers` join, at the nodes in turns, and stay until the last has its list; then all leave.
pub async fn run(service: &Service, peers: &[Peer]) -> anyhow::Result<Coming> {
    let meter = Meter::start(service)?;
    let work = async |(index, peer)| service.node(index).join(peer, index, Manner::Plain).await;
    let clients = side_by_side(peers.iter().enumerate(), WIDTH, work).await?;
    let pieces = clients.len() as u64;
    let join = meter.stop(pieces)?;
    let meter = Meter::start(service)?;
    close_all(clients).await?;
    Ok(Coming { join, leave: meter.stop(pieces)? })
}

/// Each of `peers` comes as a device does: it exchanges its key for a token on a connection of its own, then joins. All
/// stay until the last has its list.
pub async fn arrivals(service: &Service, peers: &[Peer]) -> anyhow::Result<Cost> {
    ensure!(service.speaks_mesh(), "the bare relay knows no tokens");
    let meter = Meter::start(service)?;
    let work = async |(index, peer): (usize, &Peer)| {
        let node = service.node(index);
        Connection::open(node.address).await?.exchange(&peer.key()).await?;
        node.join(peer, index, Manner::Plain).await
    };
    let clients = side_by_side(peers.iter().enumerate(), WIDTH, work).await?;
    let cost = meter.stop(clients.len() as u64)?;
    close_all(clients).await?;
    Ok(cost)
}

/// Each of `peers` exchanges its key for a token: on a few connections that stay open, or on a `fresh` one each; the
/// connections at the nodes in turns.
pub async fn exchanges(service: &Service, peers: &[Peer], fresh: bool) -> anyhow::Result<Cost> {
    ensure!(service.speaks_mesh(), "the bare relay knows no tokens");
    let per_connection = if fresh { 1 } else { peers.len().div_ceil(WIDTH).max(1) };
    let meter = Meter::start(service)?;
    side_by_side(peers.chunks(per_connection).enumerate(), WIDTH, async |(index, chunk)| {
        let mut connection = Connection::open(service.node(index).address).await?;
        for peer in chunk {
            connection.exchange(&peer.key()).await?;
        }
        Ok(())
    })
    .await?;
    meter.stop(peers.len() as u64)
}
