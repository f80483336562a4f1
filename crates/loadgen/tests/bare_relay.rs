//! The bare relay, as a process: what goes in comes out, at the right client.

use std::path::Path;
use std::time::Duration;

use heliograph_loadgen::peers::roster;
use heliograph_loadgen::process::Server;
use heliograph_loadgen::scenario::relay::Pairs;
use heliograph_loadgen::scenario::{idle, join, setup};
use heliograph_loadgen::target::Manner;

fn start() -> anyhow::Result<Server> {
    Server::bare(Path::new(env!("CARGO_BIN_EXE_bare-relay")))
}

#[tokio::test]
async fn it_relays() {
    let server = start().unwrap();
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
    let server = start().unwrap();
    let target = server.target();
    let peers = roster(8, 4);
    let mut pairs = Pairs::open(target, &peers, 4, Manner::Plain).await.unwrap();
    let closed = pairs.closed_loop(target, 2, Duration::from_millis(100)).await.unwrap();
    assert!(closed.cpu_us > 0.0 && closed.per_second > 0.0, "{closed:?}");
    let mut paced = pairs.open_loop(target, 1_000, Duration::from_millis(100), true).await.unwrap();
    assert_eq!((paced.latency.len(), paced.lateness.len()), (100, 100));
    assert!(paced.latency.percentile(50.0) >= paced.lateness.percentile(0.0));
    assert_eq!(pairs.close().await.unwrap(), 0);
    assert!(setup::run(target, &roster(40, 4), 30, Manner::Plain).await.unwrap().per_second > 0.0);
    assert!(join::run(target, &peers).await.unwrap().join.per_second > 0.0);
    let memory = idle::run(target, &peers, &[4, 8], Duration::from_millis(50)).await.unwrap();
    assert_eq!(memory.iter().map(|at| at.sockets).collect::<Vec<_>>(), [4, 8]);
}
