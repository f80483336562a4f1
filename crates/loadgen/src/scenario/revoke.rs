//! Revocations, one after the other, while others send to one another in the same meshes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::close_all;
use super::relay::Pairs;
use crate::http::Connection;
use crate::peers::Peer;
use crate::process::ADMIN_KEY;
use crate::stats::Samples;
use crate::target::{Manner, Service};

/// Messages per second of all who are not revoked.
const RATE: u32 = 1_000;
/// The load goes on in pieces of this length until the last peer is revoked.
const PIECE: Duration = Duration::from_millis(500);

/// How long revocations took, in nanoseconds.
#[derive(Debug)]
pub struct Revocations {
    /// Until the administrator had the answer that it holds on all nodes.
    pub answered: Samples,
    /// Of it, what was waited for the nodes after the change was stored, as the answer says (in whole milliseconds).
    pub waited: Samples,
}

/// Each of `victims` joins and is then revoked through another node, while neighbours of `peers` send to one another.
/// Every node has to acknowledge each revocation.
pub async fn run(service: &Service, peers: &[Peer], victims: &[Peer]) -> anyhow::Result<Revocations> {
    let mut pairs = Pairs::open(service, peers, peers.len() / 2, Manner::Plain).await?;
    let done = Cell::new(false);
    let load = async {
        while !done.get() {
            pairs.open_loop(service, RATE, PIECE, false).await?;
        }
        anyhow::Ok(())
    };
    let revocations = async {
        let result = revoke(service, victims).await;
        done.set(true);
        result
    };
    let (revoked, ()) = tokio::try_join!(revocations, load)?;
    pairs.close().await?;
    Ok(revoked)
}

async fn revoke(service: &Service, victims: &[Peer]) -> anyhow::Result<Revocations> {
    let mut nodes = vec![];
    for node in &service.nodes {
        nodes.push(Connection::open(node.address).await?);
    }
    let (mut answered, mut waited, mut clients) = (Samples::default(), Samples::default(), vec![]);
    for (index, victim) in victims.iter().enumerate() {
        clients.push(service.node(index).join(victim, index, Manner::Full).await?);
        let by = (index + 1) % nodes.len();
        let path = format!("/api/pairing/{}/revoke?mesh={}", victim.id, victim.mesh);
        let begun = Instant::now();
        let answer = nodes[by].request("POST", &path, &format!("x-api-key: {ADMIN_KEY}\r\n")).await?;
        answered.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        waited.add(waited_ms(&answer.body, nodes.len()).context("a revocation")? * 1_000_000);
    }
    close_all(clients).await?;
    Ok(Revocations { answered, waited })
}

/// The wait that a report tells of, if all nodes have acknowledged.
fn waited_ms(report: &str, nodes: usize) -> anyhow::Result<u64> {
    let report: Value = serde_json::from_str(report)?;
    let acknowledged = report["acknowledged"].as_array().map_or(0, Vec::len);
    ensure!(report["enforced"] == true && acknowledged == nodes, "not enforced by all nodes: {report}");
    report["waited_ms"].as_u64().context("no waited_ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_nodes_acknowledged_counts() {
        let report = |enforced: bool, nodes: &str| {
            format!(r#"{{"enforced":{enforced},"acknowledged":[{nodes}],"waited_ms":7}}"#)
        };
        assert_eq!(waited_ms(&report(true, r#""a","b""#), 2).ok(), Some(7));
        assert!(waited_ms(&report(true, r#""a""#), 2).is_err());
        assert!(waited_ms(&report(false, r#""a","b""#), 2).is_err());
        assert!(waited_ms("nonsense", 1).is_err());
    }
}
