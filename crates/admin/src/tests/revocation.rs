//! Revokes and their reports.

use super::*;

#[tokio::test]
async fn a_revoke_answers_when_every_node_has_acknowledged() {
    let world = World::new().await;
    world.holder("gw-a");
    world.holder("gw-b");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let device = world.paired().await;
    world.decide(&device, "approve", json!({})).await.ok();
    let report = world.decide(&device, "revoke", json!({})).await.ok();
    let version = world.store.version().await.unwrap().0;
    assert_eq!(report["acknowledged"], json!(["gw-a", "gw-b"]), "{report}");
    assert_eq!(
        (&report["status"], &report["enforced"], &report["version"], &report["expired"], &report["peer_id"]),
        (&json!("ok"), &json!(true), &json!(version), &json!([]), &json!(device.peer))
    );
    assert!(report["waited_ms"].as_u64().unwrap() < 1_000, "{report}");
    assert!(report.get("poll").is_none());
    let later = world.get(&format!("/api/pairing/changes/{version}"), key(OPERATOR)).await.ok();
    assert_eq!(later["acknowledged"], report["acknowledged"]);
    world.decide(&device, "revoke", json!({})).await.is(409, "wrong_state");
}

#[tokio::test]
async fn an_unconfirmed_revoke_is_never_called_enforced() {
    let world = World::new().await;
    let stuck = GatewayId::parse("gw-stuck").unwrap();
    world.store.renew(&stuck, Version(0), Version(0)).await.unwrap();
    let path = "/api/pairing/agent-001/revoke?timeout_ms=50";
    let open = world.post(path, key(OPERATOR), json!({})).await;
    assert_eq!(open.status, StatusCode::ACCEPTED, "{}", open.text);
    let report = open.json();
    assert_eq!((&report["enforced"], &report["acknowledged"]), (&json!(false), &json!([])));
    let poll = report["poll"].as_str().unwrap();
    assert_eq!(world.get(poll, key(OPERATOR)).await.status, StatusCode::ACCEPTED);
    let version = world.store.version().await.unwrap();
    world.store.renew(&stuck, version, version).await.unwrap();
    let report = world.get(poll, key(OPERATOR)).await.ok();
    assert_eq!((&report["enforced"], &report["acknowledged"]), (&json!(true), &json!(["gw-stuck"])));
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_lease_runs_out() {
    let world = World::new().await;
    let dead = GatewayId::parse("gw-dead").unwrap();
    world.store.renew(&dead, Version(0), Version(0)).await.unwrap();
    let report = world.post("/api/pairing/agent-001/revoke", key(OPERATOR), json!({})).await.ok();
    assert_eq!((&report["enforced"], &report["expired"]), (&json!(true), &json!(["gw-dead"])));
    assert!((3_000..4_000).contains(&report["waited_ms"].as_u64().unwrap()), "{report}");
}

#[tokio::test]
async fn wait_none_answers_at_once() {
    let world = World::new().await;
    let stuck = GatewayId::parse("gw-stuck").unwrap();
    world.store.renew(&stuck, Version(0), Version(0)).await.unwrap();
    let answer = world.post("/api/pairing/agent-001/revoke?wait=none", key(OPERATOR), json!({})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let path = "/api/pairing/agent-001/revoke?wait=soon";
    world.post(path, key(OPERATOR), json!({})).await.is(400, "malformed_query");
}

#[tokio::test]
async fn peers_of_keys_are_revoked_by_their_id_and_their_keys_with_them() {
    let world = World::new().await;
    let report = world.post("/api/pairing/agent-001/revoke", key(OPERATOR), json!({})).await.ok();
    assert_eq!(report["peer_id"], "agent-001");
    world.post("/api/pairing/generate-code", key(AGENT), json!({})).await.is(401, "unauthorized");
    let again = world.post("/api/pairing/agent-001/revoke", key(OPERATOR), json!({})).await;
    again.is(409, "wrong_state");
    assert_eq!(again.json()["current_status"], "revoked");
}

#[tokio::test]
async fn the_operator_names_the_mesh_and_others_cannot() {
    let world = World::new().await;
    world.add_key("ak_far", "far", "other", "agent").await;
    let path = "/api/pairing/far/revoke";
    world.post(path, key(OPERATOR), json!({})).await.is(404, "not_found");
    world.post("/api/pairing/agent-001/revoke", key(OTHER_ADMIN), json!({})).await.is(404, "not_found");
    world
        .post("/api/pairing/agent-001/revoke?mesh=default", key(OTHER_ADMIN), json!({}))
        .await
        .is(403, "forbidden");
    world.post(path, key(OPERATOR), json!({"mesh": "other"})).await.ok();
}

#[tokio::test]
async fn changes_have_numbers_that_exist() {
    let world = World::new().await;
    for number in ["0", "99", "x", "-1"] {
        world.get(&format!("/api/pairing/changes/{number}"), key(OPERATOR)).await.is(404, "not_found");
    }
    world.get("/api/pairing/changes/1", key(AGENT)).await.is(403, "forbidden");
    world.get("/api/pairing/changes/1", key(OPERATOR)).await.ok();
}

#[tokio::test]
async fn the_metrics_count_what_happened() {
    let world = World::new().await;
    world.post("/api/pairing/agent-001/revoke", key(OPERATOR), json!({})).await.ok();
    let metrics = answer(&world.ops, Request::get("/metrics").body(Body::empty()).unwrap()).await;
    for line in [
        r#"heliograph_pairing_transitions_total{transition="revoke"} 1"#,
        r#"heliograph_pairing_transitions_total{transition="pair"} 0"#,
        "heliograph_revoke_enforced_seconds_count 1",
    ] {
        assert!(metrics.text.contains(line), "{line} in {}", metrics.text);
    }
}
