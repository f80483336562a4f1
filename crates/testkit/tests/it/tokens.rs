//! Who gets a token, and which tokens open a socket.

use heliograph_testkit::client::ALL;
use heliograph_testkit::jwt::{self, DeviceKey, SECRET, claims, hand_signed, signed};
use heliograph_testkit::{Access, MeshClient, Paired, text};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::TestServer;

/// A node whose signing secret the test knows.
async fn server() -> TestServer {
    TestServer::start_with(&[("SIGNING_SECRET", SECRET)]).await
}

/// That a token opens a socket on which the peer can register.
async fn assert_opens(server: &Access, peer: &str, token: &str) {
    server.open(peer, token).await.register().await;
}

async fn refused(server: &Access, token: &str) -> Option<u16> {
    server.dial(token).open("a").await.err()
}

/// Says `text` as the first message of a socket without a token.
async fn introduce(server: &Access, text: &str) -> MeshClient {
    let mut client = server.dial_bare().open("a").await.unwrap();
    client.send_text(text).await;
    client
}

fn authenticate(token: &str) -> String {
    json!({ "type": "authenticate", "payload": { "token": token } }).to_string()
}

/// A device that enrols with a public key.
async fn enrol(server: &Access, key: &DeviceKey) -> Paired {
    let body = json!({ "code": server.invite().await, "agent_name": "device", "public_key": key.public });
    Paired::of(&server.api().post("/api/pairing/pair", &body).await.expect(200))
}

#[tokio::test]
async fn a_token_opens_a_socket_from_all_four_places() {
    let server = TestServer::start().await;
    let token = server.token("a").await;
    assert_opens(&server, "a", &token).await;

    let bearer = server.dial_bare().header("authorization", &format!("Bearer {token}"));
    bearer.open("a").await.unwrap().register().await;

    let offered = format!("heliograph.mesh.v1, heliograph.token.{token}");
    let protocol = server.dial_bare().header("sec-websocket-protocol", &offered);
    let mut client = protocol.open("a").await.unwrap();
    assert_eq!(client.protocol.as_deref(), Some("heliograph.mesh.v1"), "the token is never echoed");
    client.register().await;

    introduce(&server, &authenticate(&token)).await.register().await;
}

#[tokio::test]
async fn the_exchange_says_for_whom_the_token_is() {
    let server = TestServer::start().await;
    let key = server.key("a", "blue").await;
    let answer = server.exchange_with("x-api-key", &key).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.expect(200);
    assert_eq!((&answer["peer_id"], &answer["role"]), (&json!("a"), &json!("agent")));
    assert_eq!((&answer["mesh"], &answer["expires_in"]), (&json!("blue"), &json!(300)));
}

#[tokio::test]
async fn without_a_good_credential_there_is_no_token() {
    let server = TestServer::start().await;
    let nothing = server.api().post_empty("/api/token").await;
    assert_eq!(nothing.header("content-type"), Some("application/problem+json"));
    assert!(nothing.expect(401)["error"].is_string());
    for header in ["x-api-key", "x-device-token", "x-device-assertion"] {
        let refused = server.exchange_with(header, "ak_wrong").await;
        assert_eq!(refused.expect(401)["code"], "invalid_credential", "{header}");
    }
    let long = "x".repeat(5_000);
    server.exchange_with("x-api-key", &long).await.expect(401);
}

#[tokio::test]
async fn a_device_token_counts_even_beside_an_unknown_key() {
    let server = TestServer::start().await;
    let (paired, token) = server.pair_and_approve("device").await;
    let api = server.api().with("x-api-key", "ak_unknown").with("x-device-token", &token);
    let answer = api.post_empty("/api/token").await.expect(200);
    assert_eq!((&answer["peer_id"], &answer["role"]), (&json!(paired.peer), &json!("agent")));
    assert_opens(&server, &paired.peer, &text(&answer, "token")).await;
}

#[tokio::test]
async fn a_claim_token_gives_a_socket_that_sees_nobody() {
    let server = TestServer::start().await;
    let _a = server.join("a").await;
    let paired = server.pair("device").await;
    let mut waiting = server.open(&paired.peer, &server.token_of_claim(&paired).await).await;
    assert_eq!(waiting.register().await, [""; 0]);

    let api = server.api().with("x-pairing-id", &paired.id);
    api.with("x-claim-token", "wrong").post_empty("/api/token").await.expect(401);
    api.post_empty("/api/token").await.expect(401);
    let other = server.pair("other").await;
    api.with("x-claim-token", &other.claim).post_empty("/api/token").await.expect(401);
    server.decide(&other.id, "reject").await.expect(200);
    let rejected = server.api().with("x-pairing-id", &other.id).with("x-claim-token", &other.claim);
    rejected.post_empty("/api/token").await.expect(401);
}

#[tokio::test]
async fn a_device_proves_its_key_once_per_assertion_and_only_when_approved() {
    let server = TestServer::start().await;
    let (key, other) = (DeviceKey::new(7), DeviceKey::new(8));
    let paired = enrol(&server, &key).await;
    let show = async |assertion: String| server.exchange_with("x-device-assertion", &assertion).await;
    show(key.assertion(&paired.peer, "one")).await.expect(401);
    server.decide(&paired.id, "approve").await.expect(200);

    let assertion = key.assertion(&paired.peer, "two");
    let answer = show(assertion.clone()).await.expect(200);
    assert_eq!(answer["peer_id"], json!(paired.peer));
    assert_opens(&server, &paired.peer, &text(&answer, "token")).await;
    show(assertion).await.expect(401);
    show(other.assertion(&paired.peer, "three")).await.expect(401);
    show(key.assertion("admin", "four")).await.expect(401);
    show(key.assertion(&paired.peer, "five")).await.expect(200);
}

#[tokio::test]
async fn a_private_key_is_not_enrolled() {
    let server = TestServer::start().await;
    let mut key = DeviceKey::new(7).public;
    key["d"] = json!("AAAA");
    let body = json!({ "code": server.invite().await, "agent_name": "device", "public_key": key });
    let answer = server.api().post("/api/pairing/pair", &body).await.expect(400);
    assert_eq!(answer["code"], "bad_public_key");
}

#[tokio::test]
async fn tokens_signed_by_hand_for_the_original_are_good() {
    let server = server().await;
    server.key("a", "default").await;
    let _b = server.join("b").await;
    assert_eq!(server.open("a", &hand_signed("a")).await.register().await, ["b"]);
    let mut stranger = server.open("stranger", &hand_signed("stranger")).await;
    assert_eq!(stranger.register().await, [""; 0], "nobody approved it");
    let recent = signed(&claims("a", -2), SECRET, Algorithm::HS256);
    assert_opens(&server, "a", &recent).await; // clocks differ by a few seconds
}

#[tokio::test]
async fn tokens_that_are_not_ours_or_not_any_more_are_401() {
    let server = server().await;
    server.key("a", "default").await;
    let good = claims("a", 300);
    let without = |claim: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        signed(&claims, SECRET, Algorithm::HS256)
    };
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        signed(&claims, SECRET, Algorithm::HS256)
    };
    let mut tampered = hand_signed("b");
    tampered.replace_range(..0, "");
    let (head, rest) = tampered.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let body = hand_signed("a").split('.').nth(1).unwrap().to_owned();
    for (what, token) in [
        ("expired", signed(&claims("a", -30), SECRET, Algorithm::HS256)),
        ("wrongly signed", signed(&good, "another secret that is also long enough", Algorithm::HS256)),
        ("alg none", jwt::unsigned(&good)),
        ("alg none with a signature", format!("{}{signature}", jwt::unsigned(&good))),
        ("another algorithm", signed(&good, SECRET, Algorithm::HS512)),
        ("claims of another token", format!("{head}.{body}.{signature}")),
        ("without sub", without("sub")),
        ("without role", without("role")),
        ("without exp", without("exp")),
        ("without iat", without("iat")),
        ("for somebody else", with("aud", json!("another service"))),
        ("from somebody else", with("iss", json!("another service"))),
        ("not yet valid", with("nbf", json!(jwt::now() + 60))),
        ("the service's own name", with("sub", json!("registry"))),
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("empty", String::new()),
        ("long", "x".repeat(8_000)),
    ] {
        assert_eq!(refused(&server, &token).await, Some(401), "{what}");
    }
    assert_opens(&server, "a", &signed(&good, SECRET, Algorithm::HS256)).await;
}

#[tokio::test]
async fn a_token_of_a_revoked_peer_is_403() {
    let server = server().await;
    let token = server.token("a").await;
    server.revoke("a").await;
    assert_eq!(refused(&server, &token).await, Some(403));
    assert_eq!(refused(&server, &hand_signed("a")).await, Some(403));
}

#[tokio::test]
async fn a_first_message_that_does_not_authenticate_is_4401() {
    let server = server().await;
    for first in [
        authenticate("wrong"),
        authenticate(&signed(&claims("a", -30), SECRET, Algorithm::HS256)),
        json!({ "type": "register", "peer_id": "a" }).to_string(),
        "garbage".to_owned(),
    ] {
        assert_eq!(introduce(&server, &first).await.closed().await, Some(4401), "{first}");
    }
}

#[tokio::test]
async fn a_first_message_of_a_revoked_peer_is_4403() {
    let server = server().await;
    let token = server.token("a").await;
    server.revoke("a").await;
    assert_eq!(introduce(&server, &authenticate(&token)).await.closed().await, Some(4403));
}

#[tokio::test]
async fn turn_credentials_are_for_authorized_peers_only() {
    let settings = [
        ("ICE_URLS", "stun:stun.example"),
        ("TURN_URLS", "turn:turn.example"),
        ("TURN_SECRET", "a TURN secret"),
    ];
    let server = TestServer::start_with(&settings).await;
    let entries = |answer: Value| answer["iceServers"].as_array().unwrap().len();
    let key = server.key("a", "default").await;
    let token = server.exchange(&key).await;
    let (paired, device) = server.pair_and_approve("device").await;
    let waiting = server.pair("waiting").await;
    let bearer = |token: &str| server.api().with("authorization", &format!("Bearer {token}"));

    assert_eq!(entries(server.api().get("/api/config").await.expect(200)), 1, "a stranger gets STUN");
    for api in
        [bearer(&token), server.api().with("x-api-key", &key), server.api().with("x-device-token", &device)]
    {
        assert_eq!(entries(api.get("/api/config").await.expect(200)), 2);
    }
    let pending = bearer(&server.token_of_claim(&waiting).await);
    assert_eq!(entries(pending.get("/api/config").await.expect(200)), 1, "not approved yet");
    let pending = server.api().with("x-pairing-id", &waiting.id).with("x-claim-token", &waiting.claim);
    assert_eq!(entries(pending.get("/api/config").await.expect(200)), 1, "not approved yet, by claim token");
    bearer("wrong").get("/api/config").await.expect(401);
    server.revoke("a").await;
    bearer(&token).get("/api/config").await.expect(403);
    server.revoke(&paired.peer).await;
    server.api().with("x-device-token", &device).get("/api/config").await.expect(401);
}

#[tokio::test]
async fn a_socket_outlives_its_token_and_may_prove_itself_again() {
    let server = server().await;
    let mut a = server.join_fully("a").await;
    a.send_text(&authenticate(&hand_signed("a"))).await;
    a.expect_silence().await;
    a.register_with(&ALL).await;
}

#[tokio::test]
async fn nobody_is_found_by_trying_keys() {
    let server = TestServer::start_with(&[("AUTH_FAILURES_PER_ADDRESS", "3")]).await;
    let key = server.key("a", "default").await;
    for _ in 0..5 {
        server.exchange(&key).await; // successes do not count
    }
    for _ in 0..3 {
        server.exchange_with("x-api-key", "ak_guess").await.expect(401);
    }
    let refused = server.exchange_with("x-api-key", &key).await;
    assert!(refused.header("retry-after").is_some());
    refused.expect(429);
    let elsewhere = server.api().from([127, 0, 0, 2]).with("x-api-key", &key);
    elsewhere.post_empty("/api/token").await.expect(200);
}
