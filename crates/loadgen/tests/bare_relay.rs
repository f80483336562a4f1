//! The bare relay, as a process and as several: what goes in comes out, at the right client.

use std::path::Path;
use std::time::Duration;

use heliograph_loadgen::cluster::Cluster;
use heliograph_loadgen::peers::roster;
use heliograph_loadgen::process::Server;
use heliograph_loadgen::scenario::reconnect::{self, Loss};
use heliograph_loadgen::scenario::relay::Pairs;
use heliograph_loadgen::scenario::{idle, join, setup};
use heliograph_loadgen::target::{Manner, Service};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bare-relay");

async fn start() -> anyhow::Result<Server> {
    Server::bare(Path::new(PROGRAM), None).await
}

async fn start_two() -> anyhow::Result<Cluster> {
    Cluster::bare(Path::new(PROGRAM), 2).await
}

#[tokio::test]
async fn it_relays() {
    let server = start().await.unwrap();
    let target = server.target();
    let peers = roster(3, 3);
    let here = target.join(&peers[0], 0, Manner::Plain).await.unwrap();
    let mut there = target.join(&peers[1], 0, Manner::Plain).await.unwrap();
    let mut other = target.join(&peers[2], 0, Manner::Plain).await.unwrap();
    let long = "x".repeat(20_000);
    here.send("peer-00001\nhello\nworld").await.unwrap();
    here.send("nobody\nlost").await.unwrap();
    here.send("no line feed").await.unwrap();
    here.send(&format!("peer-00001\n{long}")).await.unwrap();
    assert_eq!(there.receive().await.unwrap(), "hello\nworld");
    assert_eq!(there.receive().await.unwrap(), long);
    here.close().await.unwrap();
    there.send("peer-00000\ntoo late").await.unwrap();
    there.send("peer-00002\nstill here").await.unwrap();
    assert_eq!(other.receive().await.unwrap(), "still here");
}

#[tokio::test]
async fn it_can_be_measured() {
    let server = start().await.unwrap();
    let target = server.target();
    let service = &Service::from(target.clone());
    let peers = roster(8, 4);
    let mut pairs = Pairs::open(service, &peers, 4, Manner::Plain).await.unwrap();
    let closed = pairs.closed_loop(service, 2, Duration::from_millis(100)).await.unwrap();
    assert!(closed.cpu_us > 0.0 && closed.per_second > 0.0, "{closed:?}");
    let mut paced = pairs.open_loop(service, 1_000, Duration::from_millis(100), true).await.unwrap();
    assert_eq!((paced.latency.len(), paced.lateness.len()), (100, 100));
    assert!(paced.latency.percentile(50.0) >= paced.lateness.percentile(0.0));
    assert_eq!(pairs.close().await.unwrap(), 0);
    assert!(setup::run(service, &roster(40, 4), 30, Manner::Plain).await.unwrap().per_second > 0.0);
    assert!(join::run(service, &peers).await.unwrap().join.per_second > 0.0);
    let memory = idle::run(target, &peers, &[4, 8], Duration::from_millis(50)).await.unwrap();
    assert_eq!(memory.iter().map(|at| at.sockets).collect::<Vec<_>>(), [4, 8]);
}

#[tokio::test]
async fn two_relay_to_each_other() {
    let cluster = start_two().await.unwrap();
    let nodes = &cluster.service().nodes;
    let peers = roster(3, 3);
    let here = nodes[0].join(&peers[0], 0, Manner::Plain).await.unwrap();
    let mut there = nodes[1].join(&peers[1], 0, Manner::Plain).await.unwrap();
    let mut beside = nodes[0].join(&peers[2], 0, Manner::Plain).await.unwrap();
    let long = "x".repeat(20_000);
    for text in ["peer-00001\nhello\nworld", "peer-00002\nbeside", &format!("peer-00001\n{long}")] {
        here.send(text).await.unwrap();
    }
    assert_eq!(there.receive().await.unwrap(), "hello\nworld");
    assert_eq!(there.receive().await.unwrap(), long);
    assert_eq!(beside.receive().await.unwrap(), "beside");
    // A client that goes to another process is found there.
    there.close().await.unwrap();
    let mut there = nodes[0].join(&peers[1], 0, Manner::Plain).await.unwrap();
    here.send("peer-00001\nmoved").await.unwrap();
    assert_eq!(there.receive().await.unwrap(), "moved");
}

#[tokio::test]
async fn a_message_between_two_costs_both_and_redis() {
    let cluster = start_two().await.unwrap();
    let service = cluster.service();
    let peers = roster(8, 4);
    let mut pairs = Pairs::open(service, &peers, 4, Manner::Plain).await.unwrap();
    let before = cluster.asked(None).await.unwrap();
    assert_eq!(pairs.exactly(50).await.unwrap(), 200);
    let after = cluster.asked(None).await.unwrap();
    assert_eq!(after.publishes_since(&before), 200);
    assert_eq!(after.commands_since(&before, |_| true), 200);
    let cost = pairs.closed_loop(service, 2, Duration::from_millis(100)).await.unwrap();
    assert!(cost.cpu_us > 0.0 && cost.redis_us > 0.0 && cost.postgres_us == 0.0, "{cost:?}");
    pairs.close().await.unwrap();
}

#[tokio::test]
async fn clients_that_lost_their_sockets_are_back() {
    let mut cluster = start_two().await.unwrap();
    let peers = roster(60, 10);
    for loss in [Loss::Reset, Loss::Killed] {
        let back = reconnect::run(&mut cluster, &peers, loss).await.unwrap();
        assert!(back.all_back_ms >= back.tail_ms && back.tail_ms >= back.median_ms, "{back:?}");
        assert!(back.refused.is_empty() && back.resumed == 0 && back.peak >= back.idle, "{back:?}");
    }
    assert_eq!(cluster.service().nodes.len(), 1);
}
