//! Another server takes over.

use heliograph_bus::Destination;
use heliograph_bus::redis::Options;
use heliograph_bus::testing::{TestNode, mesh};
use heliograph_sandbox::{Redis, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::redis_support::{nodes, until};
use crate::traffic::{Traffic, to};

async fn two_nodes(redis: &Redis) -> (Vec<TestNode>, Traffic) {
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    nodes[1].link.bus.subscribe(Destination::Space(mesh())).await.unwrap();
    let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
    traffic.flows().await;
    (nodes, traffic)
}

async fn are_up(nodes: &[TestNode]) {
    until("the nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_in_a_cluster() {
    let mut redis = Redis::cluster().await.unwrap();
    let (nodes, traffic) = two_nodes(&redis).await;
    let killed = redis.kill_master_of_slot(0).await.unwrap();
    redis.wait_until_served().await.unwrap();
    traffic.is_back().await;
    are_up(&nodes).await;
    // The former master comes back as a replica, and nothing changes.
    redis.start_empty().await.unwrap();
    redis.wait_until_served().await.unwrap();
    assert_ne!(redis.master_of_slot(0).await.unwrap(), killed);
    traffic.is_back().await;
    traffic.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_behind_sentinels() {
    let mut redis = Redis::sentinel().await.unwrap();
    let (nodes, traffic) = two_nodes(&redis).await;
    redis.kill_primary().await.unwrap();
    redis.wait_until_served().await.unwrap();
    traffic.is_back().await;
    are_up(&nodes).await;
    redis.start_empty().await.unwrap();
    redis.wait_until_served().await.unwrap();
    traffic.is_back().await;
    traffic.check();
}

/// Asks a sentinel to replace the primary.
async fn fail_over(redis: &Redis) {
    let url = redis.url();
    let sentinel = url.trim_start_matches("redis+sentinel://").split(',').next().unwrap();
    let mut sentinel = TcpStream::connect(sentinel).await.unwrap();
    sentinel.write_all(b"SENTINEL FAILOVER main\r\n").await.unwrap();
    let mut answer = [0; 5];
    sentinel.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n");
}

/// Sentinel makes the primary a replica without killing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_replaced_on_purpose() {
    let redis = Redis::sentinel().await.unwrap();
    let (nodes, traffic) = two_nodes(&redis).await;
    let before = redis.primary().await.unwrap();
    fail_over(&redis).await;
    redis.wait_until_served().await.unwrap();
    assert_ne!(redis.primary().await.unwrap(), before);
    traffic.is_back().await;
    are_up(&nodes).await;
    traffic.check();
}

/// The node that serves a channel.
async fn server_of(redis: &Redis, channel_ends: &str) -> (usize, String) {
    for node in redis.masters().await.unwrap() {
        let channels = redis.command(node, &["PUBSUB", "SHARDCHANNELS"]).await.unwrap();
        if let Some(found) = channels.list().iter().map(Reply::text).find(|name| name.ends_with(channel_ends))
        {
            return (node, found.to_owned());
        }
    }
    panic!("nobody serves {channel_ends}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed() {
    let redis = Redis::cluster().await.unwrap();
    let (nodes, traffic) = two_nodes(&redis).await;
    let Destination::Peer(_, moved) = to(0) else { unreachable!() };
    let (from, channel) = server_of(&redis, &format!(":{moved}")).await;
    let slot =
        redis.command(from, &["CLUSTER", "KEYSLOT", &channel]).await.unwrap().number().unwrap().to_string();
    let masters = redis.masters().await.unwrap();
    let into = *masters.iter().find(|master| **master != from).unwrap();
    let id = async |node| redis.command(node, &["CLUSTER", "MYID"]).await.unwrap().text().to_owned();
    let (from_id, into_id) = (id(from).await, id(into).await);
    redis.command(into, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await.unwrap();
    redis.command(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &into_id]).await.unwrap();
    let target = redis.nodes()[into].address();
    let keys = redis.command(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await.unwrap();
    let (host, port) = (target.ip().to_string(), target.port().to_string());
    for key in keys.list() {
        redis.command(from, &["MIGRATE", &host, &port, key.text(), "0", "1000"]).await.unwrap();
    }
    for node in [into, from].into_iter().chain(masters.iter().copied()) {
        redis.command(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &into_id]).await.unwrap();
    }
    traffic.is_back().await;
    assert_eq!(server_of(&redis, &format!(":{moved}")).await.0, into);
    are_up(&nodes).await;
    traffic.check();
}
