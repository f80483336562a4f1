//! Joining and leaving, and the token exchange before it.

use anyhow::ensure;

use super::{Cost, Meter, close_all, side_by_side};
use crate::http::Connection;
use crate::peers::Peer;
use crate::target::{Dialect, Manner, Target};

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

/// All `peers` join and stay until the last has its list; then all leave.
pub async fn run(target: &Target, peers: &[Peer]) -> anyhow::Result<Coming> {
    let meter = Meter::start(target)?;
    let work = async |(index, peer)| target.join(peer, index, Manner::Plain).await;
    let clients = side_by_side(peers.iter().enumerate(), WIDTH, work).await?;
    let pieces = clients.len() as u64;
    let join = meter.stop(pieces)?;
    let meter = Meter::start(target)?;
    close_all(clients).await?;
    Ok(Coming { join, leave: meter.stop(pieces)? })
}

/// Each of `peers` exchanges its key for a token: on a few connections that stay open, or on a `fresh` one each.
pub async fn exchanges(target: &Target, peers: &[Peer], fresh: bool) -> anyhow::Result<Cost> {
    ensure!(target.dialect != Dialect::Bare, "the bare relay knows no tokens");
    let per_connection = if fresh { 1 } else { peers.len().div_ceil(WIDTH).max(1) };
    let meter = Meter::start(target)?;
    side_by_side(peers.chunks(per_connection), WIDTH, async |chunk| {
        let mut connection = Connection::open(target.address).await?;
        for peer in chunk {
            connection.exchange(&peer.key()).await?;
        }
        Ok(())
    })
    .await?;
    meter.stop(peers.len() as u64)
}
