//! A primary and its replicas under the eyes of Sentinels.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::client::Reply;
use super::node::RedisNode;
use super::{Role, Settings, start_all};
use crate::folder::Folder;

/// The name under which the Sentinels watch.
pub(super) const SERVICE: &str = "main";
/// The primary and its replicas.
const NODES: usize = 3;
const SENTINELS: usize = 3;
/// Sentinels that have to agree.
const QUORUM: &str = "2";

/// Starts data nodes, of which the first is the primary, and Sentinels.
pub(super) async fn start(folder: &Folder) -> Result<(Vec<RedisNode>, Vec<RedisNode>)> {
    let arguments = ["--repl-diskless-sync-delay".to_owned(), "0".to_owned()];
    let data = Settings { arguments: arguments.to_vec(), ..Settings::default() };
    let watch = Settings { role: Role::Sentinel, ..Settings::default() };
    let (nodes, sentinels) = tokio::try_join!(
        start_all(NODES, folder, "node", &data),
        start_all(SENTINELS, folder, "sentinel", &watch)
    )?;
    let primary = nodes.first().context("a primary")?.address();
    let (host, port) = (primary.ip().to_string(), primary.port().to_string());
    for replica in nodes.iter().skip(1) {
        replica.command(&["REPLICAOF", &host, &port]).await?;
    }
    for sentinel in &sentinels {
        // How often they look at the nodes and tell each other. By default a primary that comes back after another
        // took over stays one for eight seconds.
        sentinel.command(&["SENTINEL", "DEBUG", "INFO-PERIOD", "1000", "PUBLISH-PERIOD", "500"]).await?;
        sentinel.command(&["SENTINEL", "MONITOR", SERVICE, &host, &port, QUORUM]).await?;
        // A second attempt comes after twice the time-out of the first.
        for [name, value] in [["down-after-milliseconds", "1000"], ["failover-timeout", "3000"]] {
            sentinel.command(&["SENTINEL", "SET", SERVICE, name, value]).await?;
        }
    }
    Ok((nodes, sentinels))
}

/// The node that the first Sentinel names.
pub(super) async fn primary(nodes: &[RedisNode], sentinels: &[RedisNode]) -> Result<usize> {
    let view = View::of(sentinels.first().context("a Sentinel")?).await?;
    position(nodes, view.primary).context("the Sentinels name a primary that is none of ours")
}

/// Whether all Sentinels know each other and name one running primary that all running replicas follow.
pub(super) async fn is_served(nodes: &[RedisNode], sentinels: &[RedisNode]) -> Result<bool> {
    let primary = primary(nodes, sentinels).await?;
    for sentinel in sentinels {
        let view = View::of(sentinel).await?;
        if position(nodes, view.primary) != Some(primary) || !view.is_complete() {
            return Ok(false);
        }
    }
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
        let follows = node.follows().await?;
        let is_right = if index == primary {
            follows.is_none()
        } else {
            follows == Some(nodes[primary].address().port()) && node.is_in_sync().await?
        };
        if !is_right {
            return Ok(false);
        }
    }
    Ok(nodes[primary].is_running())
}

fn position(nodes: &[RedisNode], address: SocketAddr) -> Option<usize> {
    nodes.iter().position(|node| node.address() == address)
}

/// What a Sentinel knows.
struct View {
    primary: SocketAddr,
    /// `master`, and more when it is in trouble.
    flags: String,
    replicas: usize,
    others: usize,
}

impl View {
    async fn of(sentinel: &RedisNode) -> Result<Self> {
        let answer = sentinel.command(&["SENTINEL", "MASTER", SERVICE]).await?;
        let field = |name: &str| {
            let pair = answer.list().chunks(2).find(|pair| pair[0].text() == name);
            pair.and_then(|pair| pair.get(1))
                .map(Reply::text)
                .with_context(|| format!("no {name} in {answer}"))
        };
        let primary = format!("{}:{}", field("ip")?, field("port")?).parse()?;
        let (replicas, others) = (field("num-slaves")?.parse()?, field("num-other-sentinels")?.parse()?);
        Ok(Self { primary, flags: field("flags")?.to_owned(), replicas, others })
    }

    fn is_complete(&self) -> bool {
        self.flags == "master" && self.replicas >= NODES - 1 && self.others >= SENTINELS - 1
    }
}
