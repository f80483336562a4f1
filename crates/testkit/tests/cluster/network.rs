//! The way between a node and Redis fails: in both directions, or in one.

use std::time::Duration;

use heliograph_sandbox::Direction;
use heliograph_testkit::{Node, eventually};

use crate::scene::{CLIENTS, Scene, flows, plan};

/// Longer than anything here waits before it gives up.
const FAILS_FOR: Duration = Duration::from_secs(15);

/// Lets the ways of some nodes fail for a while; the nodes notice, and come back by themselves.
async fn fail(break_some: impl FnOnce(&[Node]) -> Vec<usize>) {
    let scene = Scene::start(plan(CLIENTS).ways_that_fail()).await;
    let nodes = scene.cluster.nodes();
    let broken = break_some(nodes);
    let (until, healthy) =
        (tokio::time::Instant::now() + FAILS_FOR, (0..nodes.len()).filter(|node| !broken.contains(node)));
    for &node in &broken {
        eventually("it notices", async || (!nodes[node].is_ready().await).then_some(())).await;
        assert_eq!(nodes[node].ops().get("/livez").await.status, 200);
    }
    for node in healthy {
        assert!(nodes[node].is_ready().await, "node {node} is not concerned");
    }
    tokio::time::sleep_until(until).await;
    for &node in &broken {
        nodes[node].way_to_redis().heal();
    }
    for &node in &broken {
        nodes[node].wait_until_ready().await;
    }
    flows(nodes).await;
    let summary = scene.finish(|expected| expected.codes = true).await;
    assert!(summary.undeliverable.contains_key("bus_unavailable"), "{summary:?}");
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ways_of_two_nodes_are_cut_and_silent() {
    fail(|nodes| {
        nodes[0].way_to_redis().cut();
        nodes[1].way_to_redis().half_open(Direction::Both);
        vec![0, 1]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ways_of_two_nodes_are_half_open_each_in_one_direction() {
    fail(|nodes| {
        nodes[0].way_to_redis().half_open(Direction::ToServer);
        nodes[1].way_to_redis().half_open(Direction::ToClient);
        vec![0, 1]
    })
    .await;
}
