//! What operators and orchestrators see; and a node that has lost its lease.

use heliograph_testkit::client::ALL;
use heliograph_testkit::{Access, FlakyStore, TestServer, eventually};
use serde_json::{Value, json};

/// The metrics of the interface that one node has.
const METRICS: [&str; 20] = [
    "heliograph_sessions{dialect=\"mesh\"}",
    "heliograph_sessions_total{dialect=\"mesh\"}",
    "heliograph_session_closes_total{code=\"4409\"}",
    "heliograph_messages_total{dialect=\"mesh\",kind=\"offer\",outcome=\"relayed\"}",
    "heliograph_relay_seconds_bucket{path=\"local\",le=\"+Inf\"}",
    "heliograph_relay_seconds_bucket{path=\"bus\",le=\"+Inf\"}",
    "heliograph_bus_up",
    "heliograph_outbox_dropped_total{reason=\"slow_consumer\"}",
    "heliograph_authorization_denied_total{reason=\"no_lease\",side=\"sender\"}",
    "heliograph_authorization_lease_remaining_seconds",
    "heliograph_authorization_denied_total{reason=\"revoked\",side=\"target\"}",
    "heliograph_authorization_lag",
    "heliograph_authorization_renewals_total",
    "heliograph_authorization_version",
    "heliograph_authorization_fail_closed",
    "heliograph_revoke_enforced_seconds_bucket{le=\"+Inf\"}",
    "heliograph_pairing_transitions_total{transition=\"approve\"}",
    "heliograph_rate_limited_total{limit=\"messages\"}",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
];

async fn ready(server: &Access) -> (u16, Value) {
    let answer = server.ops().get("/readyz").await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_node_becomes_ready_and_stays_alive() {
    let mut server = TestServer::start().await;
    eventually("it is ready", async || (ready(&server).await.0 == 200).then_some(())).await;
    eventually("it has started", async || (server.ops().get("/startupz").await.status == 200).then_some(()))
        .await;
    assert_eq!(server.ops().get("/livez").await.status, 200);
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(server.ops_address()).await.is_err(), "and then it is gone");
}

#[tokio::test]
async fn the_ops_listener_has_nothing_else_and_is_not_on_the_public_one() {
    let server = TestServer::start().await;
    for path in ["/", "/ws", "/api/token", "/api/keys", "/console", "/api/gateways"] {
        assert_eq!(server.ops().with("x-api-key", "x").get(path).await.status, 404, "{path}");
    }
    for path in ["/metrics", "/livez", "/readyz", "/startupz"] {
        assert_eq!(server.admin().get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn every_metric_of_the_interface_is_there_from_the_start() {
    let server = TestServer::start().await;
    let page = server.metrics().await;
    for series in METRICS {
        let there = page.lines().any(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        assert!(there, "{series} is not on the page:\n{page}");
    }
    let info = page.lines().find(|line| line.starts_with("heliograph_build_info{")).unwrap();
    assert!(info.contains("version=\"") && info.contains("revision=\""), "{info}");
    for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(page.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
}

#[tokio::test]
async fn no_metric_names_a_peer_a_mesh_or_an_address() {
    let server = TestServer::start().await;
    let token = server.exchange(&server.key("marked-peer", "marked-mesh").await).await;
    let mut one = server.open("marked-peer", &token).await;
    one.register_with(&ALL).await;
    let mut other = server.join_fully("marked-two").await;
    other.send_with_id("offer", "marked-target", json!({}), "marked-id").await;
    other.wait_for("undeliverable").await;
    other.send("marked-kind", Some("marked-two"), json!({})).await;
    other.send("marked-unknown", None, json!({})).await;
    other.wait_for("marked-kind").await;
    server.revoke("marked-two").await;
    server.redeem("AAAAA-AAAAA", "marked-name").await.expect(401);
    one.close().await;
    let page = server.metrics().await;
    for marked in ["marked", "127.0.0.1", "ak_", "AAAAA"] {
        assert!(!page.contains(marked), "{marked} in\n{page}");
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let server = TestServer::start().await;
    let mut a = server.join_fully("a").await;
    let mut b = server.join("b").await;
    a.wait_for("peer_joined").await;
    a.send_with_id("offer", "b", json!({}), "1").await;
    a.wait_for("delivered").await;
    a.send_with_id("offer", "c", json!({}), "2").await;
    a.wait_for("undeliverable").await;
    b.send("offer", Some("c"), json!({})).await;
    b.so_far().await; // it is not told, yet it is counted
    server.pair_and_approve("device").await;
    b.close().await;
    a.wait_for("peer_left").await;
    for (series, value) in [
        ("heliograph_sessions{dialect=\"mesh\"}", 1),
        ("heliograph_sessions_total{dialect=\"mesh\"}", 2),
        ("heliograph_session_closes_total{code=\"1000\"}", 1),
        ("heliograph_messages_total{dialect=\"mesh\",kind=\"register\",outcome=\"accepted\"}", 2),
        ("heliograph_messages_total{dialect=\"mesh\",kind=\"offer\",outcome=\"relayed\"}", 1),
        ("heliograph_messages_total{dialect=\"mesh\",kind=\"offer\",outcome=\"unavailable\"}", 2),
        ("heliograph_relay_seconds_count{path=\"local\"}", 1),
        ("heliograph_pairing_transitions_total{transition=\"pair\"}", 1),
        ("heliograph_pairing_transitions_total{transition=\"approve\"}", 1),
        ("heliograph_authorization_fail_closed", 0),
        ("heliograph_bus_up", 1),
    ] {
        eventually(series, async || (server.metric(series).await == value).then_some(())).await;
    }
}

/// A node that knows a device as one that waits looks again when it connects: it was approved on another node, perhaps,
/// and the word of that is still under way.
#[tokio::test]
async fn an_approval_that_a_node_has_not_heard_of_holds_for_a_new_session() {
    let server = TestServer::start_on(FlakyStore::without_hints(), &[("LEASE_TERM", "5m")]).await;
    let mut friend = server.join_fully("friend").await;
    let paired = server.pair("device").await;
    let token = server.token_of_claim(&paired).await;
    let mut early = server.open(&paired.peer, &token).await;
    assert_eq!(early.register_with(&ALL).await["peers"], json!([]), "who waits sees nobody");
    let path = format!("/api/pairing/{}/approve", paired.id);
    server.admin().post(&path, &json!({ "deliver": "device" })).await.expect(200);
    early.expect_silence().await;
    early.close().await;

    let mut device = server.open(&paired.peer, &token).await;
    assert_eq!(device.register_with(&ALL).await["peers"], json!(["friend"]));
    device.send("offer", Some("friend"), json!("at once")).await;
    assert_eq!(friend.wait_for("offer").await["payload"], "at once");
}

/// A node whose store the test can switch off, with the shortest lease that there is.
async fn flaky() -> (std::sync::Arc<FlakyStore>, TestServer) {
    let store = FlakyStore::new();
    let settings = [
        ("LEASE_TERM", "500ms"),
        ("MAX_MESSAGES_PER_SECOND", "0"),
        ("WRITE_DEADLINE", "60s"),
        ("OUTBOX_BYTES", "100000000"),
        ("ICE_URLS", "stun:stun.example"),
        ("TURN_URLS", "turn:turn.example"),
        ("TURN_SECRET", "a TURN secret"),
    ];
    let server = TestServer::start_on(store.clone(), &settings).await;
    (store, server)
}

async fn wait_for_lease(server: &Access, held: bool) {
    eventually("the lease", async || {
        let check = ready(server).await.1["checks"]["authorization"].clone();
        (check == if held { "ok" } else { "failed" }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_loses_its_lease_relays_nothing_keeps_its_sockets_and_recovers() {
    let (store, server) = flaky().await;
    let mut a = server.join_fully("a").await;
    let mut b = server.join_fully("b").await;
    let mut old = server.join("old").await;
    let token = server.token("c").await;
    let bearer = server.api().with("authorization", &format!("Bearer {token}"));
    bearer.get("/api/config").await.expect(200);
    a.so_far().await;
    b.so_far().await;

    store.switch(false);
    wait_for_lease(&server, false).await;
    assert_eq!(ready(&server).await.0, 503);
    assert_eq!(server.ops().get("/livez").await.status, 200, "liveness depends on nothing");
    eventually("the gauge", async || {
        (server.metric("heliograph_authorization_fail_closed").await == 1).then_some(())
    })
    .await;
    a.send_with_id("offer", "b", json!("without a lease"), "1").await;
    let refused = a.expect("undeliverable").await;
    assert_eq!(
        (&refused["payload"]["reason"], &refused["payload"]["id"]),
        (&json!("authorization_unavailable"), &json!("1"))
    );
    old.send("offer", Some("b"), json!("without a lease")).await;
    old.expect_silence().await;
    b.expect_silence().await;
    a.send("mesh_health", None, Value::Null).await;
    assert_eq!(a.expect("mesh_health").await["payload"]["authorization"], "unavailable");
    let config = bearer.get("/api/config").await;
    assert_eq!((config.status, &config.json()["code"]), (503, &json!("authorization_unavailable")));
    server.decide("a", "revoke").await.expect(503);
    server.exchange_with("x-api-key", "ak_any").await.expect(503);
    let denied = "heliograph_authorization_denied_total{reason=\"no_lease\",side=\"sender\"}";
    assert_eq!(server.metric(denied).await, 2);
    assert_eq!(server.metric("heliograph_sessions{dialect=\"mesh\"}").await, 3, "sockets stay");

    store.switch(true);
    wait_for_lease(&server, true).await;
    assert_eq!(ready(&server).await.0, 200);
    a.send_with_id("offer", "b", json!("with a lease"), "2").await;
    assert_eq!(b.expect("offer").await["payload"], "with a lease");
    assert_eq!(a.expect("delivered").await["payload"]["id"], "2");
    old.send("offer", Some("b"), json!("too")).await;
    assert_eq!(b.expect("offer").await["payload"], "too");
}

/// Who gathers candidates with an address of the relay needs a right that this node can prove.
#[tokio::test]
async fn a_node_without_a_lease_gives_sessions_no_turn_credentials_until_it_has_one_again() {
    let (store, server) = flaky().await;
    let mut a = server.join_fully("a").await;
    store.switch(false);
    wait_for_lease(&server, false).await;
    let has_credential =
        |servers: &Value| servers.as_array().unwrap().iter().any(|s| s.get("credential").is_some());
    let list = a.register_with(&ALL).await;
    assert!(!has_credential(&list["ice_servers"]), "{list}");
    store.switch(true);
    wait_for_lease(&server, true).await;
    let list = a.register_with(&ALL).await;
    assert!(has_credential(&list["ice_servers"]), "{list}");
}

/// The gauges of the lease say how it is, each time that they are asked.
#[tokio::test]
async fn the_lease_is_measured() {
    let (store, server) = flaky().await;
    let remaining = async || {
        let page = server.metrics().await;
        let line =
            page.lines().find(|line| line.starts_with("heliograph_authorization_lease_remaining_seconds "));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap()
    };
    let left = remaining().await;
    assert!(left > 0.0 && left <= 0.5, "{left} s of a lease of half a second");
    let version = server.applied_version().await;
    server.key("a", "default").await;
    eventually("the change is applied", async || {
        (server.applied_version().await == version + 1).then_some(())
    })
    .await;
    assert_eq!(server.metric("heliograph_authorization_lag").await, 0);
    store.switch(false);
    eventually("nothing is left", async || (remaining().await == 0.0).then_some(())).await;
    store.switch(true);
    eventually("there is a lease again", async || (remaining().await > 0.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_when_the_lease_is_lost_is_not_delivered() {
    const MESSAGES: usize = 1_500;
    // More than the kernel can hold of what was written and not read.
    const IN_THE_KERNEL: usize = 500;
    let (store, server) = flaky().await;
    let mut sender = server.connect("sender").await;
    sender.register_with(&["feedback"]).await;
    let token = server.token("slow").await;
    let mut slow = server.dial(&token).receive_buffer(4096).open("slow").await.unwrap();
    slow.register().await;
    // The target does not read: the first few messages are written until that stands still, all others wait.
    let filler = "x".repeat(16_000);
    for n in 0..MESSAGES {
        sender.send("offer", Some("slow"), json!({ "n": n, "filler": filler })).await;
    }
    assert_eq!(sender.so_far().await, Vec::<Value>::new(), "there is room for all of them");
    // It reads a part, so that all others are in one turn of writing, which stands still again.
    for n in 0..IN_THE_KERNEL {
        assert_eq!(slow.expect("offer").await["payload"]["n"], n);
    }
    store.switch(false);
    wait_for_lease(&server, false).await;

    // It reads again, to the end of what there is. The node may also have given the socket up.
    slow.try_send(&json!({ "type": "ping", "peer_id": "slow" }).to_string()).await;
    let mut arrived = IN_THE_KERNEL;
    while let Ok(message) = slow.next().await {
        match message["type"].as_str() {
            Some("offer") => arrived += 1,
            _ => break,
        }
    }
    assert!(arrived <= 2 * IN_THE_KERNEL, "{arrived} of {MESSAGES} arrived, most of them without a lease");
    let refused = sender.expect("undeliverable").await;
    let reason = refused["payload"]["reason"].as_str().unwrap();
    assert!(["authorization_unavailable", "unavailable"].contains(&reason), "{refused}");
}
