//! Whole set-ups: what two peers need from the server to connect to each other.

use super::{Cost, Meter, side_by_side};
use crate::peers::Peer;
use crate::target::{Kind, Manner, Service, Target, from_peer};

/// Candidates that each side sends.
pub const CANDIDATES: usize = 10;
/// Set-ups under way at any time.
const WIDTH: usize = 8;

/// `count` set-ups, each by two neighbours of `peers`: both join, offer, answer, candidates each way, both leave.
///
/// Where there are several nodes, the two are at different ones.
pub async fn run(service: &Service, peers: &[Peer], count: usize, manner: Manner) -> anyhow::Result<Cost> {
    let couples: Vec<_> = peers.chunks_exact(2).collect();
    let meter = Meter::start(service)?;
    // No two set-ups under way share a peer: there are more couples than the width.
    let done =
        side_by_side(couples.into_iter().cycle().take(count).enumerate(), WIDTH, async |(index, couple)| {
            let nodes = [service.node(index), service.node(index + 1)];
            one(nodes, &couple[0], &couple[1], manner).await
        })
        .await?;
    meter.stop(done.len() as u64)
}

async fn one(
    [target, other]: [&Target; 2],
    first: &Peer,
    second: &Peer,
    manner: Manner,
) -> anyhow::Result<()> {
    let mut there = other.join(second, 0, manner).await?;
    let mut here = target.join(first, 0, manner).await?;
    here.writer().write(&target.message(Kind::Offer, first, second, None)).await?;
    from_peer(&mut there).await?;
    there.writer().write(&target.message(Kind::Answer, second, first, None)).await?;
    from_peer(&mut here).await?;
    let outward = target.message(Kind::Candidate, first, second, None);
    let inward = target.message(Kind::Candidate, second, first, None);
    for _ in 0..CANDIDATES {
        // Each by itself, as ICE agents find them.
        here.writer().write(&outward).await?;
        there.writer().write(&inward).await?;
    }
    for _ in 0..CANDIDATES {
        from_peer(&mut here).await?;
        from_peer(&mut there).await?;
    }
    here.close().await?;
    there.close().await
}
