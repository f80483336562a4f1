//! A client that loses its connection takes up its session again.

use std::time::Duration;

use heliograph_testkit::client::ALL;
use heliograph_testkit::{MeshClient, eventually, text};
use serde_json::{Value, json};

use crate::TestServer;

/// A peer that registered with all capabilities, and what it may show to resume.
async fn join(server: &TestServer, peer: &str) -> (MeshClient, String) {
    let mut client = server.connect(peer).await;
    let welcome = client.register_with(&ALL).await;
    (client, text(&welcome["session"], "resume_token"))
}

/// The answer to a resumption on a new socket of the peer.
async fn resume(server: &TestServer, peer: &str, token: &str, received: Option<u64>) -> (MeshClient, Value) {
    let mut client = server.connect(peer).await;
    let mut payload = json!({ "resume_token": token });
    if let Some(received) = received {
        payload["received"] = json!(received);
    }
    client.send("resume", None, payload).await;
    let answer = client.expect("resumed").await["payload"].clone();
    (client, answer)
}

async fn parked(server: &TestServer, count: i64) {
    eventually("parked", async || (server.metric("heliograph_parked_sessions").await == count).then_some(()))
        .await;
}

fn recovered(answer: &Value) -> (u64, u64) {
    let number = |member: &str| answer[member].as_u64().unwrap_or_else(|| panic!("no {member} in {answer}"));
    (number("recovered"), number("lost"))
}

#[tokio::test]
async fn what_was_sent_while_a_client_was_away_follows_in_order() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    for n in 0..20 {
        b.send_with_id("offer", "a", json!({ "n": n }), &format!("m{n}")).await;
    }
    b.expect_silence().await; // nobody is told anything yet: it waits
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(recovered(&answer), (20, 0));
    for n in 0..20 {
        assert_eq!(a.expect("offer").await["payload"]["n"], n);
    }
    for n in 0..20 {
        assert_eq!(b.expect("delivered").await["payload"]["id"], format!("m{n}"));
    }
    let welcome = a.register_with(&ALL).await;
    assert_eq!(welcome["peers"], json!(["b"]));
    assert_ne!(text(&welcome["session"], "resume_token"), token);
    parked(&server, 0).await;
    b.expect_silence().await; // it never went, so it did not come either
}

#[tokio::test]
async fn a_client_that_began_anew_meanwhile_cannot_go_back() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    // It comes back as new, and drops before it hears that.
    let (anew, _) = join(&server, "a").await;
    b.expect("peer_left").await;
    b.expect("peer_joined").await;
    drop(anew);
    parked(&server, 2).await;
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!((&answer["recovered"], &answer["fresh"]), (&json!(0), &json!(true)));
    assert_eq!(a.register_with(&ALL).await["peers"], json!(["b"]));
    b.expect("peer_left").await;
    b.expect("peer_joined").await;
    b.expect_silence().await;
}

#[tokio::test]
async fn what_was_written_and_did_not_arrive_is_written_again() {
    let server = TestServer::start().await;
    let (mut a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    a.expect("peer_joined").await;
    for n in 0..5 {
        b.send_with_id("offer", "a", json!({ "n": n }), &format!("m{n}")).await;
        b.expect("delivered").await;
    }
    let seen: Vec<u64> = [a.expect("offer").await, a.expect("offer").await]
        .iter()
        .map(|offer| offer["seq"].as_u64().unwrap_or_default())
        .collect();
    drop(a);
    parked(&server, 1).await;
    let (mut a, answer) = resume(&server, "a", &token, seen.last().copied()).await;
    assert_eq!(recovered(&answer), (3, 0));
    for n in 2..5 {
        let offer = a.expect("offer").await;
        assert_eq!((offer["payload"]["n"].as_u64(), offer["seq"].as_u64()), (Some(n), Some(seen[0] + n)));
    }
    b.expect_silence().await; // it has heard of each once
}

#[tokio::test]
async fn what_became_of_its_own_messages_waits_for_a_client_too() {
    let server = TestServer::start().await;
    let (mut a, token) = join(&server, "a").await;
    let (b, token_b) = join(&server, "b").await;
    a.expect("peer_joined").await;
    drop(b);
    parked(&server, 1).await;
    a.send_with_id("offer", "b", json!({}), "m1").await;
    a.so_far().await;
    drop(a);
    parked(&server, 2).await;
    let (mut b, answer) = resume(&server, "b", &token_b, None).await;
    assert_eq!(recovered(&answer), (1, 0));
    b.expect("offer").await;
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(recovered(&answer), (1, 0));
    assert_eq!(a.expect("delivered").await["payload"]["id"], "m1");
}

#[tokio::test]
async fn who_does_not_come_back_in_time_is_gone_and_senders_hear_it() {
    let server = TestServer::start_with(&[("RESUME_WINDOW", "1s")]).await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    b.send_with_id("offer", "a", json!({}), "m1").await;
    // The two come by different ways, so in any order.
    let mut told = [b.next().await.unwrap(), b.next().await.unwrap()];
    told.sort_by_key(|message| message["type"].to_string());
    let [left, expired] = told;
    assert_eq!((&left["type"], &left["payload"]["peer"]), (&json!("peer_left"), &json!("a")));
    let expected = json!({ "id": "m1", "target": "a", "reason": "expired" });
    assert_eq!((&expired["type"], &expired["payload"]), (&json!("undeliverable"), &expected));
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(answer, json!({ "recovered": 0, "lost": null, "fresh": true }));
    assert_eq!(a.register_with(&ALL).await["peers"], json!(["b"]));
    assert_eq!(b.expect("peer_joined").await["payload"]["peer"], "a");
}

#[tokio::test]
async fn a_newer_connection_takes_over_from_one_that_still_stands() {
    let server = TestServer::start().await;
    let (mut old, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    old.expect("peer_joined").await;
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(recovered(&answer), (0, 0));
    assert_eq!(old.closed().await, Some(4409));
    b.send_with_id("offer", "a", json!({}), "m1").await;
    a.expect("offer").await;
    b.expect("delivered").await;
    a.send_with_id("answer", "b", json!({}), "m2").await;
    b.expect("answer").await;
    a.expect("delivered").await;
}

#[tokio::test]
async fn a_client_that_comes_back_as_new_is_introduced_anew() {
    let server = TestServer::start().await;
    let (a, _) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    let (mut c, _) = join(&server, "c").await;
    b.expect("peer_joined").await;
    let mut a = server.connect("a").await;
    assert_eq!(a.register_with(&ALL).await["peers"], json!(["b", "c"]));
    for other in [&mut b, &mut c] {
        assert_eq!(other.expect("peer_left").await["payload"]["peer"], "a");
        assert_eq!(other.expect("peer_joined").await["payload"]["peer"], "a");
    }
}

#[tokio::test]
async fn tokens_of_others_open_nothing() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    let fresh = json!({ "recovered": 0, "lost": null, "fresh": true });
    assert_eq!(resume(&server, "c", &token, None).await.1, fresh);
    for wrong in ["rs_", "rs_gw-000000000000.rt_0", "x.y", &token[..token.len() - 1]] {
        let (client, answer) = resume(&server, "a", wrong, None).await;
        assert_eq!(answer, fresh, "{wrong}");
        client.close().await;
    }
    b.so_far().await;
}

#[tokio::test]
async fn resume_comes_before_register() {
    let server = TestServer::start().await;
    let (mut a, token) = join(&server, "a").await;
    a.send("resume", None, json!({ "resume_token": token })).await;
    assert_eq!(a.expect("error").await["payload"]["code"], "resume_too_late");
}

#[tokio::test]
async fn who_says_goodbye_does_not_wait() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    a.close().await;
    assert_eq!(b.expect("peer_left").await["payload"]["peer"], "a");
    let (_a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(answer["fresh"], true);
}

#[tokio::test]
async fn a_revoked_peer_gets_nothing_that_waited() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    let session = server.token("a").await;
    drop(a);
    parked(&server, 1).await;
    b.send_with_id("offer", "a", json!({}), "m1").await;
    server.revoke("a").await;
    let seen = b.until("undeliverable").await;
    assert_eq!(seen.last().map(|told| told["payload"]["reason"].clone()), Some(json!("unavailable")));
    parked(&server, 0).await;
    assert_eq!(server.dial(&session).open("a").await.err(), Some(403));
    let _ = token;
}

#[tokio::test]
async fn what_a_revoked_sender_left_is_not_delivered() {
    let server = TestServer::start().await;
    let (a, token) = join(&server, "a").await;
    let (mut b, _) = join(&server, "b").await;
    drop(a);
    parked(&server, 1).await;
    b.send_with_id("offer", "a", json!({}), "m1").await;
    b.so_far().await;
    server.revoke("b").await;
    let (mut a, answer) = resume(&server, "a", &token, None).await;
    assert_eq!(recovered(&answer), (0, 1));
    assert!(a.anything_within(Duration::from_millis(200)).await.is_none());
}
