//! All peers of one large mesh register at the same moment.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::idle::warm_up;
use super::{close_all, side_by_side};
use crate::peers::Peer;
use crate::procfs::Memory;
use crate::target::{Manner, Target, await_list};

/// What one wave did, in a process that may have seen others before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wave {
    /// From the first registration to the last list, in milliseconds.
    pub all_listed_ms: f64,
    /// Resident before the first wave of this process, in bytes.
    pub idle: u64,
    /// The most that was resident so far, in bytes.
    pub peak: u64,
    /// Resident when all had left and `settle` had passed, in bytes.
    pub after: u64,
}

/// `peers` connect; then all register at once, and leave when each has its list. `rounds` times over.
pub async fn run(
    target: &Target,
    peers: &[Peer],
    rounds: usize,
    settle: Duration,
) -> anyhow::Result<Vec<Wave>> {
    warm_up(target, peers, settle).await?;
    let idle = Memory::of(target.pid)?.rss;
    let mut waves = vec![];
    for _ in 0..rounds {
        let connect = async |(index, peer)| Ok((target.connect(peer, index).await?, peer));
        let mut connected = side_by_side(peers.iter().enumerate(), 16, connect).await?;
        let begun = Instant::now();
        try_join_all(connected.iter().map(async |(client, peer)| {
            match target.registration(peer, Manner::Plain) {
                Some(text) => client.send(&text).await,
                None => Ok(()),
            }
        }))
        .await?;
        try_join_all(connected.iter_mut().map(async |(client, _)| await_list(client).await)).await?;
        let all_listed_ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let peak = Memory::of(target.pid)?.peak;
        close_all(connected.into_iter().map(|(client, _)| client).collect()).await?;
        tokio::time::sleep(settle).await;
        let after = Memory::of(target.pid)?.rss;
        waves.push(Wave { all_listed_ms, idle, peak, after });
    }
    Ok(waves)
}
