//! Memory of sockets that do nothing.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{close_all, side_by_side};
use crate::peers::Peer;
use crate::procfs::Memory;
use crate::target::{Manner, Target};

/// Joins under way at any time.
const WIDTH: usize = 16;
/// Peers that come and go before anything is measured.
const WARM_UP: usize = 100;

/// Memory per socket at some number of them, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerSocket {
    /// How many sockets there were.
    pub sockets: usize,
    /// Growth of the resident set, divided by them.
    pub rss: f64,
    /// Growth of the proportional share, divided by them.
    pub pss: f64,
}

/// Peers join until there are as many as each of `steps` (ascending) says; then it is quiet for `settle`, and the
/// memory is measured. They leave when this returns.
pub async fn run(
    target: &Target,
    peers: &[Peer],
    steps: &[usize],
    settle: Duration,
) -> anyhow::Result<Vec<PerSocket>> {
    warm_up(target, peers, settle).await?;
    let before = Memory::of(target.pid)?;
    let mut idle = JoinSet::new();
    let mut results = vec![];
    for &step in steps {
        let joined = idle.len();
        let newcomers = peers.iter().enumerate().take(step).skip(joined);
        let work = async |(index, peer)| target.join(peer, index, Manner::Plain).await;
        for client in side_by_side(newcomers, WIDTH, work).await? {
            idle.spawn(client.idle());
        }
        tokio::time::sleep(settle).await;
        let now = Memory::of(target.pid)?;
        anyhow::ensure!(idle.len() == step && idle.try_join_next().is_none(), "an idle socket was closed");
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / step as f64;
        results.push(PerSocket {
            sockets: step,
            rss: each(now.rss, before.rss),
            pss: each(now.pss, before.pss),
        });
    }
    Ok(results)
}

/// A few peers come and go: what a process takes once, such as pages of its program, is not the sockets' memory.
pub(crate) async fn warm_up(target: &Target, peers: &[Peer], settle: Duration) -> anyhow::Result<()> {
    let first = &peers[..peers.len().min(WARM_UP)];
    let work = async |(index, peer)| target.join(peer, index, Manner::Plain).await;
    close_all(side_by_side(first.iter().enumerate(), WIDTH, work).await?).await?;
    tokio::time::sleep(settle).await;
    Ok(())
}
