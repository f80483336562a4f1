//! Health.

use super::*;

async fn ask(world: &World, path: &str) -> Answer {
    answer(&world.ops, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_liveness_does_not_care() {
    let world = World::new().await;
    let good = ask(&world, "/readyz").await.ok();
    assert_eq!(
        good["checks"],
        json!({"storage": "ok", "authorization": "ok", "bus": "ok", "not_draining": "ok"})
    );
    let faults: [(&AtomicBool, bool, &str); 3] = [
        (&world.node.leased, false, "authorization"),
        (&world.node.bus_up, false, "bus"),
        (&world.node.draining, true, "not_draining"),
    ];
    for (switch, bad, check) in faults {
        switch.store(bad, Ordering::SeqCst);
        let answer = ask(&world, "/readyz").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json()["checks"][check], "failed");
        assert_eq!(ask(&world, "/livez").await.status, StatusCode::OK);
        switch.store(!bad, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_node_has_started_once_it_held_a_lease() {
    let world = World::new().await;
    world.node.leased.store(false, Ordering::SeqCst);
    assert_eq!(ask(&world, "/startupz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.node.leased.store(true, Ordering::SeqCst);
    assert_eq!(ask(&world, "/startupz").await.status, StatusCode::OK);
    world.node.leased.store(false, Ordering::SeqCst);
    assert_eq!(ask(&world, "/startupz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_in_the_text_format_from_the_start() {
    let world = World::new().await;
    let metrics = ask(&world, "/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for transition in ["pair", "approve", "reject", "revoke"] {
        let line = format!("heliograph_pairing_transitions_total{{transition=\"{transition}\"}} 0");
        assert!(metrics.text.contains(&line), "{line}");
    }
}
