//! Keys, invites, peers, the log, nodes, and who may.

use super::*;
use heliograph_bus::Visit;

#[tokio::test]
async fn every_admin_call_needs_an_admin_key() {
    let world = World::new().await;
    for (method, path) in describe::ADMIN_CALLS {
        let path = path.replace("{version}", "1").replace("{id}", "someone");
        let method: Method = method.parse().unwrap();
        world.send(method.clone(), &path, With::default(), None).await.is(401, "unauthorized");
        world.send(method.clone(), &path, key("ak_wrong"), None).await.is(401, "unauthorized");
        let refused = world.send(method, &path, key(AGENT), None).await;
        refused.is(403, "forbidden");
        assert_eq!(refused.headers["cache-control"], "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_key_may_come_as_bearer() {
    let world = World::new().await;
    world.get("/api/keys", bearer(OPERATOR)).await.ok();
}

#[tokio::test]
async fn unknown_keys_run_out_of_budget_and_known_ones_are_free() {
    let world = World::with(Limits { auth_failures_per_address: 3, ..Limits::default() }).await;
    let with = |key, last| With { key: Some(key), address: Some([10, 0, 0, last]), ..With::default() };
    for _ in 0..10 {
        world.get("/api/keys", with(OPERATOR, 1)).await.ok();
    }
    let long = "x".repeat(5_000);
    for key in ["ak_a", "ak_b", &long] {
        world.get("/api/keys", with(key, 1)).await.is(401, "unauthorized");
    }
    let refused = world.get("/api/keys", with("ak_d", 1)).await;
    refused.is(429, "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
    world.get("/api/keys", with(OPERATOR, 2)).await.ok();
}

#[tokio::test]
async fn keys_are_made_shown_once_listed_and_revoked() {
    let world = World::new().await;
    let wish = json!({"peer_id": "camera", "role": "agent", "name": "Camera"});
    let made = world.post("/api/keys", key(OPERATOR), wish).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let secret = made["key"].as_str().unwrap();
    assert!(secret.starts_with("ak_"));
    world.post("/api/pairing/generate-code", key(secret), json!({})).await.ok();
    let list = world.get("/api/keys", key(OPERATOR)).await.ok();
    assert_eq!(list["keys"][0]["name"], "Camera");
    assert_eq!(list["keys"][0]["revoked_at"], Value::Null);
    assert!(!list.to_string().contains("ak_"), "{list}");
    let path = format!("/api/keys/{}", made["id"].as_str().unwrap());
    let report = world.delete(&path, key(OPERATOR)).await.ok();
    assert_eq!((&report["enforced"], &report["peer_id"]), (&json!(true), &json!("camera")));
    world.delete(&path, key(OPERATOR)).await.is(404, "not_found");
    world.post("/api/pairing/generate-code", key(secret), json!({})).await.is(401, "unauthorized");
    let peer = world.get("/api/peers/camera", key(OPERATOR)).await.ok();
    assert_eq!(peer["status"], "revoked");
    let again = json!({"peer_id": "camera", "role": "agent"});
    let refused = world.post("/api/keys", key(OPERATOR), again).await;
    refused.is(409, "wrong_state");
    assert_eq!(refused.json()["current_status"], "revoked");
}

#[tokio::test]
async fn a_key_of_another_installation_is_taken_over_once() {
    let world = World::new().await;
    let wish = json!({"peer_id": "old-one", "role": "worker", "secret": "ak_dev_001"});
    let first = world.post("/api/keys", key(OPERATOR), wish.clone()).await;
    assert_eq!(first.status, 201);
    assert!(first.json().get("key").is_none(), "what was brought along is not shown again");
    let second = world.post("/api/keys", key(OPERATOR), wish).await;
    let id = first.json()["id"].clone();
    assert_eq!(second.ok()["id"], id);
    let other = json!({"peer_id": "somebody-else", "role": "worker", "secret": "ak_dev_001"});
    assert_eq!(world.post("/api/keys", key(OPERATOR), other).await.status, 409);
}

#[tokio::test]
async fn keys_have_bounds_and_stay_in_their_mesh() {
    let world = World::new().await;
    let long = "x".repeat(200);
    for (wish, code) in [
        (json!({}), "malformed_body"),
        (json!({"peer_id": "", "role": "agent"}), "bad_peer_id"),
        (json!({"peer_id": "a\"b", "role": "agent"}), "bad_peer_id"),
        (json!({"peer_id": "a", "role": "root"}), "bad_role"),
        (json!({"peer_id": "a", "role": "a\nb", "secret": "ak_given"}), "bad_role"),
        (json!({"peer_id": "a", "role": "agent", "secret": "short"}), "bad_secret"),
        (json!({"peer_id": "a", "role": "agent", "name": long}), "bad_name"),
    ] {
        world.post("/api/keys", key(OPERATOR), wish).await.is(400, code);
    }
    let wish = json!({"peer_id": "a", "role": "admin", "mesh": "default"});
    world.post("/api/keys", key(OTHER_ADMIN), wish).await.is(403, "forbidden");
    let made =
        world.post("/api/keys", key(OTHER_ADMIN), json!({"peer_id": "a", "role": "admin"})).await.json();
    assert_eq!(made["mesh"], "other");
    world.delete("/api/keys/key_operator", key(OTHER_ADMIN)).await.is(404, "not_found");
    let list = world.get("/api/keys", key(OTHER_ADMIN)).await.ok();
    assert!(list["keys"].as_array().unwrap().iter().all(|key| key["mesh"] == "other"));
    world.get("/api/keys?mesh=default", key(OTHER_ADMIN)).await.is(403, "forbidden");
}

#[tokio::test]
async fn invites_say_where_they_stand() {
    let world = World::new().await;
    world.redeem(&world.code().await, With::default()).await.ok();
    world.code().await;
    let revoked = world.post("/api/pairing/generate-code", key(OPERATOR), json!({})).await.ok();
    let path = format!("/api/invites/{}", revoked["id"].as_str().unwrap());
    world.delete(&path, key(OTHER_ADMIN)).await.is(404, "not_found");
    world.delete(&path, key(OPERATOR)).await.ok();
    world.delete(&path, key(OPERATOR)).await.is(404, "not_found");
    let statuses = async || {
        let list = world.get("/api/invites", key(OPERATOR)).await.ok();
        let status = |invite: &Value| invite["status"].as_str().unwrap().to_owned();
        list["invites"].as_array().unwrap().iter().map(status).collect::<Vec<_>>()
    };
    assert_eq!(statuses().await, ["revoked", "open", "used"]);
    world.later(Duration::from_secs(601));
    assert_eq!(statuses().await, ["revoked", "expired", "used"]);
    let list = world.get("/api/invites?limit=1", key(OPERATOR)).await.ok();
    assert_eq!(list["invites"][0]["created_by"], "key_operator");
    assert!(list["next_cursor"].is_string());
    assert!(!list.to_string().contains(revoked["code"].as_str().unwrap()));
}

#[tokio::test]
async fn a_meshs_admin_takes_back_its_own_invites() {
    let world = World::new().await;
    let made = world.post("/api/pairing/generate-code", key(OTHER_ADMIN), json!({})).await.ok();
    world.delete(&format!("/api/invites/{}", made["id"].as_str().unwrap()), key(OTHER_ADMIN)).await.ok();
}

#[tokio::test]
async fn peers_have_their_sessions() {
    let world = World::new().await;
    let (mesh, peer) = (MeshName::default_mesh().into(), PeerId::parse("agent-001").unwrap());
    let visit = Visit { since_unix_ms: 1_800_000_000_500, dialect: "mesh".into(), profile: None };
    let claim = world.bus.link().presence.claim(&mesh, &peer, visit).await.unwrap();
    let shown = world.get("/api/peers/agent-001", key(OPERATOR)).await.ok();
    let session = json!({
        "gateway": "gw-self", "epoch": claim.epoch.0, "placed": false, "dialect": "mesh", "since": 1_800_000_000.5,
    });
    assert_eq!(shown["sessions"], json!([session]));
    assert_eq!((&shown["origin"], &shown["status"]), (&json!("key"), &json!("approved")));
    let list = world.get("/api/peers", key(OPERATOR)).await.ok();
    let names: Vec<_> =
        list["peers"].as_array().unwrap().iter().map(|peer| peer["peer_id"].clone()).collect();
    assert_eq!(names, ["agent-001", "operator", "other-admin"]);
    assert_eq!(list["peers"][0]["sessions"], shown["sessions"]);
    world.get("/api/peers/nobody", key(OPERATOR)).await.is(404, "not_found");
    world.get("/api/peers/agent-001", key(OTHER_ADMIN)).await.is(404, "not_found");
    world.get("/api/peers/other-admin?mesh=other", key(OPERATOR)).await.ok();
}

#[tokio::test]
async fn the_log_says_who_did_what_and_its_chain_verifies() {
    let world = World::new().await;
    let device = world.paired().await;
    world.decide(&device, "approve", json!({})).await.ok();
    let log = world.get("/api/audit", key(OPERATOR)).await.ok();
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions[..4], ["token.issue", "approve", "pair", "invite.create"]);
    assert_eq!(entries[1]["actor"], "key_operator");
    assert_eq!(entries[2]["detail"]["name"], "newbie");
    assert_eq!(entries[0]["prev_hash"], entries[1]["hash"]);
    assert_eq!(entries[0]["hash"].as_str().unwrap().len(), 64);
    let verified = world.get("/api/audit/verify", key(OPERATOR)).await.ok();
    assert_eq!(verified, json!({"ok": true, "entries": entries.len()}));
    let others = world.get("/api/audit", key(OTHER_ADMIN)).await.ok();
    assert!(others["entries"].as_array().unwrap().iter().all(|entry| entry["mesh"] == "other"));
}

#[tokio::test]
async fn a_long_log_is_paged_and_verified_as_a_whole() {
    let world = World::new().await;
    for number in 0..1_100 {
        world.add_key(&format!("ak_{number}"), &format!("p{number}"), "default", "agent").await;
    }
    let verified = world.get("/api/audit/verify", key(OPERATOR)).await.ok();
    assert_eq!(verified, json!({"ok": true, "entries": 1_103}));
    let page = world.get("/api/audit?limit=9999", key(OPERATOR)).await.ok();
    assert_eq!(page["entries"].as_array().unwrap().len(), 500);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = world.get(&format!("/api/audit?limit=1&cursor={cursor}"), key(OPERATOR)).await.ok();
    assert_eq!(page["entries"][0]["version"], 603);
}

#[tokio::test]
async fn nodes_and_their_leases() {
    let world = World::new().await;
    world.node.presence.send_replace(4);
    world.store.renew(&GatewayId::parse("gw-z").unwrap(), Version(2), Version(2)).await.unwrap();
    let list = world.get("/api/gateways", key(OPERATOR)).await.ok();
    assert_eq!(
        list["gateways"],
        json!([
            {"id": "gw-self", "version": 1, "program": null, "sessions": 4, "lease": "current", "draining": false, "self": true},
            {"id": "gw-z", "version": 2, "program": null, "sessions": null, "lease": "current", "draining": null, "self": false},
        ])
    );
    let list = world.get("/api/gateways", key(OTHER_ADMIN)).await.ok();
    assert_eq!(list["gateways"][0]["sessions"], Value::Null);
}

#[tokio::test]
async fn a_drain_is_asked_for_and_taken_back() {
    let world = World::new().await;
    world.post("/api/gateways/gw-z/drain", key(OPERATOR), json!({})).await.is(404, "not_found");
    world.post("/api/gateways/self/drain", key(OTHER_ADMIN), json!({})).await.is(403, "forbidden");
    assert!(!world.node.is_draining());
    world.post("/api/gateways/gw-self/drain", key(OPERATOR), json!({})).await.ok();
    assert!(world.node.is_draining());
    world.post("/api/gateways/self/drain", key(OPERATOR), json!({})).await.ok();
    world.delete("/api/gateways/self/drain", key(OTHER_ADMIN)).await.is(403, "forbidden");
    world.delete("/api/gateways/self/drain", key(OPERATOR)).await.ok();
    assert!(!world.node.is_draining());
}

#[tokio::test]
async fn wrong_methods_and_paths_are_said() {
    let world = World::new().await;
    world.get("/api/pairing/pair", With::default()).await.is(405, "method_not_allowed");
    let id = "x".repeat(200);
    world.get(&format!("/api/peers/{id}"), key(OPERATOR)).await.is(404, "not_found");
    let large = Body::from(vec![b' '; 70_000]);
    world.send_body(Method::POST, "/api/keys", key(OPERATOR), large).await.is(413, "body_too_large");
}
