//! A Redis Cluster, formed by hand: `redis-cli --cluster create` takes twice as long.

use anyhow::{Context, Result, ensure};

use super::client::Reply;
use super::node::RedisNode;
use super::{Settings, start_all};
use crate::folder::Folder;
use crate::wait::until;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// Slots of a Cluster.
const SLOTS: usize = 16_384;

/// Starts the nodes and makes them one Cluster. The first half are masters, the others their replicas in this order.
pub(super) async fn start(folder: &Folder) -> Result<Vec<RedisNode>> {
    let nodes = start_all(NODES, folder, "node", &settings()).await?;
    let (masters, replicas) = nodes.split_at(MASTERS);
    for (index, node) in masters.iter().enumerate() {
        let (first, last) = (index * SLOTS / MASTERS, (index + 1) * SLOTS / MASTERS - 1);
        // Different from the start, or they would have to agree on an order first.
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
        node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
    }
    for (index, node) in nodes.iter().enumerate() {
        for other in nodes.iter().skip(index + 1) {
            let at = other.address();
            node.command(&["CLUSTER", "MEET", &at.ip().to_string(), &at.port().to_string()]).await?;
        }
    }
    for (master, replica) in masters.iter().zip(replicas) {
        let id = master.command(&["CLUSTER", "MYID"]).await?;
        until("a replica knows its master", async || {
            Ok(replica.command(&["CLUSTER", "REPLICATE", id.text()]).await.ok())
        })
        .await?;
    }
    Ok(nodes)
}

/// So that a replica takes over soon after its master is gone, also when it was never a replica for long.
fn settings() -> Settings {
    let arguments = [
        ["--cluster-enabled", "yes"],
        ["--cluster-config-file", "nodes.conf"],
        ["--cluster-node-timeout", "1000"],
        ["--cluster-replica-validity-factor", "0"],
        ["--repl-diskless-sync-delay", "0"],
        // `CLUSTER SLOTS` does not name a replica before the first of these has reached it.
        ["--repl-ping-replica-period", "1"],
    ];
    Settings { arguments: arguments.concat().into_iter().map(str::to_owned).collect(), ..Settings::default() }
}

/// Whether all running nodes agree on a running master for every slot, and no running replica is behind.
pub(super) async fn is_served(nodes: &[RedisNode]) -> Result<bool> {
    let running = || nodes.iter().filter(|node| node.is_running());
    let mut agreed: Option<Vec<Range>> = None;
    for node in running() {
        let state = node.command(&["CLUSTER", "INFO"]).await?;
        let ranges = ranges(node).await?;
        let is_complete = state.field("cluster_state") == Some("ok")
            && ranges.iter().map(Range::len).sum::<usize>() == SLOTS
            && ranges.iter().all(|range| running().any(|node| node.address().port() == range.ports[0]))
            && running().all(|node| ranges.iter().any(|range| range.ports.contains(&node.address().port())));
        if !is_complete
            || agreed.as_ref().is_some_and(|agreed| *agreed != ranges)
            || !node.is_in_sync().await?
        {
            return Ok(false);
        }
        agreed = Some(ranges);
    }
    Ok(agreed.is_some())
}

/// The node that serves a slot, as the first running node says.
pub(super) async fn master_of(nodes: &[RedisNode], slot: u16) -> Result<usize> {
    let asked = nodes.iter().find(|node| node.is_running()).context("no node is running")?;
    let ranges = ranges(asked).await?;
    let range = ranges.iter().find(|range| (range.first..=range.last).contains(&i64::from(slot)));
    let port = range.context("nobody serves this slot")?.ports[0];
    nodes.iter().position(|node| node.address().port() == port).context("its master is none of ours")
}

/// Slots and who serves them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: i64,
    last: i64,
    /// The master's, then those of its replicas in order.
    ports: Vec<u16>,
}

impl Range {
    fn len(&self) -> usize {
        usize::try_from(self.last + 1 - self.first).unwrap_or(0)
    }
}

async fn ranges(node: &RedisNode) -> Result<Vec<Range>> {
    let slots = node.command(&["CLUSTER", "SLOTS"]).await?;
    let mut ranges = slots.list().iter().map(range).collect::<Result<Vec<_>>>()?;
    ranges.sort();
    Ok(ranges)
}

/// From one item of the answer to `CLUSTER SLOTS`: first slot, last slot, nodes as address, port and more.
fn range(item: &Reply) -> Result<Range> {
    let [first, last, nodes @ ..] = item.list() else { anyhow::bail!("not a range of slots: {item}") };
    let number = |reply: &Reply| reply.number().context("not a number");
    let port = |node: &Reply| Ok(u16::try_from(number(node.list().get(1).context("no port")?)?)?);
    let mut ports = nodes.iter().map(port).collect::<Result<Vec<u16>>>()?;
    ensure!(!ports.is_empty(), "nobody serves slot {first}");
    ports[1..].sort_unstable();
    Ok(Range { first: number(first)?, last: number(last)?, ports })
}
