//! From an invite to an approved peer.

use heliograph_testkit::client::ALL;
use heliograph_testkit::jwt::{SECRET, hand_signed};
use heliograph_testkit::{Access, Answer, Api, Paired, eventually, in_time, peers, text};
use serde_json::{Value, json};

use crate::TestServer;

/// The device's view.
fn device(server: &Access, paired: &Paired) -> Api {
    server.api().with("authorization", &format!("Bearer {}", paired.claim))
}

async fn status(server: &Access, paired: &Paired) -> Value {
    device(server, paired).get(&format!("/api/pairing/{}/status", paired.id)).await.expect(200)
}

/// What an answer says to somebody who guesses.
fn said(answer: &Answer) -> (u16, String) {
    (answer.status, answer.text.clone())
}

/// Waits until the nodes that serve the sockets have applied the decision.
async fn applied_here(server: &Access, paired: &Paired) {
    let peer = server.admin().get(&format!("/api/peers/{}", paired.peer)).await.expect(200);
    eventually("this node knows", async || {
        let applied = server.applied_version().await;
        (Some(applied) >= peer["version"].as_i64()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_invited_device_becomes_a_peer() {
    let server = TestServer::start().await;
    let made =
        server.admin().post("/api/pairing/generate-code", &json!({ "ttl_seconds": 60 })).await.expect(200);
    assert_eq!((&made["expires_in"], &made["uses"]), (&json!(60), &json!(1)));
    let redeemed = server.redeem(&text(&made, "code"), "kitchen").await.expect(200);
    assert_eq!(redeemed["status"], "pending_approval");
    let paired = Paired::of(&redeemed);
    assert_eq!(status(&server, &paired).await["status"], "pending_approval");

    let pending = server.admin().get("/api/pairing/pending").await.expect(200);
    assert_eq!((&pending[0]["id"], &pending[0]["agent_name"]), (&json!(paired.id), &json!("kitchen")));
    let path = format!("/api/pairing/{}/approve", paired.id);
    let approved = server.admin().post(&path, &json!({ "deliver": "device" })).await.expect(200);
    assert_eq!((&approved["status"], approved.get("device_token")), (&json!("approved"), None));
    assert_eq!(server.admin().get("/api/pairing/pending").await.expect(200), json!([]));

    let token = text(&status(&server, &paired).await, "device_token");
    assert!(status(&server, &paired).await.get("device_token").is_none(), "exactly once");
    let session = text(&server.exchange_with("x-device-token", &token).await.expect(200), "token");
    let mut friend = server.join_fully("friend").await;
    assert_eq!(server.open(&paired.peer, &session).await.register().await, ["friend"]);
    assert_eq!(friend.expect("peer_joined").await["payload"]["peer"], json!(paired.peer));

    let all = server.admin().get("/api/pairing/all").await.expect(200).to_string();
    assert!(all.contains(&paired.id) && !all.contains(&token), "{all}");
}

#[tokio::test]
async fn the_device_token_goes_to_whoever_asks_first() {
    let server = TestServer::start().await;
    let (paired, token) = server.pair_and_approve("device").await;
    assert!(status(&server, &paired).await.get("device_token").is_none());
    server.exchange_with("x-device-token", &token).await.expect(200);
}

#[tokio::test]
async fn a_long_poll_answers_when_the_decision_falls() {
    let server = TestServer::start().await;
    for (verb, outcome) in [("approve", "approved"), ("reject", "rejected")] {
        let paired = server.pair("device").await;
        let path = format!("/api/pairing/{}/status?wait=60", paired.id);
        let device = device(&server, &paired);
        let waiting = tokio::spawn(async move { device.get(&path).await });
        // A fifth call for the same pairing would be refused: so many wait already, and this one among them.
        server.decide(&paired.id, verb).await.expect(200);
        let answer = in_time("the long poll", waiting).await.unwrap().expect(200);
        assert_eq!(answer["status"], outcome);
    }
}

#[tokio::test]
async fn approval_reaches_a_waiting_socket_at_once() {
    let server = TestServer::start_with(&[("SIGNING_SECRET", SECRET)]).await;
    let mut friend = server.join_fully("friend").await;
    for by_hand in [false, true] {
        let paired = server.pair("device").await;
        let token = if by_hand { hand_signed(&paired.peer) } else { server.token_of_claim(&paired).await };
        let mut device = server.open(&paired.peer, &token).await;
        assert_eq!(peers(&device.register_with(&ALL).await), [""; 0]);
        device.send_with_id("offer", "friend", json!("not yet"), "1").await;
        assert_eq!(device.expect("undeliverable").await["payload"]["reason"], "unavailable");
        friend.expect_silence().await;

        server.decide(&paired.id, "approve").await.expect(200);
        assert_eq!(device.expect("approved").await["payload"], json!({}));
        let list = device.expect("peer_list").await;
        assert_eq!((&list["payload"]["peers"], &list["payload"]["version"]), (&json!(["friend"]), &json!(1)));
        assert_eq!(list["payload"]["roles"], json!({ "friend": "polite" }));
        let joined = friend.expect("peer_joined").await;
        assert_eq!(joined["payload"], json!({ "peer": paired.peer, "role": "impolite" }));
        device.send("offer", Some("friend"), json!("now")).await;
        assert_eq!(friend.expect("offer").await["payload"], "now");
        device.close().await;
        friend.expect("peer_left").await;
    }
}

#[tokio::test]
async fn approval_gives_an_old_client_its_list_and_nothing_else() {
    let server = TestServer::start().await;
    let _friend = server.join("friend").await;
    let paired = server.pair("device").await;
    let mut device = server.open(&paired.peer, &server.token_of_claim(&paired).await).await;
    assert_eq!(device.register().await, [""; 0]);
    server.decide(&paired.id, "approve").await.expect(200);
    assert_eq!(peers(&device.expect("peer_list").await), ["friend"]);
    device.expect_silence().await;
}

#[tokio::test]
async fn a_peer_that_gets_a_key_is_approved_where_it_waits() {
    let server = TestServer::start_with(&[("SIGNING_SECRET", SECRET)]).await;
    let mut stranger = server.open("stranger", &hand_signed("stranger")).await;
    assert_eq!(peers(&stranger.register_with(&["events"]).await), [""; 0]);
    server.key("stranger", "default").await;
    stranger.expect("approved").await;
    stranger.expect("peer_list").await;
}

#[tokio::test]
async fn approval_before_register_needs_no_second_list() {
    let server = TestServer::start().await;
    let _friend = server.join("friend").await;
    let paired = server.pair("device").await;
    let mut device = server.open(&paired.peer, &server.token_of_claim(&paired).await).await;
    server.decide(&paired.id, "approve").await.expect(200);
    applied_here(&server, &paired).await;
    assert_eq!(peers(&device.register_with(&ALL).await), ["friend"]);
    device.expect_silence().await;
}

#[tokio::test]
async fn a_rejected_device_stays_outside() {
    let server = TestServer::start().await;
    let _friend = server.join("friend").await;
    let paired = server.pair("device").await;
    let token = server.token_of_claim(&paired).await;
    let mut device = server.open(&paired.peer, &token).await;
    device.register_with(&ALL).await;
    server.decide(&paired.id, "reject").await.expect(200);
    assert_eq!(status(&server, &paired).await["status"], "rejected");
    applied_here(&server, &paired).await;
    assert_eq!(server.dial(&token).open(&paired.peer).await.err(), Some(403));
    device.send_with_id("offer", "friend", json!({}), "1").await;
    assert_eq!(device.wait_for("undeliverable").await["payload"]["reason"], "unavailable");
}

#[tokio::test]
async fn wrong_used_revoked_and_expired_codes_get_the_same_answer() {
    let many = [("REDEEM_FAILURES_PER_ADDRESS", "1000"), ("REDEEM_FAILURES_GLOBAL", "1000")];
    let server = TestServer::start_with(&many).await;
    // The shortest life that a code may have; it can be used often, so that looking does not use it up.
    let short = json!({ "ttl_seconds": 10, "uses": 1000 });
    let short = text(&server.admin().post("/api/pairing/generate-code", &short).await.expect(200), "code");

    let used = server.invite().await;
    server.redeem(&used, "first").await.expect(200);
    let taken_back = server.admin().post("/api/pairing/generate-code", &json!({})).await.expect(200);
    let path = format!("/api/invites/{}", text(&taken_back, "id"));
    assert_eq!(server.admin().delete(&path).await.status / 100, 2);

    let wrong = said(&server.redeem("ABCDE-FGHJK", "device").await);
    assert_eq!(wrong.0, 401, "{}", wrong.1);
    assert_eq!(said(&server.redeem(&used, "device").await), wrong);
    assert_eq!(said(&server.redeem(&text(&taken_back, "code"), "device").await), wrong);
    let expired = eventually("the code expires", async || {
        let answer = server.redeem(&short, "device").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(said(&expired), wrong);
}

#[tokio::test]
async fn malformed_redemptions_are_400_and_do_not_use_the_code_up() {
    let server = TestServer::start_with(&[("REDEEM_FAILURES_PER_ADDRESS", "1")]).await;
    let code = server.invite().await;
    let api = server.api();
    for body in [
        json!({ "agent_name": "x" }),
        json!({ "code": code }),
        json!({ "code": code, "agent_name": "  " }),
        json!({ "code": code, "agent_name": "x".repeat(1000) }),
        json!({ "code": code, "agent_name": "a\nb" }),
        json!({ "code": "!", "agent_name": "x" }),
        json!({ "code": 7, "agent_name": "x" }),
        json!({ "code": code, "agent_name": "x", "public_key": "none" }),
        json!([]),
    ] {
        let answer = api.post("/api/pairing/pair", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.json()["error"].is_string(), "{body}: {}", answer.text);
    }
    api.request("POST", "/api/pairing/pair", Some("{not json")).await.expect(400);
    server.redeem(&code, "device").await.expect(200);
}

#[tokio::test]
async fn codes_are_forgiving_about_how_they_are_typed() {
    let server = TestServer::start().await;
    let code = server.invite().await;
    let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
    server.redeem(&typed, "device").await.expect(200);
    let digits =
        server.admin().post("/api/pairing/generate-code", &json!({ "format": "digits" })).await.expect(200);
    let digits = text(&digits, "code");
    assert!(digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()), "{digits}");
    server.redeem(&digits, "device").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_that_redeem_one_code_at_once_one_gets_in() {
    let server = TestServer::start_with(&[("REDEEM_FAILURES_PER_ADDRESS", "100")]).await;
    let code = server.invite().await;
    let attempts = (0..10).map(|i| {
        let (access, code) = (server.clone(), code.clone());
        tokio::spawn(async move { access.redeem(&code, &format!("device {i}")).await.status })
    });
    let mut statuses = vec![];
    for attempt in attempts.collect::<Vec<_>>() {
        statuses.push(attempt.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![401; 9]].concat());
    assert_eq!(server.admin().get("/api/pairing/all").await.expect(200).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_decisions_at_once_one_counts() {
    let server = TestServer::start().await;
    let paired = server.pair("device").await;
    let decisions = (0..10).map(|i| {
        let (access, id) = (server.clone(), paired.id.clone());
        tokio::spawn(
            async move { access.decide(&id, if i % 2 == 0 { "approve" } else { "reject" }).await.status },
        )
    });
    let mut statuses = vec![];
    for decision in decisions.collect::<Vec<_>>() {
        statuses.push(decision.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![409; 9]].concat());
}

#[tokio::test]
async fn transitions_that_lost_or_do_not_exist_are_409_with_the_current_status() {
    let server = TestServer::start().await;
    let lost = async |paired: &Paired, verb: &str, current: &str| {
        let answer = server.decide(&paired.id, verb).await;
        assert_eq!(answer.expect(409)["current_status"], current, "{verb}");
    };
    let (approved, _) = server.pair_and_approve("approved").await;
    lost(&approved, "approve", "approved").await;
    lost(&approved, "reject", "approved").await;
    server.revoke(&approved.id).await;
    lost(&approved, "approve", "revoked").await;
    lost(&approved, "revoke", "revoked").await;
    assert_eq!(status(&server, &approved).await["status"], "revoked");

    let rejected = server.pair("rejected").await;
    lost(&rejected, "revoke", "pending_approval").await;
    server.decide(&rejected.id, "reject").await.expect(200);
    lost(&rejected, "approve", "rejected").await;
    for verb in ["approve", "reject", "revoke"] {
        server.decide("no-such-pairing", verb).await.expect(404);
    }
}

#[tokio::test]
async fn administration_takes_an_admin_key() {
    let server = TestServer::start().await;
    let agent = server.api().with("x-api-key", &server.key("agent", "default").await);
    let token = server.token("other").await;
    let paired = server.pair("device").await;
    for (method, path) in [
        ("GET", "/api/pairing/pending".to_owned()),
        ("GET", "/api/pairing/all".to_owned()),
        ("POST", format!("/api/pairing/{}/approve", paired.id)),
        ("POST", format!("/api/pairing/{}/reject", paired.id)),
        ("POST", format!("/api/pairing/{}/revoke", paired.id)),
        ("GET", "/api/pairing/changes/1".to_owned()),
        ("GET", "/api/invites".to_owned()),
        ("DELETE", "/api/invites/x".to_owned()),
        ("GET", "/api/peers".to_owned()),
        ("GET", "/api/peers/agent".to_owned()),
        ("GET", "/api/keys".to_owned()),
        ("POST", "/api/keys".to_owned()),
        ("DELETE", "/api/keys/x".to_owned()),
        ("GET", "/api/audit".to_owned()),
        ("GET", "/api/audit/verify".to_owned()),
        ("GET", "/api/gateways".to_owned()),
        ("POST", "/api/gateways/self/drain".to_owned()),
        ("GET", "/api/events".to_owned()),
    ] {
        let status = async |api: Api| api.request(method, &path, None).await.status;
        assert_eq!(status(server.api()).await, 401, "{method} {path} without a key");
        assert_eq!(
            status(server.api().with("x-api-key", "ak_wrong")).await,
            401,
            "{method} {path}, unknown key"
        );
        let session = server.api().with("authorization", &format!("Bearer {token}"));
        assert_eq!(status(session).await, 401, "{method} {path} with a session token");
        assert_eq!(status(agent.clone()).await, 403, "{method} {path} as an agent");
    }
    assert_eq!(status(&server, &paired).await["status"], "pending_approval", "nothing happened");
}

#[tokio::test]
async fn any_key_of_the_mesh_invites_and_nobody_else_does() {
    let server = TestServer::start().await;
    let (path, wish) = ("/api/pairing/generate-code", json!({}));
    server.api().post(path, &wish).await.expect(401);
    let agent = server.api().with("x-api-key", &server.key("agent", "blue").await);
    let made = agent.post(path, &wish).await.expect(200);
    assert_eq!(made["mesh"], "blue");
    agent.post(path, &json!({ "mesh": "default" })).await.expect(403);
    let paired = Paired::of(&server.redeem(&text(&made, "code"), "device").await.expect(200));
    let peer = server.admin().get(&format!("/api/peers/{}?mesh=blue", paired.peer)).await.expect(200);
    assert_eq!(peer["mesh"], "blue");
}

#[tokio::test]
async fn a_claim_token_shows_its_own_pairing_only() {
    let server = TestServer::start().await;
    let (one, other) = (server.pair("one").await, server.pair("other").await);
    let path = format!("/api/pairing/{}/status", one.id);
    server.api().get(&path).await.expect(401);
    let stranger = device(&server, &other).get(&path).await;
    let unknown = device(&server, &one).get("/api/pairing/nothing/status").await;
    assert_eq!(said(&stranger), said(&unknown), "not one word about what exists");
    stranger.expect(404);
}

#[tokio::test]
async fn every_change_is_in_the_log_and_the_chain_holds() {
    let server = TestServer::start().await;
    let (paired, _) = server.pair_and_approve("device").await;
    server.revoke(&paired.id).await;
    let log = server.admin().get("/api/audit").await.expect(200);
    let rows = log["entries"].as_array().unwrap();
    let actions: Vec<&str> = rows.iter().rev().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(actions, ["key.create", "invite.create", "pair", "approve", "token.issue", "revoke"]);
    let versions: Vec<u64> = rows.iter().rev().filter_map(|row| row["version"].as_u64()).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6], "gapless");
    let verified = server.admin().get("/api/audit/verify").await.expect(200);
    assert_eq!(verified, json!({ "ok": true, "entries": 6 }));
}

/// Each node has seen the device wait, and the one that it connects to may be the last to hear of its approval.
#[tokio::test]
async fn an_approved_device_is_in_its_place_at_once_on_any_node() {
    let server = TestServer::start().await;
    let mut friend = server.join_fully("friend").await;
    for round in 0..10 {
        let paired = server.pair("device").await;
        let waiting = server.token_of_claim(&paired).await;
        for _ in 0..server.nodes() {
            let mut early = server.open(&paired.peer, &waiting).await;
            assert_eq!(peers(&early.register_with(&ALL).await), [""; 0], "who waits sees nobody");
            early.close().await;
        }
        let approved = server.decide(&paired.id, "approve").await.expect(200);
        let session =
            server.exchange_with("x-device-token", &text(&approved, "device_token")).await.expect(200);
        let mut device = server.open(&paired.peer, &text(&session, "token")).await;
        let list = device.register_with(&ALL).await;
        assert_eq!(peers(&list), ["friend"], "round {round}: {list}");
        device.send("offer", Some("friend"), json!(round)).await;
        assert_eq!(friend.wait_for("offer").await["payload"], round);
        friend.send("answer", Some(&paired.peer), json!(round)).await;
        assert_eq!(device.wait_for("answer").await["payload"], round);
        device.close().await;
        let gone = friend.wait_for("peer_left").await;
        assert_eq!(gone["payload"]["peer"], paired.peer);
    }
}
