//! The mesh dialect, as clients of the original see it.

use heliograph_testkit::{Access, MeshClient, peers};
use serde_json::{Value, json};

use crate::TestServer;

/// Two peers that registered as the original does.
async fn two(server: &Access) -> (MeshClient, MeshClient) {
    (server.join("agent-one").await, server.join("agent-two").await)
}

#[tokio::test]
async fn the_later_one_gets_the_earlier_one_and_they_talk() {
    let server = TestServer::start().await;
    let mut a = server.connect("agent-one").await;
    assert_eq!(a.register().await, [""; 0]);
    let mut b = server.connect("agent-two").await;
    assert_eq!(b.register().await, ["agent-one"]);
    b.send("offer", Some("agent-one"), json!({ "sdp": "v=0" })).await;
    assert_eq!(a.expect("offer").await["peer_id"], "agent-two");
    a.send("answer", Some("agent-two"), json!({ "sdp": "v=0" })).await;
    assert_eq!(b.expect("answer").await["peer_id"], "agent-one");
    b.send("ice_candidate", Some("agent-one"), json!({ "candidate": "c", "sdpMid": "" })).await;
    let candidate = a.expect("ice_candidate").await;
    assert_eq!(candidate["payload"], json!({ "candidate": "c", "sdpMid": "" }));
    assert_eq!(candidate["target_id"], "agent-one");
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte() {
    let server = TestServer::start().await;
    let (mut a, mut b) = two(&server).await;
    let payloads = [
        r#"{"z":1.50,  "sdp":"v=0\r\n\u00fc","a":1e400}"#,
        r#"{ "sdp" : "ünï\/code \ud83d\ude00", "twice":1, "twice":2, "n":-0.0 }"#,
        "[1 , 2,\t3]",
        "\"just text\"",
        "12345678901234567890123",
        "false",
        "null",
    ];
    for payload in payloads {
        let frame = format!(
            r#"{{"type":"offer","peer_id":"agent-two","target_id":"agent-one","payload":{payload}}}"#
        );
        b.send_text(&frame).await;
        assert_eq!(a.next_text().await, frame);
    }
}

#[tokio::test]
async fn a_missing_payload_arrives_as_null_and_unknown_members_do_not_arrive() {
    let server = TestServer::start().await;
    let (mut a, mut b) = two(&server).await;
    b.send_text(r#"{"extra":1,"target_id":"agent-one","peer_id":"agent-two","type":"answer"}"#).await;
    let expected = r#"{"type":"answer","peer_id":"agent-two","target_id":"agent-one","payload":null}"#;
    assert_eq!(a.next_text().await, expected);
}

#[tokio::test]
async fn a_message_to_oneself_comes_back() {
    let server = TestServer::start().await;
    let mut a = server.join("agent-one").await;
    a.send("offer", Some("agent-one"), json!("echo")).await;
    assert_eq!(a.expect("offer").await["payload"], "echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_messages_arrive_in_order() {
    const MESSAGES: usize = 2_000;
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "0")]).await;
    let (mut a, mut b) = two(&server).await;
    let sender = tokio::spawn(async move {
        let kinds = ["offer", "ice_candidate", "answer", "ice_candidate"];
        for number in 0..MESSAGES {
            b.send(kinds[number % kinds.len()], Some("agent-one"), json!({ "number": number })).await;
        }
        b
    });
    for number in 0..MESSAGES {
        let message = a.next().await.unwrap();
        assert_eq!(message["payload"]["number"], number, "{message}");
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_second_register_returns_everyone_also_later_ones() {
    let server = TestServer::start().await;
    let mut a = server.join("agent-one").await;
    let mut b = server.join("agent-two").await;
    let _c = server.join("agent-three").await;
    assert_eq!(b.register().await, ["agent-one", "agent-three"]);
    assert_eq!(a.register().await, ["agent-three", "agent-two"]);
    assert_eq!(a.register().await, ["agent-three", "agent-two"], "and again");
}

#[tokio::test]
async fn who_left_is_in_no_later_list() {
    let server = TestServer::start().await;
    let (mut a, b) = two(&server).await;
    b.close().await;
    heliograph_testkit::eventually("agent-two is gone", async || a.register().await.is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn a_connected_peer_that_has_not_registered_is_in_no_list_and_gets_nothing() {
    let server = TestServer::start().await;
    let mut a = server.connect("agent-one").await;
    let mut b = server.connect("agent-two").await;
    assert_eq!(b.register_with(&["feedback"]).await["peers"], json!([]));
    b.send("offer", Some("agent-one"), json!("too early")).await;
    assert_eq!(b.expect("undeliverable").await["payload"]["reason"], "unavailable");
    a.expect_silence().await;
    assert_eq!(a.register().await, ["agent-two"]);
    b.send("offer", Some("agent-one"), json!("now")).await;
    assert_eq!(a.expect("offer").await["payload"], "now");
}

#[tokio::test]
async fn meshes_do_not_see_each_other() {
    let server = TestServer::start().await;
    let mut clients = vec![];
    for (peer, mesh) in [("a", "red"), ("b", "red"), ("a", "blue"), ("c", "blue")] {
        let token = server.exchange(&server.key(peer, mesh).await).await;
        clients.push(server.open(peer, &token).await);
    }
    let mut lists = vec![];
    for client in &mut clients {
        lists.push(client.register().await);
    }
    assert_eq!(lists, [vec![], vec!["a"], vec![], vec!["a"]]);
    clients[1].send("offer", Some("c"), json!("into another mesh")).await;
    clients[1].send("offer", Some("a"), json!("red")).await;
    assert_eq!(clients[0].expect("offer").await["payload"], "red");
    clients[2].expect_silence().await;
    clients[3].expect_silence().await;
}

#[tokio::test]
async fn an_old_client_hears_nothing_but_lists_messages_and_answers() {
    let server = TestServer::start().await;
    let mut old = server.join("old").await;
    let mut full = server.join_fully("full").await;
    let other = server.join_fully("other").await;
    server.revoke("other").await;
    other.close().await;
    full.send("offer", Some("old"), json!(1)).await;
    old.expect("offer").await;

    // Whatever it does wrong, and whatever it does not know, is passed over in silence.
    old.send("offer", Some("nobody"), json!(2)).await;
    old.send("offer", None, json!(3)).await;
    old.send_with_id("offer", "full", json!(4), "with-an-id").await;
    old.send("chat", Some("full"), json!(5)).await;
    old.send("heartbeat", None, Value::Null).await;
    old.send("who_knows", None, json!({})).await;
    old.send_text("not json").await;
    old.send_text(r#"{"type":"offer","peer_id":"full","target_id":"full","payload":"spoofed"}"#).await;
    old.expect_silence().await;

    old.send("mesh_health", None, Value::Null).await;
    assert_eq!(old.expect("mesh_health").await["payload"]["peers_online"], 2);
    old.send("register", None, Value::Null).await;
    let list = old.expect("peer_list").await;
    assert_eq!(list, json!({ "type": "peer_list", "peer_id": "registry", "payload": { "peers": ["full"] } }));
    assert_eq!(peers(&list), ["full"]);
    let got: Vec<Value> = full.so_far().await.iter().filter(|m| m["peer_id"] == "old").cloned().collect();
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0]["payload"], 4);
}

#[tokio::test]
async fn the_socket_of_an_old_client_ends_only_with_a_close_frame() {
    let mut server = TestServer::start().await;
    let mut old = server.join("old").await;
    server.stop().await;
    assert_eq!(old.next().await, Err(Some(1012)), "nothing before the close, which says: come back");
}
