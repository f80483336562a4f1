//! Nodes that die, stand still, and are replaced.

use std::time::Duration;

use heliograph_testkit::Node;
use heliograph_testkit::history::End;

use crate::scene::{CLIENTS, NODES, Scene, flows, plan};

/// Longer than any other node believes in one that says nothing, and than a lease.
const STANDSTILL: Duration = Duration::from_secs(10);
/// More than the drain window of test nodes, and what they do afterwards.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed() {
    let scene = Scene::start(plan(CLIENTS)).await;
    let (killed, others) = scene.cluster.nodes().split_first().unwrap();
    killed.kill();
    scene.go_to(others);
    scene.swarm.wait_until_all_stand().await;
    flows(others).await;
    let summary = scene.finish(|_| {}).await;
    assert!(summary.fresh > 0, "nobody was on the killed node: {summary:?}");
    assert!(summary.ends.get(&End::NoCode).copied().unwrap_or(0) > 0, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stands_still_and_goes_on() {
    let scene = Scene::start(plan(CLIENTS)).await;
    let (still, others) = scene.cluster.nodes().split_first().unwrap();
    still.pause();
    let wakes = tokio::time::Instant::now() + STANDSTILL;
    while tokio::time::Instant::now() < wakes {
        for other in others {
            assert!(other.is_ready().await, "{} is not concerned", other.gateway());
        }
        flows(others).await;
    }
    still.resume();
    still.wait_until_ready().await;
    scene.swarm.wait_until_all_stand().await;
    flows(scene.cluster.nodes()).await;
    scene.finish(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_replaced_and_nothing_is_lost() {
    let mut scene = Scene::start(plan(CLIENTS)).await;
    for _ in 0..NODES {
        scene.cluster.start_node().await;
        let (old, others) = scene.cluster.nodes().split_first().unwrap();
        old.terminate();
        // As with a load balancer: clients that come back right now may still find the old one.
        scene.go_to(others);
        let status = old.ended(STOPPED_WITHIN).await;
        assert!(status.success(), "{status}");
        scene.swarm.wait_until_all_stand().await;
        flows(others).await;
        drop(scene.cluster.remove(0));
    }
    let summary = scene.finish(|expected| (expected.codes, expected.nothing_lost) = (true, true)).await;
    assert!(summary.resumed >= CLIENTS as u64, "all had to move: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_drop_and_come_back_to_any_node() {
    const ROUNDS: usize = 12;
    let scene = Scene::start(plan(CLIENTS)).await;
    for round in 0..ROUNDS {
        for client in 0..CLIENTS {
            // Some connections break, others go silent: then the service has not noticed when the client is back.
            if (client + round) % 3 == 0 {
                scene.swarm.abandon(client).await;
            } else {
                scene.swarm.reset(client).await;
            }
        }
        flows(scene.cluster.nodes()).await;
        scene.swarm.wait_until_all_stand().await;
    }
    let summary = scene.finish(|_| {}).await;
    assert!(summary.resumed >= (CLIENTS * ROUNDS) as u64, "{summary:?}");
    assert_eq!((summary.fresh, summary.lost, summary.gone), (0, 0, 0), "{summary:?}");
}

#[tokio::test]
async fn nodes_have_names_of_their_own() {
    let _alone = crate::scene::alone().await;
    let cluster = plan(0).start().await;
    let mut names: Vec<_> = cluster.nodes().iter().map(Node::gateway).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), NODES);
    let listed = cluster.node(0).admin().get("/api/gateways").await.expect(200);
    let mut listed: Vec<_> =
        listed["gateways"].as_array().unwrap().iter().filter_map(|node| node["id"].as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
}
