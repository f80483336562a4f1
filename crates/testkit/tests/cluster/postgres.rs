//! Postgres goes away: what is known is good for the term of a lease, and not longer.

use heliograph_testkit::eventually;

use crate::scene::{CLIENTS, Scene, flows, plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_restarted_and_nothing_is_lost() {
    let mut scene = Scene::start(plan(CLIENTS).own_postgres()).await;
    for _ in 0..3 {
        scene.cluster.postgres().restart().await.unwrap();
        scene.cluster.access().wait_until_ready().await;
        flows(scene.cluster.nodes()).await;
    }
    let summary = scene.finish(|expected| (expected.codes, expected.nothing_lost) = (true, true)).await;
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_nothing_is_relayed_and_sockets_stay() {
    let mut scene = Scene::start(plan(CLIENTS).own_postgres()).await;
    scene.cluster.postgres().stop_immediately().await.unwrap();
    for node in scene.cluster.nodes() {
        eventually("the lease runs out", async || {
            (node.metric("heliograph_authorization_fail_closed").await == 1).then_some(())
        })
        .await;
        assert!(!node.is_ready().await);
        assert_eq!(node.ops().get("/livez").await.status, 200);
    }
    let relayed = scene.cluster.access().relayed().await;
    eventually("senders are told", async || {
        let denied = r#"heliograph_authorization_denied_total{reason="no_lease",side="sender"}"#;
        (scene.cluster.access().metric(denied).await > 50).then_some(())
    })
    .await;
    assert_eq!(scene.cluster.access().relayed().await, relayed, "nothing is relayed meanwhile");

    scene.cluster.postgres().start_again().await.unwrap();
    scene.cluster.access().wait_until_ready().await;
    flows(scene.cluster.nodes()).await;
    let summary = scene.finish(|expected| expected.codes = true).await;
    assert!(summary.undeliverable.contains_key("authorization_unavailable"), "{summary:?}");
    assert_eq!(summary.sockets, CLIENTS as u64, "nobody lost its socket: {summary:?}");
}
