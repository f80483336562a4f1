//! All clients lose their sockets at the same moment and come back at once, with what they need to resume.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Cost, Meter, close_all, side_by_side};
use crate::client::{Client, Refused};
use crate::cluster::Cluster;
use crate::http::Connection;
use crate::peers::Peer;
use crate::procfs::Memory;
use crate::stats::Samples;
use crate::target::{Manner, Target, await_list};

/// Clients that come from one address: few enough that the limits per address are not what is measured.
const PER_ADDRESS: usize = 25;
/// Joins under way at any time, before anything happens.
const WIDTH: usize = 16;
/// How long a client tries to get its session back.
const PERSISTENCE: Duration = Duration::from_mins(2);
/// Waited after a connection that broke, and after a refusal that did not say for how long.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at queues.
const LOOK: Duration = Duration::from_millis(100);

/// How the sockets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The network breaks all connections to all nodes; half of the clients come back to another node.
    Reset,
    /// The node at which all clients are is killed; all come back to the others.
    Killed,
}

/// How it went.
#[derive(Debug)]
pub struct Return {
    /// Per join before the loss, with all capabilities.
    pub joining: Cost,
    /// Per client that came back, refused attempts and all.
    pub returning: Cost,
    /// From the loss until the last client had a session, in milliseconds.
    pub all_back_ms: f64,
    /// From the loss until half of them had, in milliseconds.
    pub median_ms: f64,
    /// From the loss until 99 of 100 had, in milliseconds.
    pub tail_ms: f64,
    /// Refused upgrades, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that broke before the session was there.
    pub broken: u64,
    /// Clients whose session went on; the others have new ones.
    pub resumed: usize,
    /// Resident memory of the nodes that are left before the loss, in bytes.
    pub idle: u64,
    /// The most that was ever resident there, in bytes.
    pub peak: u64,
    /// The most of each of [`GAUGES`] that was seen at one moment, all nodes together; 0 without metrics.
    pub gauges: [f64; GAUGES.len()],
}

/// What a storm could fill: what waits to be published, sockets on their way to a session, and sessions that wait for
/// their clients.
pub const GAUGES: [&str; 3] =
    ["heliograph_bus_publish_waiting", "heliograph_opening_sessions", "heliograph_parked_sessions"];

/// One client, before and after.
struct Guest<'a> {
    index: usize,
    peer: &'a Peer,
    client: Client,
    token: Option<String>,
}

/// What a client went through.
struct Way {
    client: Client,
    took: Duration,
    refused: Vec<u16>,
    broken: u64,
    resumed: bool,
}

/// All `peers` join; then their sockets are lost, and they come back.
pub async fn run(cluster: &mut Cluster, peers: &[Peer], loss: Loss) -> anyhow::Result<Return> {
    let nodes = cluster.service().nodes.clone();
    let first = |index: usize| if loss == Loss::Killed { &nodes[0] } else { &nodes[index % nodes.len()] };
    let work = async |(index, peer)| arrive(first(index), peer, index).await;
    let meter = Meter::start(cluster.service())?;
    let guests = side_by_side(peers.iter().enumerate(), WIDTH, work).await?;
    let joining = meter.stop(peers.len() as u64)?;

    if loss == Loss::Killed {
        cluster.kill(0)?;
    }
    let left = cluster.service().nodes.clone();
    let idle = sum(&left, |memory| memory.rss)?;
    let watch = Watch::start(cluster.nodes().iter().filter_map(crate::process::Server::ops).collect());
    let meter = Meter::start(cluster.service())?;
    let begun = Instant::now();
    let mut back = vec![];
    for Guest { index, peer, client, token } in guests {
        match loss {
            Loss::Reset => client.reset()?,
            Loss::Killed => drop(client),
        }
        // Of neighbours one comes back to its node, the other to the next.
        let node = &left[(index + index / left.len()) % left.len()];
        back.push(come_back(node, peer, index, token, begun));
    }
    let ways = try_join_all(back).await?;
    let returning = meter.stop(peers.len() as u64)?;
    let all_back_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    let peak = sum(&left, |memory| memory.peak)?;
    let gauges = watch.stop().await;
    let (mut each, mut refused) = (Samples::default(), BTreeMap::new());
    for way in &ways {
        each.add(u64::try_from(way.took.as_nanos()).unwrap_or(u64::MAX));
        for &status in &way.refused {
            *refused.entry(status).or_default() += 1;
        }
    }
    let ms = |nanos: u64| nanos as f64 / 1_000_000.0;
    let result = Return {
        joining,
        returning,
        all_back_ms,
        median_ms: ms(each.percentile(50.0)),
        tail_ms: ms(each.percentile(99.0)),
        refused,
        broken: ways.iter().map(|way| way.broken).sum(),
        resumed: ways.iter().filter(|way| way.resumed).count(),
        idle,
        peak,
        gauges,
    };
    close_all(ways.into_iter().map(|way| way.client).collect()).await?;
    Ok(result)
}

fn sum(nodes: &[Target], of: impl Fn(&Memory) -> u64) -> anyhow::Result<u64> {
    let each = nodes.iter().map(|node| anyhow::Ok(of(&Memory::of(node.pid)?)));
    each.sum()
}

fn source(index: usize) -> Ipv4Addr {
    let number = u32::try_from(index / PER_ADDRESS).unwrap_or(0);
    // Away from the addresses of other scenarios.
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + number)
}

async fn arrive<'a>(node: &Target, peer: &'a Peer, index: usize) -> anyhow::Result<Guest<'a>> {
    let mut client = node.connect_from(peer, source(index)).await?;
    let Some(text) = node.registration(peer, Manner::Full) else {
        node.register(&mut client, peer, Manner::Full).await?;
        return Ok(Guest { index, peer, client, token: None });
    };
    client.send(&text).await?;
    let list = await_list(&mut client).await?;
    let token = member(&list, "resume_token").context("the server offers no resumption")?;
    Ok(Guest { index, peer, client, token: Some(token) })
}

/// Tries until there is a session, as patiently as a server asks for.
async fn come_back(
    node: &Target,
    peer: &Peer,
    index: usize,
    token: Option<String>,
    begun: Instant,
) -> anyhow::Result<Way> {
    let (mut refused, mut broken) = (vec![], 0);
    loop {
        ensure!(begun.elapsed() < PERSISTENCE, "no session within {} s", PERSISTENCE.as_secs());
        let error = match attempt(node, peer, index, token.as_deref()).await {
            Ok((client, resumed)) => {
                return Ok(Way { client, took: begun.elapsed(), refused, broken, resumed });
            }
            Err(error) => error,
        };
        let wait = match error.downcast_ref::<Refused>() {
            Some(answer) if matches!(answer.status, 429 | 503) => {
                refused.push(answer.status);
                answer.retry_after.unwrap_or(PAUSE)
            }
            Some(_) => return Err(error),
            None => {
                broken += 1;
                PAUSE
            }
        };
        // As good clients do: not all at the same moment again.
        let share = u32::try_from((index * 7919 + refused.len()) % 100).unwrap_or(0);
        tokio::time::sleep(wait + wait * share / 200).await;
    }
}

/// A session, and whether it is the old one.
async fn attempt(
    node: &Target,
    peer: &Peer,
    index: usize,
    token: Option<&str>,
) -> anyhow::Result<(Client, bool)> {
    let mut client = node.connect_from(peer, source(index)).await?;
    let (Some(token), Some(registration)) = (token, node.registration(peer, Manner::Full)) else {
        node.register(&mut client, peer, Manner::Full).await?;
        return Ok((client, false));
    };
    let resume =
        format!(r#"{{"type":"resume","peer_id":"{}","payload":{{"resume_token":"{token}"}}}}"#, peer.id);
    client.send(&resume).await?;
    // Without waiting, as the protocol has it.
    client.send(&registration).await?;
    let answer = client.receive().await?;
    let answer = std::str::from_utf8(&answer)?;
    ensure!(answer.contains(r#""type":"resumed""#), "the answer to resume is {}", kind(answer));
    await_list(&mut client).await?;
    Ok((client, !answer.contains(r#""fresh":true"#)))
}

/// The type of a message, which is all of it that may be shown.
fn kind(message: &str) -> &str {
    let (_, rest) = message.split_once(r#""type":""#).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

/// The value of a member that is a string without escapes.
fn member(text: &Bytes, name: &str) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!(r#""{name}":""#))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

/// Looks at the gauges of nodes again and again.
struct Watch {
    task: JoinHandle<()>,
    most: watch::Receiver<[f64; GAUGES.len()]>,
}

impl Watch {
    fn start(ops: Vec<SocketAddr>) -> Self {
        let (sender, most) = watch::channel([0.0_f64; GAUGES.len()]);
        let task = tokio::spawn(async move {
            loop {
                let mut now = [0.0_f64; GAUGES.len()];
                for &address in &ops {
                    // A node that has no time for this now is asked again.
                    let metrics = metrics(address).await.unwrap_or_default();
                    for (sum, name) in now.iter_mut().zip(GAUGES) {
                        *sum += gauge(&metrics, name);
                    }
                }
                sender.send_modify(|most| {
                    for (most, now) in most.iter_mut().zip(now) {
                        *most = most.max(now);
                    }
                });
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { task, most }
    }

    async fn stop(self) -> [f64; GAUGES.len()] {
        self.task.abort();
        // It ended because it was told to.
        let _aborted = self.task.await;
        *self.most.borrow()
    }
}

async fn metrics(ops: SocketAddr) -> anyhow::Result<String> {
    Ok(Connection::open(ops).await?.request("GET", "/metrics", "").await?.body)
}

/// The sum of a gauge over its labels.
fn gauge(metrics: &str, name: &str) -> f64 {
    let line = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let of = series.split('{').next()?;
        (of == name).then(|| value.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_clients_come_from_one_address() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 1, 1));
        assert_eq!(source(24), source(0));
        assert_eq!(source(25), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(source(254 * 25 + 25), Ipv4Addr::new(127, 0, 2, 0));
    }

    #[test]
    fn a_token_is_found() {
        let list =
            Bytes::from_static(br#"{"payload":{"session":{"epoch":3,"resume_token":"rt_abc","w":1}}}"#);
        assert_eq!(member(&list, "resume_token").as_deref(), Some("rt_abc"));
        assert_eq!(member(&list, "other"), None);
    }

    #[test]
    fn gauges_are_added_up() {
        let metrics = "# HELP heliograph_bus x\nheliograph_bus{shard=\"a\"} 3\nheliograph_bus{shard=\"b\"} 4\nheliograph_bus_up 100\n";
        assert!((gauge(metrics, "heliograph_bus") - 7.0).abs() < 0.001);
        assert!((gauge(metrics, "heliograph_bus_up") - 100.0).abs() < 0.001);
        assert!(gauge(metrics, "heliograph").abs() < 0.001);
    }
}
