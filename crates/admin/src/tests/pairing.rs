//! Codes, redemption, status, decisions.

use super::*;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_device_pairs_is_approved_and_gets_its_token_once() {
    let world = World::new().await;
    let device = world.paired().await;
    assert_eq!(
        world.status(&device, "").await,
        json!({"id": device.id, "status": "pending_approval", "peer_id": device.peer})
    );
    let approved = world.decide(&device, "approve", json!({ "deliver": "device" })).await.ok();
    let version = world.store.version().await.unwrap().0;
    assert_eq!(
        approved,
        json!({"id": device.id, "status": "approved", "peer_id": device.peer, "version": version})
    );
    let first = world.status(&device, "").await;
    assert!(first["device_token"].as_str().unwrap().starts_with("dt_"));
    assert_eq!(
        world.status(&device, "").await,
        json!({"id": device.id, "status": "approved", "peer_id": device.peer})
    );
}

#[tokio::test]
async fn an_approval_without_a_word_hands_the_token_to_the_administrator() {
    let world = World::new().await;
    let device = world.paired().await;
    let approve = format!("/api/pairing/{}/approve", device.id);
    let approved = world.send(Method::POST, &approve, key(OPERATOR), None).await.ok();
    assert!(approved["device_token"].as_str().unwrap().starts_with("dt_"));
    assert!(world.status(&device, "").await.get("device_token").is_none());
}

#[tokio::test]
async fn a_device_that_waits_at_this_moment_gets_the_token_itself() {
    let world = Arc::new(World::new().await);
    let device = Arc::new(world.paired().await);
    let waiting = tokio::spawn({
        let (world, device) = (world.clone(), device.clone());
        async move { world.status(&device, "?wait=30").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let approved = world.decide(&device, "approve", json!({})).await.ok();
    assert!(approved.get("device_token").is_none());
    let status = timeout(Duration::from_secs(2), waiting).await.expect("woken at once").unwrap();
    assert_eq!(status["status"], "approved");
    assert!(status["device_token"].as_str().unwrap().starts_with("dt_"));
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_gets_the_token() {
    let world = World::new().await;
    let device = world.paired().await;
    world.decide(&device, "approve", json!({ "deliver": "device" })).await.ok();
    let answers = join_all((0..20).map(|_| world.status(&device, ""))).await;
    assert_eq!(answers.iter().filter(|answer| answer.get("device_token").is_some()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_its_time_and_is_bounded_per_pairing() {
    let world = Arc::new(World::new().await);
    let device = Arc::new(world.paired().await);
    let started = Instant::now();
    assert_eq!(world.status(&device, "?wait=30").await["status"], "pending_approval");
    assert_eq!(started.elapsed().as_secs(), 30);
    let polls: Vec<_> = (0..5)
        .map(|_| {
            let (world, device) = (world.clone(), device.clone());
            let path = format!("/api/pairing/{}/status?wait=9999", device.id);
            tokio::spawn(async move { world.get(&path, bearer(&device.claim)).await.status })
        })
        .collect();
    let statuses = join_all(polls).await.into_iter().map(Result::unwrap);
    assert_eq!(statuses.filter(|status| *status == StatusCode::TOO_MANY_REQUESTS).count(), 1);
    assert_eq!(started.elapsed().as_secs(), 30 + 60, "no long-poll is longer than a minute");
}

#[tokio::test]
async fn claim_tokens_open_their_own_pairing_only() {
    let world = World::new().await;
    let (one, other) = (world.paired().await, world.paired().await);
    let path = format!("/api/pairing/{}/status", one.id);
    world.get(&path, With::default()).await.is(401, "unauthorized");
    let wrong = world.get(&path, bearer(&other.claim)).await;
    wrong.is(404, "not_found");
    let unknown = world.get("/api/pairing/000000000000/status", bearer(&one.claim)).await;
    unknown.is(404, "not_found");
    assert_eq!(wrong.text, unknown.text);
}

#[tokio::test]
async fn codes_have_terms_and_those_have_bounds() {
    let world = World::new().await;
    let made = world.post("/api/pairing/generate-code", key(AGENT), json!({})).await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.ok();
    assert_eq!(
        (&made["expires_in"], &made["uses"], &made["mesh"]),
        (&json!(600), &json!(1), &json!("default"))
    );
    assert_eq!(made["code"].as_str().unwrap().len(), 11);
    assert!(made.get("qr_svg").is_none());
    let digits = json!({"format": "digits", "ttl_seconds": 60, "uses": 3, "qr": true});
    let made = world.post("/api/pairing/generate-code", key(AGENT), digits).await.ok();
    assert!(made["code"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    assert!(made["qr_svg"].as_str().unwrap().contains("<svg"));
    for (wish, code) in [
        (json!({"ttl_seconds": 9}), "bad_ttl"),
        (json!({"ttl_seconds": 604_801}), "bad_ttl"),
        (json!({"ttl_seconds": 901, "format": "digits"}), "bad_ttl"),
        (json!({"uses": 0}), "bad_uses"),
        (json!({"uses": 10_001}), "bad_uses"),
        (json!({"uses": -1}), "malformed_body"),
        (json!({"format": "emoji"}), "malformed_body"),
        (json!({"mesh": ""}), "bad_mesh"),
    ] {
        world.post("/api/pairing/generate-code", key(AGENT), wish).await.is(400, code);
    }
    world.post("/api/pairing/generate-code", With::default(), json!({})).await.is(401, "unauthorized");
    world.post("/api/pairing/generate-code", key("ak_no"), json!({})).await.is(401, "unauthorized");
    let elsewhere = json!({"mesh": "other"});
    world.post("/api/pairing/generate-code", key(AGENT), elsewhere.clone()).await.is(403, "forbidden");
    let made = world.post("/api/pairing/generate-code", key(OPERATOR), elsewhere).await.ok();
    assert_eq!(made["mesh"], "other");
}

#[tokio::test]
async fn a_bound_on_open_invites_and_on_waiting_devices() {
    let limits = Limits { max_open_invites_per_mesh: 2, max_pending_per_mesh: 1, ..Limits::default() };
    let world = World::with(limits).await;
    let (first, second) = (world.code().await, world.code().await);
    let full = world.post("/api/pairing/generate-code", key(AGENT), json!({})).await;
    full.is(429, "limit_reached");
    assert!(full.headers.contains_key("retry-after"));
    world.redeem(&first, With::default()).await.ok();
    world.redeem(&second, With::default()).await.is(429, "limit_reached");
}

#[tokio::test]
async fn wrong_used_expired_and_revoked_codes_look_the_same() {
    let world = World::new().await;
    let used = world.code().await;
    world.redeem(&used, With::default()).await.ok();
    let revoked = world.post("/api/pairing/generate-code", key(AGENT), json!({})).await.ok();
    let invite = format!("/api/invites/{}", revoked["id"].as_str().unwrap());
    world.delete(&invite, key(OPERATOR)).await.ok();
    let expired = world.code().await;
    world.later(Duration::from_mins(10));
    let mut texts = vec![];
    for code in [used.as_str(), revoked["code"].as_str().unwrap(), &expired, "ZZZZZ-ZZZZZ", "000000"] {
        let refused = world.redeem(code, With::default()).await;
        refused.is(401, "invalid_code");
        texts.push(refused.text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains(r#""error":"invalid or expired pairing code""#), "{}", texts[0]);
}

#[tokio::test]
async fn what_is_malformed_is_said_and_costs_neither_code_nor_budget() {
    let world = World::new().await;
    let code = world.code().await;
    let long = "x".repeat(101);
    let private = json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": "c2VjcmV0LXBhcnQ"});
    for (body, expect) in [
        (json!({"code": "12345", "agent_name": "a"}), "malformed_code"),
        (json!({"agent_name": "a"}), "malformed_code"),
        (json!({"code": code}), "bad_name"),
        (json!({"code": code, "agent_name": "  "}), "bad_name"),
        (json!({"code": code, "agent_name": long}), "bad_name"),
        (json!({"code": code, "agent_name": "a\nb"}), "bad_name"),
        (json!({"code": code, "agent_name": 7}), "malformed_body"),
        (json!({"code": code, "name": "a", "public_key": private}), "bad_public_key"),
        (json!({"code": code, "name": "a", "public_key": {"kty": "oct"}}), "bad_public_key"),
    ] {
        let refused = world.post("/api/pairing/pair", With::default(), body).await;
        refused.is(400, expect);
        assert!(!refused.text.contains("c2VjcmV0"), "{}", refused.text);
    }
    let broken = Body::from("{\"code\":");
    world
        .send_body(Method::POST, "/api/pairing/pair", With::default(), broken)
        .await
        .is(400, "malformed_json");
    world.redeem(&code, With::default()).await.ok();
}

#[tokio::test]
async fn a_public_key_is_shown_by_its_fingerprint() {
    let world = World::new().await;
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A
    let body = json!({"code": world.code().await, "name": "camera", "public_key": {"kty": "OKP", "crv": "Ed25519", "x": x}});
    world.post("/api/pairing/pair", from([10, 0, 0, 9]), body).await.ok();
    let pending = world.get("/api/pairing/pending", key(OPERATOR)).await.ok();
    assert_eq!(pending[0]["key_fingerprint"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!((&pending[0]["address"], &pending[0]["agent_name"]), (&json!("10.0.0.9"), &json!("camera")));
    assert_eq!(pending[0]["created_at"].as_f64(), Some(1_800_000_000.0));
}

#[tokio::test]
async fn guesses_from_one_address_run_out_of_budget_and_successes_are_free() {
    let world = World::new().await;
    let attacker = from([10, 0, 0, 1]);
    for _ in 0..20 {
        world.redeem(&world.code().await, attacker).await.ok();
    }
    for _ in 0..5 {
        world.redeem("000000", attacker).await.is(401, "invalid_code");
    }
    let refused = world.redeem("000000", attacker).await;
    refused.is(429, "rate_limited");
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    world.redeem(&world.code().await, attacker).await.is(429, "rate_limited");
    world.redeem(&world.code().await, from([10, 0, 0, 2])).await.ok();
    let limited = world.registry.gather();
    let limited = limited.iter().find(|family| family.name() == "heliograph_rate_limited_total").unwrap();
    assert!((limited.get_metric()[0].get_counter().get_value() - 2.0).abs() < 0.1);
}

#[tokio::test]
async fn guesses_from_many_addresses_share_one_budget() {
    let limits = Limits { redeem_failures_global: 10, ..Limits::default() };
    let world = World::with(limits).await;
    for guess in 0..10 {
        world.redeem("000000", from([10, 0, 0, guess])).await.is(401, "invalid_code");
    }
    world.redeem("000000", from([10, 0, 1, 1])).await.is(429, "rate_limited");
}

#[tokio::test]
async fn guesses_all_at_once_find_the_same_budget() {
    let world = World::new().await;
    let attacker = from([10, 0, 0, 1]);
    let answers = join_all((0..100).map(|_| world.redeem("000000", attacker))).await;
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert!(refused >= 100 - 5, "{refused}");
}

#[tokio::test]
async fn a_decision_is_made_once() {
    let world = World::new().await;
    let device = world.paired().await;
    let approvals = join_all((0..10).map(|_| world.decide(&device, "approve", json!({})))).await;
    assert_eq!(approvals.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    for refused in approvals.iter().filter(|answer| answer.status != StatusCode::OK) {
        refused.is(409, "wrong_state");
        assert_eq!(refused.json()["current_status"], "approved");
    }
    world.decide(&device, "reject", json!({})).await.is(409, "wrong_state");
    world.decide(&device, "revoke", json!({})).await.ok();
    let late = world.decide(&device, "approve", json!({})).await;
    late.is(409, "wrong_state");
    assert_eq!(late.json()["current_status"], "revoked");
    assert_eq!(world.status(&device, "").await["status"], "revoked");
}

#[tokio::test]
async fn a_rejected_device_hears_it_and_gets_no_token() {
    let world = World::new().await;
    let device = world.paired().await;
    let rejected = world.decide(&device, "reject", json!({})).await.ok();
    assert_eq!(rejected["status"], "ok");
    let status = world.status(&device, "?wait=30").await;
    assert_eq!(status, json!({"id": device.id, "status": "rejected", "peer_id": device.peer}));
    world.decide(&device, "approve", json!({})).await.is(409, "wrong_state");
}

#[tokio::test]
async fn decisions_take_an_admin_and_an_id_that_exists() {
    let world = World::new().await;
    let device = world.paired().await;
    for call in ["approve", "reject", "revoke"] {
        let path = format!("/api/pairing/{}/{call}", device.id);
        world.post(&path, With::default(), json!({})).await.is(401, "unauthorized");
        world.post(&path, key(AGENT), json!({})).await.is(403, "forbidden");
        world.post(&path, key(OTHER_ADMIN), json!({})).await.is(404, "not_found");
        let unknown = world.post(&format!("/api/pairing/nobody/{call}"), key(OPERATOR), json!({})).await;
        unknown.is(404, "not_found");
    }
    let unknown = world.post("/api/pairing/nobody/approve", key(OPERATOR), json!({})).await;
    assert_eq!(unknown.json()["error"], "not found or not pending");
    world.decide(&device, "approve", json!({"deliver": "pigeon"})).await.is(400, "malformed_body");
}

#[tokio::test]
async fn lists_are_arrays_with_their_cursor_in_a_header() {
    let world = World::new().await;
    let devices = [world.paired().await, world.paired().await, world.paired().await];
    world.decide(&devices[0], "approve", json!({})).await.ok();
    let page = world.get("/api/pairing/pending?limit=1", key(OPERATOR)).await;
    let cursor = page.headers["x-next-cursor"].to_str().unwrap().to_owned();
    assert_eq!(page.ok()[0]["id"], devices[2].id);
    let page = world.get(&format!("/api/pairing/pending?limit=1&cursor={cursor}"), key(OPERATOR)).await;
    assert!(!page.headers.contains_key("x-next-cursor"));
    assert_eq!(page.ok()[0]["id"], devices[1].id);
    let all = world.get("/api/pairing/all", key(OPERATOR)).await.ok();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[2]["status"], "approved");
    assert!(!all.to_string().contains("dt_"));
    world.get("/api/pairing/all?cursor=nonsense", key(OPERATOR)).await.is(400, "bad_cursor");
    world.get("/api/pairing/all?limit=many", key(OPERATOR)).await.is(400, "malformed_query");
    assert_eq!(world.get("/api/pairing/all", key(OTHER_ADMIN)).await.ok(), json!([]));
    world.get("/api/pairing/all?mesh=default", key(OTHER_ADMIN)).await.is(403, "forbidden");
}
