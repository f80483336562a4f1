//! Nothing that is secret or private is in the log, however much is logged.

#![expect(clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use heliograph_testkit::client::ALL;
use heliograph_testkit::jwt::SECRET;
use heliograph_testkit::{ADMIN_KEY, Access, Dial, NodeProcess, Paired, TestServer, eventually, text};
use serde_json::json;
use tempfile::TempDir;
use tracing_subscriber::fmt::MakeWriter;

const TURN_SECRET: &str = "marked-turn-secret";
const SETTINGS: [(&str, &str); 7] = [
    ("LOG", "trace"),
    ("ROOMS", "open"),
    ("LOG_FORMAT", "json"),
    ("SIGNING_SECRET", SECRET),
    ("TURN_URLS", "turn:turn.example"),
    ("TURN_SECRET", TURN_SECRET),
    ("MAX_MESSAGE_BYTES", "5000"),
];

/// What must not be logged, and a name for it.
type Secrets = Vec<(&'static str, String)>;

/// A bit of everything, with `marked` in whatever is private. Answers the secrets that it was given.
async fn flow(node: &Access) -> Secrets {
    let mut secrets: Secrets = vec![
        ("the admin key", ADMIN_KEY.to_owned()),
        ("the signing secret", SECRET.to_owned()),
        ("the TURN secret", TURN_SECRET.to_owned()),
    ];
    let mut keep = |what: &'static str, secret: &str| secrets.push((what, secret.to_owned()));

    // Credentials, good ones and wrong ones, in every place where one may stand.
    let key = node.key("keyed", "default").await;
    let token = node.exchange(&key).await;
    keep("an API key", &key);
    keep("a token", &token);
    keep("a token's signature", token.rsplit('.').next().unwrap());
    let code = node.invite().await;
    keep("an invite code", &code);
    keep("a part of an invite code", code.split('-').next_back().unwrap());
    let paired = Paired::of(&node.redeem(&code, "device").await.expect(200));
    keep("a claim token", &paired.claim);
    keep("a token of a claim", &node.token_of_claim(&paired).await);
    let approved = node.decide(&paired.id, "approve").await.expect(200);
    let device_token = text(&approved, "device_token");
    keep("a device token", &device_token);
    let session = text(&node.exchange_with("x-device-token", &device_token).await.expect(200), "token");
    for header in ["x-api-key", "x-device-token", "x-device-assertion"] {
        node.exchange_with(header, "marked-wrong-credential").await.expect(401);
    }
    node.redeem("MARKED-WRONG-CODE", "x").await;
    assert_eq!(node.dial("marked-wrong-token").open("x").await.err(), Some(401));
    let bearer = node.dial_bare().header("authorization", "Bearer marked-wrong-bearer");
    assert_eq!(bearer.open("x").await.err(), Some(401));
    let offered = format!("heliograph.mesh.v1, heliograph.token.{token}");
    drop(node.dial_bare().header("sec-websocket-protocol", &offered).open("keyed").await.unwrap());
    let mut by_message = node.dial_bare().open("x").await.unwrap();
    by_message.send_text(r#"{"type":"authenticate","payload":{"token":"marked-first-message"}}"#).await;
    by_message.closed().await;

    // Payloads that arrive, that do not, and that cannot be read.
    let mut a = node.open("keyed", &token).await;
    let welcome = a.register_with(&ALL).await;
    keep("a TURN credential", welcome["ice_servers"][0]["credential"].as_str().unwrap());
    let mut b = node.open(&paired.peer, &session).await;
    b.register_with(&ALL).await;
    a.wait_for("peer_joined").await;
    a.send_with_id("offer", &paired.peer, json!({ "sdp": "v=0 marked-sdp" }), "1").await;
    b.wait_for("offer").await;
    b.send("ice_candidate", Some("keyed"), json!({ "candidate": "marked-candidate" })).await;
    a.wait_for("ice_candidate").await;
    a.send_with_id("offer", "nobody", json!("marked-undelivered"), "2").await;
    a.wait_for("undeliverable").await;
    for frame in [
        r#"{"type":"offer","peer_id":"keyed","target_id":7,"payload":"marked-wrong-type"}"#,
        r#"{"type":"offer","peer_id":"marked-spoof","payload":"marked-spoofed"}"#,
        r#"{"type":"offer", marked-not-json"#,
        r#"{"type":"register","peer_id":"keyed","payload":{"capabilities":"marked-capability"}}"#,
    ] {
        a.send_text(frame).await;
        a.wait_for("error").await;
    }
    rooms(node).await;
    a.send("ping", None, json!("marked-ping")).await;
    a.wait_for("pong").await;
    node.admin().request("POST", "/api/keys", Some(r#"{"peer_id":"marked-body"#)).await.expect(400);
    node.revoke(&paired.id).await;
    b.wait_for("peer_revoked").await;
    b.send("offer", Some("keyed"), json!("marked-after-revoke")).await;
    b.wait_for("undeliverable").await;
    a.send("offer", Some("keyed"), json!(format!("marked-too-large{}", "x".repeat(6_000)))).await;
    assert_eq!(a.closed().await, Some(1009));
    eventually("the session's end is logged", async || {
        (node.metric("heliograph_session_closes_total{code=\"1009\"}").await == 1).then_some(())
    })
    .await;

    secrets
}

/// Members of rooms: a private key that is sent by mistake, and what is said.
async fn rooms(node: &Access) {
    let mut client = Dial::to(node.address()).path("/room/lobby/websocket").open("lobby").await.unwrap();
    for frame in [
        r#"{"type":"register","publicKey":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"marked-private-key"}}"#,
        r#"{"type":"proof","alg":"EdDSA","signature":"marked-signature"}"#,
    ] {
        client.send_text(frame).await;
        let refused = client.next().await.unwrap();
        assert_eq!(refused["type"], "error");
        assert!(!refused.to_string().contains("marked"), "{refused}");
    }
}

fn assert_clean(log: &str, secrets: Secrets) {
    assert!(
        log.lines().count() > 10 && log.contains("keyed"),
        "a log worth looking at, down to its details:\n{log}"
    );
    let marked: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("marked")).collect();
    assert!(marked.is_empty(), "{marked:#?}");
    for (what, secret) in secrets {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(found.is_empty(), "{what} is in the log: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_node_holds_no_secret_and_no_payload() {
    let data = TempDir::new().unwrap();
    let node = NodeProcess::start(env!("CARGO_BIN_EXE_heliograph-testnode"), data.path(), &SETTINGS).await;
    let secrets = flow(&node).await;
    assert_clean(&node.kill().await, secrets);
}

/// Everything that is traced in this process, unfiltered.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<Vec<u8>>>);

impl Write for Everything {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Everything {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_and_no_span_carries_one_even_before_the_log_is_redacted() {
    let everything = Everything::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(everything.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut server = TestServer::start_with(&SETTINGS).await;
    let secrets = flow(&server).await;
    server.stop().await;
    let log = String::from_utf8_lossy(&everything.0.lock().unwrap()).into_owned();
    assert!(log.contains("TRACE"), "{log}");
    assert_clean(&log, secrets);
}
