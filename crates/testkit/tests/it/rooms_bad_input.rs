//! What clients of rooms get wrong: an `error` in words where the dialect has it, silence and a count where it does not.

use heliograph_testkit::{Access, Dial, MeshClient, TestServer};
use serde_json::Value;

const KEY: &str = r#"{"type":"register","publicKey":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ID: &str = "20aab9665358bc73da7fc6ab0c064cc7487d8cc311c4596851adcce62db1f1e1";

async fn started() -> TestServer {
    TestServer::start_with(&[("ROOMS", "open")]).await
}

async fn socket(access: &Access, path: &str) -> MeshClient {
    Dial::to(access.address()).path(path).open("client").await.unwrap()
}

/// The answer to a frame, with what it says.
async fn answer(client: &mut MeshClient, frame: &str) -> Value {
    client.send_text(frame).await;
    client.next().await.unwrap()
}

/// The code of the `error` that answers a frame.
async fn refused(client: &mut MeshClient, frame: &str) -> String {
    let error = answer(client, frame).await;
    assert_eq!(error["type"], "error", "{frame}: {error}");
    let message = error["message"].as_str().unwrap();
    assert!(!message.is_empty() && !message.contains("PLANTED"), "{frame}: {message}");
    error["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rendezvous_client_is_told_what_is_wrong_and_keeps_its_socket() {
    let server = started().await;
    let mut client = socket(&server, "/room/lobby/websocket").await;
    let ed25519 =
        |x: &str| format!(r#"{{"type":"register","publicKey":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#);
    for (frame, code) in [
        (r#"{"type":"offer","to":"x","sdp":"PLANTED"}"#.to_owned(), "not_registered"),
        (r#"{"type":"proof","alg":"ES256","signature":"PLANTED"}"#.to_owned(), "unexpected"),
        ("PLANTED".to_owned(), "malformed"),
        (r#"{"type":"register"}"#.to_owned(), "malformed"),
        (r#"{"type":"register","publicKey":"PLANTED"}"#.to_owned(), "malformed"),
        (r#"{"type":"register","publicKey":{"kty":"PLANTED"}}"#.to_owned(), "bad_key"),
        (format!("{},\"d\":\"PLANTED\"}}}}", KEY.trim_end_matches('}')), "bad_key"),
        (ed25519("AA"), "bad_key"),
        (ed25519("AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "bad_key"),
    ] {
        assert_eq!(refused(&mut client, &frame).await, code, "{frame:.100}");
    }
    let welcome = answer(&mut client, &format!("{KEY}}}")).await;
    assert_eq!((&welcome["type"], &welcome["peerId"]), (&"welcome".into(), &ID.into()));
    for (frame, code) in [
        (format!(r#"{{"type":"offer","to":"{ID}","sdp":"PLANTED"}}"#), "unavailable"),
        (r#"{"type":"offer","to":"nobody","sdp":"PLANTED"}"#.to_owned(), "unavailable"),
        (r#"{"type":"offer","to":"","sdp":"PLANTED"}"#.to_owned(), "unavailable"),
        (r#"{"type":"offer","sdp":"PLANTED"}"#.to_owned(), "malformed"),
        (r#"{"type":"welcome","to":"PLANTED"}"#.to_owned(), "malformed"),
        (
            format!(r#"{{"type":"ice-candidate","to":"somebody","candidate":"{}"}}"#, "x".repeat(5_000)),
            "too_large",
        ),
    ] {
        assert_eq!(refused(&mut client, &frame).await, code, "{frame:.100}");
    }
    let again = answer(&mut client, &format!("{KEY}}}")).await;
    assert_eq!(again["type"], "welcome", "the socket is as good as before");
}

#[tokio::test]
async fn a_nonce_is_good_for_one_answer() {
    let server = started().await;
    let mut client = socket(&server, "/room/lobby/websocket").await;
    let asks = format!(r#"{KEY},"proof":true}}"#);
    let proof = r#"{"type":"proof","alg":"EdDSA","signature":"hYGQ-GZgGM8AxpbGjQzrugyXkKW5yCv7MGV7WXzS0QRqIrtaksbFNieazZSO0nihpi9h-v8NVGM0GxbxCrLEBQ"}"#;
    let first = answer(&mut client, &asks).await;
    assert_eq!(first["type"], "challenge");
    assert_eq!(refused(&mut client, proof).await, "bad_proof", "a signature of another nonce");
    assert_eq!(refused(&mut client, proof).await, "unexpected", "the question is used up");
    let second = answer(&mut client, &asks).await;
    assert_eq!(second["type"], "challenge");
    assert_ne!(first["nonce"], second["nonce"]);
    assert_eq!(refused(&mut client, r#"{"type":"offer","to":"x","sdp":1}"#).await, "not_registered");
}

#[tokio::test]
async fn an_rtc_client_that_errs_hears_nothing_and_is_counted() {
    let server = started().await;
    let mut b = socket(&server, "/").await;
    b.send_text(r#"/announce|b|{"id":"b","room":"hall"}"#).await;
    assert_eq!(b.next_text().await, r#"/roominfo|{"memberCount":1}"#);
    let mut a = socket(&server, "/signaller/").await;
    a.send_text("/hello|a|before the announce").await;
    a.send_text("/to|b|/hello|a|before the announce").await;
    for bad in
        ["/announce", "/announce|a", "/announce|a|no JSON", r#"/announce|a|{"id":"a\"","room":"hall"}"#]
    {
        a.send_text(bad).await;
    }
    let large = format!(r#"/announce|a|{{"id":"a","room":"hall","x":"{}"}}"#, "x".repeat(5_000));
    a.send_text(&large).await;
    a.send_text(r#"/announce|a|{"id":"a","room":"hall"}"#).await;
    assert_eq!(a.next_text().await, r#"/roominfo|{"memberCount":2}"#, "silence until now");
    assert_eq!(b.next_text().await, r#"/announce|a|{"id":"a","room":"hall"}"#);
    for bad in [
        "hello|a|no slash",
        "primus::ping::1",
        "/hello|zzz|a lie",
        r#"/to|b|/announce|a|{"id":"zzz","room":"hall"}"#,
        r#"/leave||{"id":"zzz"}"#,
        r#"/roominfo|{"memberCount":99}"#,
        "/to|nobody|/hello|a|lost",
        "/to|b",
        "/",
        "",
    ] {
        a.send_text(bad).await;
    }
    a.send_text("/announcement|a|only begins like one").await;
    assert_eq!(b.next_text().await, "/announcement|a|only begins like one");
    a.send_text("/to|a|/hello|a|to oneself").await;
    assert_eq!(a.next_text().await, "/to|a|/hello|a|to oneself", "nothing came before it");
    let counted = server.metrics().await;
    let of_rtc = |outcome: &str| {
        let lines = counted.lines().filter(|line| {
            line.starts_with("heliograph_messages_total{")
                && line.contains(r#"dialect="rtc""#)
                && line.contains(&format!(r#"outcome="{outcome}""#))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    assert!(of_rtc("malformed") >= 8, "{}", of_rtc("malformed"));
    assert!(of_rtc("spoofed") >= 2 && of_rtc("not_registered") >= 2);
}

#[tokio::test]
async fn an_announce_of_a_megabyte_costs_its_sender_the_socket() {
    let server = started().await;
    let mut client = socket(&server, "/").await;
    let announce = format!(r#"/announce|a|{{"id":"a","room":"hall","x":"{}"}}"#, "x".repeat(1024 * 1024));
    client.try_send(&announce).await;
    assert_eq!(client.closed().await, Some(1009));
    let mut other = socket(&server, "/").await;
    other.send_text(r#"/announce|b|{"id":"b","room":"hall"}"#).await;
    assert_eq!(other.next_text().await, r#"/roominfo|{"memberCount":1}"#);
}
