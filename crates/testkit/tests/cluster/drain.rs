//! A node is emptied by a call to another one, and the call can be taken back.

use std::time::Duration;

use heliograph_testkit::{Node, eventually};
use serde_json::json;

use crate::scene::{CLIENTS, Scene, flows, plan};

const SESSIONS: &str = r#"heliograph_sessions{dialect="mesh"}"#;

/// What one node says of another.
async fn is_draining(asked: &Node, about: &Node) -> bool {
    let list = asked.admin().get("/api/gateways").await.expect(200);
    let nodes = list["gateways"].as_array().unwrap().clone();
    nodes.iter().any(|node| node["id"] == about.gateway() && node["draining"] == json!(true))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_by_a_call_to_another_one() {
    let scene = Scene::start(plan(CLIENTS)).await;
    let (drained, others) = scene.cluster.nodes().split_first().unwrap();
    let path = format!("/api/gateways/{}/drain", drained.gateway());
    others[0].admin().post_empty(&path).await.expect(200);
    scene.go_to(others);
    eventually("it is empty", async || (drained.metric(SESSIONS).await == 0).then_some(())).await;
    assert!(!drained.is_ready().await);
    assert_eq!(drained.ops().get("/livez").await.status, 200);
    eventually("all know it", async || is_draining(&others[1], drained).await.then_some(())).await;
    scene.swarm.wait_until_all_stand().await;
    flows(others).await;

    // Back again: it takes clients as before.
    others[1].admin().delete(&path).await.expect(200);
    drained.wait_until_ready().await;
    scene.go_to([drained]);
    for client in 0..CLIENTS / 2 {
        scene.swarm.reset(client).await;
    }
    eventually("clients are on it", async || (drained.metric(SESSIONS).await > 0).then_some(())).await;
    scene.swarm.wait_until_all_stand().await;
    flows(scene.cluster.nodes()).await;
    let summary = scene.finish(|_| {}).await;
    assert_eq!((summary.fresh, summary.lost), (0, 0), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_taken_back_leaves_the_others_where_they_are() {
    // A window in which clients go one by one.
    let scene = Scene::start(plan(CLIENTS).settings(&[("DRAIN_WINDOW", "120s")])).await;
    let (drained, others) = scene.cluster.nodes().split_first().unwrap();
    let before = drained.metric(SESSIONS).await;
    assert!(before > 3, "only {before} clients are on it");
    let path = format!("/api/gateways/{}/drain", drained.gateway());
    others[0].admin().post_empty(&path).await.expect(200);
    scene.go_to(others);
    eventually("the first ones go", async || (drained.metric(SESSIONS).await < before).then_some(())).await;
    others[1].admin().delete(&path).await.expect(200);
    drained.wait_until_ready().await;
    // Those that were told to go still may; then nobody does any more.
    let mut left = drained.metric(SESSIONS).await;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = drained.metric(SESSIONS).await;
        if now == left {
            break;
        }
        left = now;
    }
    assert!(left > 0, "all went away");
    let summary = scene.finish(|expected| (expected.codes, expected.nothing_lost) = (true, true)).await;
    assert_eq!(summary.fresh, 0, "{summary:?}");
}
