//! What clients get that ask for it.

use heliograph_testkit::client::ALL;
use heliograph_testkit::{Access, MeshClient, eventually, peers};
use serde_json::{Value, json};

use crate::TestServer;

/// A peer that registered with some capabilities; its welcome.
async fn join_with(server: &Access, peer: &str, capabilities: &[&str]) -> (MeshClient, Value) {
    let mut client = server.connect(peer).await;
    let welcome = client.register_with(capabilities).await;
    (client, welcome)
}

#[tokio::test]
async fn the_welcome_says_what_is_granted() {
    let server = TestServer::start().await;
    let mut asked = ALL.to_vec();
    asked.push("telepathy");
    let (_a, welcome) = join_with(&server, "a", &asked).await;
    assert_eq!(welcome["version"], 1);
    let granted = welcome["capabilities"].as_array().unwrap();
    for capability in ["events", "feedback", "roles", "ice", "goaway"] {
        assert!(granted.contains(&json!(capability)), "{welcome}");
    }
    assert!(!granted.contains(&json!("telepathy")), "{welcome}");
    assert!(welcome["session"]["epoch"].as_u64().is_some(), "{welcome}");
    assert_eq!(welcome["roles"], json!({}));
    assert_eq!(welcome["ice_servers"], json!([]));

    let (_b, welcome) = join_with(&server, "b", &["events"]).await;
    assert_eq!(welcome["capabilities"], json!(["events"]));
    assert_eq!(welcome["peers"], json!(["a"]));
    assert!(welcome.get("roles").is_none() && welcome.get("ice_servers").is_none(), "{welcome}");
}

#[tokio::test]
async fn events_tell_who_comes_and_goes() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["events"]).await;
    let b = server.join("b").await;
    assert_eq!(a.expect("peer_joined").await["payload"], json!({ "peer": "b" }));
    b.close().await;
    let left = a.expect("peer_left").await;
    assert_eq!(left, json!({ "type": "peer_left", "peer_id": "registry", "payload": { "peer": "b" } }));
}

#[tokio::test]
async fn without_events_there_are_none() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["feedback", "roles", "ice", "goaway"]).await;
    let (mut witness, _) = join_with(&server, "witness", &["events"]).await;
    server.join("b").await.close().await;
    witness.wait_for("peer_left").await;
    a.expect_silence().await;
}

#[tokio::test]
async fn events_do_not_cross_meshes() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["events"]).await;
    let token = server.exchange(&server.key("b", "blue").await).await;
    let mut b = server.open("b", &token).await;
    b.register().await;
    b.close().await;
    a.expect_silence().await;
}

#[tokio::test]
async fn roles_are_opposite_on_both_sides() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["events", "roles"]).await;
    let (mut b, b_sees) = join_with(&server, "b", &["events", "roles"]).await;
    let (_c, c_sees) = join_with(&server, "c", &["events", "roles"]).await;
    let role = async |client: &mut MeshClient| client.expect("peer_joined").await["payload"]["role"].clone();
    assert_eq!(b_sees["roles"], json!({ "a": "polite" }));
    assert_eq!(role(&mut a).await, "impolite", "of a towards b");
    assert_eq!(c_sees["roles"], json!({ "a": "polite", "b": "polite" }));
    assert_eq!(role(&mut a).await, "impolite", "of a towards c");
    assert_eq!(role(&mut b).await, "impolite", "of b towards c");
    // Asked again, the answer is the same.
    let again = a.register_with(&["events", "roles"]).await;
    assert_eq!(again["roles"], json!({ "b": "impolite", "c": "impolite" }));
}

#[tokio::test]
async fn feedback_says_what_became_of_a_message_that_has_an_id() {
    let server = TestServer::start().await;
    let mut a = server.join("a").await;
    let (mut b, _) = join_with(&server, "b", &["feedback"]).await;
    b.send_with_id("offer", "a", json!({}), "first").await;
    let delivered = b.expect("delivered").await;
    assert_eq!(delivered["payload"], json!({ "target": "a", "id": "first" }));
    assert_eq!(delivered["peer_id"], "registry");
    assert_eq!(a.expect("offer").await["id"], "first", "the target sees the id too");

    b.send_with_id("offer", "nobody", json!({}), "second").await;
    let undeliverable = b.expect("undeliverable").await;
    assert_eq!(
        undeliverable["payload"],
        json!({ "target": "nobody", "id": "second", "reason": "unavailable" })
    );

    b.send("offer", Some("a"), json!({})).await;
    a.expect("offer").await;
    b.send("offer", Some("nobody"), json!({})).await;
    let undeliverable = b.expect("undeliverable").await;
    assert_eq!(
        undeliverable["payload"],
        json!({ "target": "nobody", "reason": "unavailable" }),
        "no id, no delivered"
    );
}

#[tokio::test]
async fn unknown_targets_targets_of_another_mesh_and_unapproved_targets_look_the_same() {
    let server = TestServer::start().await;
    let token = server.exchange(&server.key("foreign", "blue").await).await;
    let mut foreign = server.open("foreign", &token).await;
    foreign.register().await;
    let pending = server.pair("pending").await;
    let mut waiting = server.open(&pending.peer, &server.token_of_claim(&pending).await).await;
    waiting.register().await;
    let mut revoked = server.join("revoked").await;
    server.revoke("revoked").await;
    server.key("offline", "default").await;

    let (mut a, _) = join_with(&server, "a", &["feedback"]).await;
    let impossible = "x".repeat(300);
    for target in ["unknown", "foreign", &pending.peer, "revoked", "offline", &impossible, "registry", ""] {
        a.send_with_id("offer", target, json!({}), "n").await;
        let answer = a.expect("undeliverable").await;
        assert_eq!(
            answer["payload"],
            json!({ "target": target, "id": "n", "reason": "unavailable" }),
            "{target}"
        );
    }
    foreign.expect_silence().await;
    waiting.expect_silence().await;
    revoked.expect_silence().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_named_to_clients_with_feedback() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["feedback"]).await;
    for (frame, code) in [
        ("not json", "malformed"),
        (r#"{"type":"nonsense","peer_id":"a"}"#, "unknown_type"),
        (r#"{"type":"offer","peer_id":"b","target_id":"a"}"#, "wrong_sender"),
        (r#"{"type":"peer_list","peer_id":"a","target_id":"a","payload":{"peers":["b"]}}"#, "malformed"),
    ] {
        a.send_text(frame).await;
        let error = a.expect("error").await;
        assert_eq!(error["payload"]["code"], code, "{frame}: {error}");
        assert!(!error["payload"]["message"].as_str().unwrap().is_empty());
    }
    a.send("offer", None, json!({})).await;
    assert_eq!(a.expect("undeliverable").await["payload"]["reason"], "malformed");
}

#[tokio::test]
async fn ice_servers_come_with_the_list_and_are_bound_to_the_peer() {
    let settings = [
        ("ICE_URLS", "stun:stun.example:3478"),
        ("TURN_URLS", "turn:turn.example:3478"),
        ("TURN_SECRET", "a secret shared with the TURN server"),
    ];
    let server = TestServer::start_with(&settings).await;
    let (_a, welcome) = join_with(&server, "a", &["ice"]).await;
    let servers = welcome["ice_servers"].as_array().unwrap();
    assert_eq!(servers[0], json!({ "urls": ["stun:stun.example:3478"] }));
    assert_eq!(servers[1]["urls"], json!(["turn:turn.example:3478"]));
    let (expiry, peer) = servers[1]["username"].as_str().unwrap().split_once(':').unwrap();
    assert_eq!(peer, "a");
    let life = expiry.parse::<u64>().unwrap() - heliograph_testkit::jwt::now();
    assert!((590..=600).contains(&life), "{life} s");
    assert!(!servers[1]["credential"].as_str().unwrap().is_empty());

    let (_b, welcome) = join_with(&server, "b", &["events"]).await;
    assert!(welcome.get("ice_servers").is_none(), "{welcome}");
}

#[tokio::test]
async fn a_ping_is_answered_with_the_time_and_what_was_sent() {
    let server = TestServer::start().await;
    let mut a = server.join("a").await;
    a.send("ping", None, json!({ "n": 7, "deep": { "x": [1] } })).await;
    let pong = a.expect("pong").await;
    assert_eq!(pong["peer_id"], "registry");
    assert_eq!((&pong["payload"]["n"], &pong["payload"]["deep"]), (&json!(7), &json!({ "x": [1] })));
    let sent_at = pong["payload"]["timestamp"].as_u64().unwrap() / 1000;
    assert!(sent_at.abs_diff(heliograph_testkit::jwt::now()) <= 20, "{pong}");
}

#[tokio::test]
async fn mesh_health_counts_who_is_registered() {
    let server = TestServer::start().await;
    let mut a = server.join("a").await;
    let _registered = server.join("b").await;
    let _connected_only = server.connect("c").await;
    a.send("mesh_health", None, Value::Null).await;
    let health = a.expect("mesh_health").await["payload"].clone();
    assert_eq!((&health["peers_online"], &health["gateways"]), (&json!(2), &json!(server.nodes())));
    assert_eq!(health["authorization"], "current");
    eventually("the version is the node's own", async || {
        a.send("mesh_health", None, Value::Null).await;
        let version = a.expect("mesh_health").await["payload"]["version"].as_i64();
        (version == Some(server.applied_version().await)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_may_see_nobody_learns_of_nobody() {
    let server = TestServer::start().await;
    let _a = server.join("a").await;
    let paired = server.pair("pending").await;
    let mut waiting = server.open(&paired.peer, &server.token_of_claim(&paired).await).await;
    let welcome = waiting.register_with(&ALL).await;
    assert_eq!((peers(&welcome), &welcome["roles"]), (vec![], &json!({})));
    waiting.send("mesh_health", None, Value::Null).await;
    assert_eq!(waiting.expect("mesh_health").await["payload"]["peers_online"], 0);
    let b = server.join("b").await;
    b.close().await;
    waiting.expect_silence().await;
}

#[tokio::test]
async fn messages_of_the_application_are_relayed_for_clients_with_capabilities() {
    let server = TestServer::start().await;
    let mut a = server.join("a").await;
    let (mut b, _) = join_with(&server, "b", &[]).await;
    let frame = r#"{"type":"chat/1 \"x\"","peer_id":"b","target_id":"a","payload":{"text":  "hi"}}"#;
    b.send_text(frame).await;
    assert_eq!(a.next_text().await, frame);
    // The service's own words stay its own.
    for kind in ["peer_list", "peer_revoked", "ice_servers", "pong", "error"] {
        b.send(kind, Some("a"), json!({ "peers": ["evil"] })).await;
    }
    b.expect_silence().await;
    a.expect_silence().await;
}

#[tokio::test]
async fn a_drain_says_goaway_and_closes_with_1012() {
    let server = TestServer::start().await;
    let (mut a, _) = join_with(&server, "a", &["goaway"]).await;
    let (mut plain, _) = join_with(&server, "plain", &["events"]).await;
    let token = server.token("late").await;
    server.drain().await;
    let goaway = a.expect("goaway").await;
    assert!(goaway["payload"]["reconnect_after_ms"].is_u64(), "{goaway}");
    assert!(goaway["payload"]["deadline_ms"].is_u64(), "{goaway}");
    assert_eq!(a.closed().await, Some(1012));
    loop {
        match plain.next().await {
            Ok(message) => assert_eq!(message["type"], "peer_left"),
            Err(closed) => break assert_eq!(closed, Some(1012)),
        }
    }
    assert_eq!(server.dial(&token).open("late").await.err(), Some(503));
    let ready = server.ops().get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["checks"]["not_draining"]), (503, &json!("failed")));
    assert_eq!(server.ops().get("/livez").await.status, 200);
}

#[tokio::test]
async fn capabilities_can_be_asked_for_later() {
    let server = TestServer::start().await;
    let mut a = server.join("a").await;
    a.send("offer", Some("nobody"), json!({})).await;
    a.expect_silence().await;
    a.register_with(&["feedback"]).await;
    a.send("offer", Some("nobody"), json!({})).await;
    a.expect("undeliverable").await;
    a.send("register", None, Value::Null).await;
    // What became of the first offer may show only now: it was away on the bus when feedback was asked for.
    assert_eq!(a.wait_for("peer_list").await["payload"]["version"], 1, "a plain register takes nothing back");
}
