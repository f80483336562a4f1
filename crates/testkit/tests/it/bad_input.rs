//! What clients send that they should not. The node says so or says nothing, and lives.

use heliograph_testkit::client::ALL;
use heliograph_testkit::http::exchange;
use heliograph_testkit::{Access, MeshClient};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::TestServer;

/// A peer that hears of its mistakes, and an old one.
async fn two(server: &Access) -> (MeshClient, MeshClient) {
    let (mut new, old) = (server.connect("new").await, server.join("old").await);
    new.register_with(&["feedback"]).await;
    (new, old)
}

/// That a frame is an error for the one and nothing for the other, and that both live.
async fn assert_malformed(frame: &str) {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    new.send_text(frame).await;
    let error = new.expect("error").await;
    assert_eq!(error["payload"]["code"], "malformed", "{frame}");
    old.send_text(frame).await;
    old.expect_silence().await;
    new.send("offer", Some("old"), json!("still here")).await;
    assert_eq!(old.expect("offer").await["payload"], "still here");
}

#[tokio::test]
async fn malformed_json() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    for frame in [
        "",
        " ",
        "{",
        "nonsense",
        "{\"type\":\"offer\"",
        "{'type':'offer'}",
        "\u{0}",
        "{}}",
        "nul",
        "{\"type\":}",
    ] {
        new.send_text(frame).await;
        assert_eq!(new.expect("error").await["payload"]["code"], "malformed", "{frame:?}");
        old.send_text(frame).await;
    }
    old.expect_silence().await;
}

#[tokio::test]
async fn wrong_types() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    for frame in [
        "[]",
        "7",
        "null",
        r#""register""#,
        "{}",
        r#"{"type":7,"peer_id":"new"}"#,
        r#"{"type":"offer","peer_id":["new"]}"#,
        r#"{"type":"offer"}"#,
        r#"{"peer_id":"new"}"#,
        r#"{"type":"offer","peer_id":"new","target_id":7}"#,
        r#"{"type":"offer","peer_id":"new","target_id":"old","id":7}"#,
        r#"{"type":"offer","peer_id":"new","target_id":"old","id":""}"#,
        r#"{"type":"offer","peer_id":"new","peer_id":"new","target_id":"old"}"#,
        r#"{"type":"register","peer_id":"new","payload":{"capabilities":"events"}}"#,
        r#"{"type":"register","peer_id":"new","payload":{"capabilities":[1]}}"#,
    ] {
        new.send_text(frame).await;
        assert_eq!(new.expect("error").await["payload"]["code"], "malformed", "{frame}");
        old.send_text(&frame.replace("new", "old")).await;
    }
    let long_id = json!({ "type": "offer", "peer_id": "new", "target_id": "old", "id": "x".repeat(65) });
    new.send_text(&long_id.to_string()).await;
    new.expect("error").await;
    old.expect_silence().await;
}

#[tokio::test]
async fn a_missing_target() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    for kind in ["offer", "answer", "ice_candidate"] {
        new.send_text(&json!({ "type": kind, "peer_id": "new", "target_id": null, "id": "1" }).to_string())
            .await;
        let answer = new.expect("undeliverable").await;
        assert_eq!(
            (&answer["payload"]["reason"], &answer["payload"]["id"]),
            (&json!("malformed"), &json!("1"))
        );
        old.send(kind, None, json!({})).await;
    }
    old.expect_silence().await;
}

#[tokio::test]
async fn an_oversized_message_closes_with_1009() {
    let server = TestServer::start_with(&[("MAX_MESSAGE_BYTES", "1000")]).await;
    let (mut new, mut old) = two(&server).await;
    let frame = |bytes: usize| {
        let start = r#"{"type":"offer","peer_id":"new","target_id":"old","payload":""#;
        format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
    };
    new.send_text(&frame(1000)).await;
    assert_eq!(old.next_text().await, frame(1000));
    new.send_text(&frame(1001)).await;
    assert_eq!(new.closed().await, Some(1009));
    old.expect_silence().await;
}

#[tokio::test]
async fn an_oversized_message_in_fragments_closes_with_1009() {
    let server = TestServer::start_with(&[("MAX_MESSAGE_BYTES", "1000")]).await;
    let (mut new, _old) = two(&server).await;
    for part in 0..3 {
        let opcode = if part == 0 { Data::Text } else { Data::Continue };
        new.send_raw(Message::Frame(Frame::message(vec![b'x'; 400], OpCode::Data(opcode), false))).await;
    }
    assert_eq!(new.closed().await, Some(1009));
}

#[tokio::test]
async fn a_candidate_has_a_bound_of_its_own() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    new.send_with_id("ice_candidate", "old", json!("x".repeat(5_000)), "big").await;
    assert_eq!(new.expect("undeliverable").await["payload"]["reason"], "too_large");
    old.send("ice_candidate", Some("new"), json!("x".repeat(5_000))).await;
    old.expect_silence().await;
    new.expect_silence().await;
}

#[tokio::test]
async fn deep_nesting() {
    let nested = |levels: usize| {
        let payload = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"type":"offer","peer_id":"new","target_id":"old","payload":{payload}}}"#)
    };
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    new.send_text(&nested(31)).await;
    old.expect("offer").await;
    for levels in [32, 1_000, 30_000] {
        new.send_text(&nested(levels)).await;
        assert_eq!(new.expect("error").await["payload"]["code"], "malformed", "{levels}");
    }
    new.send_text(&"[".repeat(60_000)).await;
    new.expect("error").await;
    old.expect_silence().await;
}

#[tokio::test]
async fn numbers_and_texts_beyond_reason() {
    assert_malformed(r#"{"type":"offer","peer_id":"new","target_id":"old","payload":1e}"#).await;
    assert_malformed(r#"{"type":"offer","peer_id":"new","target_id":"old","payload":"\ud800\q"}"#).await;
}

#[tokio::test]
async fn binary_frames() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    let message = json!({ "type": "offer", "peer_id": "old", "target_id": "new" }).to_string();
    old.send_raw(Message::binary(message.clone())).await;
    old.expect_silence().await;
    new.send_raw(Message::binary(message.replace("old", "x"))).await;
    assert_eq!(new.expect("error").await["payload"]["code"], "malformed");
    new.expect_silence().await;
}

#[tokio::test]
async fn frames_that_break_the_websocket_protocol_close_with_1002() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    // A text that is not UTF-8, and a frame with a reserved bit.
    new.send_raw(Message::Frame(Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true))).await;
    let closed = new.closed().await;
    assert!(matches!(closed, Some(1002 | 1007)), "{closed:?}");
    let header = FrameHeader { rsv1: true, opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    old.send_raw(Message::Frame(Frame::from_payload(header, "{}".into()))).await;
    assert_eq!(old.closed().await, Some(1002));
}

#[tokio::test]
async fn a_spoofed_sender_reaches_nobody() {
    let server = TestServer::start().await;
    let (mut new, mut old) = two(&server).await;
    for claimed in ["old", "registry", "", "NEW", "new "] {
        let spoofed =
            json!({ "type": "offer", "peer_id": claimed, "target_id": "old", "payload": "spoofed" });
        new.send_text(&spoofed.to_string()).await;
        assert_eq!(new.expect("error").await["payload"]["code"], "wrong_sender", "{claimed}");
    }
    new.send_text(r#"{"type":"register","peer_id":"old"}"#).await;
    assert_eq!(new.expect("error").await["payload"]["code"], "wrong_sender");
    old.send_text(r#"{"type":"offer","peer_id":"new","target_id":"new","payload":"spoofed"}"#).await;
    old.expect_silence().await;
    new.expect_silence().await;
    let denied = r#"heliograph_messages_total{dialect="mesh",kind="offer",outcome="spoofed"}"#;
    assert_eq!(server.metric(denied).await, 6);
}

#[tokio::test]
async fn a_message_before_register_is_not_relayed() {
    let server = TestServer::start().await;
    let (mut new, mut old) = (server.connect("new").await, server.join("old").await);
    new.send_with_id("offer", "old", json!("too early"), "1").await;
    new.expect_silence().await;
    old.expect_silence().await;
    new.register_with(&ALL).await;
    new.send("offer", Some("old"), json!("now")).await;
    assert_eq!(old.expect("offer").await["payload"], "now");
}

#[tokio::test]
async fn garbage_instead_of_a_request() {
    let server = TestServer::start().await;
    let garbage: [&[u8]; 9] = [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nhost: x\r\n: empty name\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for bytes in garbage {
        let answer = exchange_and_close(&server, bytes).await;
        let refused =
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505");
        assert!(refused, "{:?}: {answer}", String::from_utf8_lossy(bytes));
    }
    server.join("a").await.expect_silence().await;
    assert_eq!(server.ops().get("/livez").await.status, 200);
}

/// Like [`exchange`], for requests that might leave the server waiting for more.
async fn exchange_and_close(server: &Access, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = vec![];
    let _reset = heliograph_testkit::in_time("the end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = TestServer::start().await;
    let head = format!("GET /ws HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(40_000));
    let answer = exchange(server.address(), head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.join("a").await.expect_silence().await;
}

#[tokio::test]
async fn upgrades_that_are_none_are_told_so() {
    let server = TestServer::start().await;
    let token = server.token("a").await;
    let path = format!("/ws?token={token}");
    let ask = async |headers: &[(&str, &str)]| {
        let api = headers.iter().fold(server.api(), |api, (name, value)| api.with(name, value));
        api.get(&path).await.status
    };
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (upgrade, connection, version) =
        (("upgrade", "websocket"), ("connection", "close, Upgrade"), ("sec-websocket-version", "13"));
    assert_eq!(ask(&[]).await, 426);
    assert_eq!(ask(&[connection, upgrade, key]).await, 426, "no version");
    assert_eq!(ask(&[connection, upgrade, key, ("sec-websocket-version", "8")]).await, 426);
    assert_eq!(ask(&[connection, upgrade, version]).await, 400, "no key");
    assert_eq!(ask(&[connection, upgrade, version, ("sec-websocket-key", "short")]).await, 400);
    assert_eq!(server.api().post_empty("/ws").await.status, 405);
}

#[tokio::test]
async fn bodies_and_paths_that_make_no_sense() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for (method, path, body, status) in [
        ("GET", "/nothing/here", None, 404),
        ("GET", "/api/token", None, 405),
        ("DELETE", "/api/pairing/pair", None, 405),
        ("POST", "/api/keys", Some("{"), 400),
        ("POST", "/api/keys", Some("[]"), 400),
        ("POST", "/api/keys", Some(r#"{"peer_id":"a","role":"king"}"#), 400),
        ("POST", "/api/keys", Some(r#"{"peer_id":"registry","role":"agent"}"#), 400),
        ("POST", "/api/keys", Some(r#"{"peer_id":"a\"b","role":"agent"}"#), 400),
        ("POST", "/api/pairing/generate-code", Some(r#"{"ttl_seconds":1}"#), 400),
        ("POST", "/api/pairing/generate-code", Some(r#"{"uses":0}"#), 400),
        ("GET", "/api/pairing/%ff/status", None, 404),
        ("GET", "/api/peers?cursor=nowhere", None, 400),
    ] {
        let answer = admin.request(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        let Value::Object(problem) = answer.json() else { panic!("{}", answer.text) };
        for member in ["code", "error", "title", "status", "detail"] {
            assert!(problem.contains_key(member), "{method} {path}: no {member}");
        }
    }
    let huge = format!(r#"{{"peer_id":"{}"}}"#, "x".repeat(100_000));
    admin.request("POST", "/api/keys", Some(&huge)).await.expect(413);
}
