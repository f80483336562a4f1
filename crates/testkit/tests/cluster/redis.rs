//! Redis goes away, and comes back with nothing.

use std::time::{Duration, Instant};

use heliograph_testkit::history::Summary;
use heliograph_testkit::{MeshClient, Node, RedisKind, eventually};
use serde_json::{Value, json};

use crate::ghosts::join;
use crate::scene::{CLIENTS, NODES, Scene, flows, name, plan};

/// The promise: so soon after Redis is there, messages go from node to node again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Peers beside those of the scene: two on one node, and one on another.
const HERE: usize = CLIENTS;
const NEAR: usize = CLIENTS + 1;
const THERE: usize = CLIENTS + 2;

fn told(summary: &Summary, reason: &str) -> u64 {
    summary.undeliverable.get(reason).copied().unwrap_or(0)
}

/// What the sender is told of a message: the kind of the answer, and the reason.
async fn fate(from: &mut MeshClient, to: usize, id: &str) -> (String, Value) {
    from.send_with_id("offer", &name(to), json!({}), id).await;
    loop {
        let answer = from.next().await.unwrap_or_else(|end| panic!("closed with {end:?}"));
        if answer["payload"]["id"] == id {
            return (answer["type"].as_str().unwrap().to_owned(), answer["payload"]["reason"].clone());
        }
    }
}

/// Sends an offer; whether one arrives soon.
async fn arrives(from: &mut MeshClient, to: &mut MeshClient) -> bool {
    from.send("offer", Some(&to.id), json!({})).await;
    let soon = tokio::time::timeout(Duration::from_millis(50), to.wait_for("offer"));
    soon.await.is_ok()
}

async fn wait_until_not_ready(nodes: &[Node]) {
    for node in nodes {
        eventually("not ready", async || (!node.is_ready().await).then_some(())).await;
        assert_eq!(node.ops().get("/livez").await.status, 200, "liveness depends on nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let mut scene = Scene::start(plan(CLIENTS + 3).own_redis(RedisKind::Standalone)).await;
    let (mut here, _) = join(scene.cluster.node(0), HERE).await;
    let (mut near, _) = join(scene.cluster.node(0), NEAR).await;
    let (mut there, _) = join(scene.cluster.node(1), THERE).await;

    scene.cluster.redis().kill().unwrap();
    wait_until_not_ready(scene.cluster.nodes()).await;
    for round in 0..3 {
        let (kind, _) = fate(&mut here, NEAR, &format!("near-{round}")).await;
        assert_eq!(kind, "delivered", "on the same node");
        near.wait_for("offer").await;
        let refused = fate(&mut here, THERE, &format!("there-{round}")).await;
        assert_eq!(refused, ("undeliverable".to_owned(), json!("bus_unavailable")));
    }

    scene.cluster.redis().start_empty().await.unwrap();
    let back = Instant::now();
    // Not by the answers: one that is lost while its way is opened again is waited for much longer.
    while !arrives(&mut here, &mut there).await {}
    let taken = back.elapsed();
    assert!(taken <= BACK_WITHIN, "after {taken:?}");
    scene.cluster.access().wait_until_ready().await;
    flows(scene.cluster.nodes()).await;
    let summary = scene.finish(|expected| expected.codes = true).await;
    assert!(told(&summary, "bus_unavailable") > 0, "{summary:?}");
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shards_of_a_redis_cluster_fail_over() {
    let mut scene = Scene::start(plan(CLIENTS).own_redis(RedisKind::Cluster)).await;
    for master in 0..3 {
        // Each of the first masters in turn; the one before is back, as a replica.
        let redis = scene.cluster.redis();
        redis.kill_node(master).unwrap();
        redis.wait_until_served().await.unwrap();
        scene.cluster.access().wait_until_ready().await;
        flows(scene.cluster.nodes()).await;
        let redis = scene.cluster.redis();
        redis.start_empty().await.unwrap();
        redis.wait_until_served().await.unwrap();
    }
    flows(scene.cluster.nodes()).await;
    let summary = scene.finish(|expected| expected.codes = true).await;
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_behind_sentinels_fails_over() {
    let mut scene = Scene::start(plan(CLIENTS).own_redis(RedisKind::Sentinel)).await;
    let redis = scene.cluster.redis();
    redis.kill_primary().await.unwrap();
    redis.wait_until_served().await.unwrap();
    let back = Instant::now();
    scene.cluster.access().wait_until_ready().await;
    assert_eq!(scene.cluster.nodes().len(), NODES);
    flows(scene.cluster.nodes()).await;
    println!("ready and flowing {:?} after the Sentinels agreed", back.elapsed());
    let summary = scene.finish(|expected| expected.codes = true).await;
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}
