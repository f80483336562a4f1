//! Taking a right away: at once, in both directions, for good.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heliograph_testkit::client::ALL;
use heliograph_testkit::jwt::{SECRET, hand_signed};
use heliograph_testkit::{MeshClient, Paired, eventually, text};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::TestServer;

#[tokio::test]
async fn a_revoke_mutes_both_directions_and_tells_the_counterparts() {
    let server = TestServer::start().await;
    let mut bad = server.join_fully("bad").await;
    let mut good = server.join_fully("good").await;
    let mut old = server.join("old").await;
    bad.wait_for("peer_joined").await;
    bad.wait_for("peer_joined").await;
    good.expect("peer_joined").await;

    server.revoke("bad").await;
    assert_eq!(good.wait_for("peer_revoked").await["payload"], json!({ "peer": "bad" }));
    let own = bad.expect("peer_revoked").await;
    assert_eq!(own["payload"], json!({ "peer": "bad" }), "it is told itself");

    bad.send_with_id("offer", "good", json!("from"), "1").await;
    bad.send_with_id("offer", "old", json!("from"), "2").await;
    for id in ["1", "2"] {
        let answer = bad.expect("undeliverable").await;
        assert_eq!(
            (&answer["payload"]["id"], &answer["payload"]["reason"]),
            (&json!(id), &json!("unavailable"))
        );
    }
    good.send_with_id("offer", "bad", json!("to"), "3").await;
    old.send("offer", Some("bad"), json!("to")).await;
    let told = good.until("undeliverable").await;
    let before: Vec<&Value> = told.iter().rev().skip(1).map(|message| &message["type"]).collect();
    assert!(before.iter().all(|kind| *kind == "peer_left"), "{told:?}");
    assert_eq!(told.last().unwrap()["payload"]["reason"], "unavailable");
    old.expect_silence().await;

    // Its socket stays open, mute: it can be asked how it is, and sees nobody.
    bad.expect_silence().await;
    assert_eq!(bad.register_with(&ALL).await["peers"], json!([]));
    assert_eq!(old.register().await, ["good"], "and nobody sees it");
    assert_eq!(server.metric("heliograph_sessions{dialect=\"mesh\"}").await, 3);
    for side in ["sender", "target"] {
        let denied = format!("heliograph_authorization_denied_total{{reason=\"revoked\",side=\"{side}\"}}");
        assert_eq!(server.metric(&denied).await, 2, "{side}: two messages of each direction");
    }
}

#[tokio::test]
async fn the_report_says_who_acknowledged_and_how_long_it_took() {
    let server = TestServer::start().await;
    let _a = server.join("a").await;
    let report = server.revoke("a").await;
    let mut gateways = server.gateways();
    gateways.sort();
    assert_eq!((&report["status"], &report["peer_id"]), (&json!("ok"), &json!("a")));
    assert_eq!((&report["enforced"], &report["expired"]), (&json!(true), &json!([])));
    assert_eq!(report["acknowledged"], json!(gateways));
    assert!(report["waited_ms"].as_u64().is_some_and(|ms| ms < 20_000), "{report}");
    let version = report["version"].as_u64().unwrap();
    let later = server.admin().get(&format!("/api/pairing/changes/{version}")).await.expect(200);
    for member in ["version", "enforced", "acknowledged", "expired"] {
        assert_eq!(later[member], report[member], "{member}");
    }
    server.admin().get("/api/pairing/changes/999999").await.expect(404);
    assert_eq!(server.metric("heliograph_revoke_enforced_seconds_count").await, 1);
}

#[tokio::test]
async fn who_does_not_wait_gets_an_address_to_ask() {
    let server = TestServer::start().await;
    let _a = server.join("a").await;
    let answer = server.admin().post_empty("/api/pairing/a/revoke?wait=none").await;
    let (status, report) = (answer.status, answer.json());
    assert_eq!(report["enforced"], json!(status == 200), "never a false word: {status} {report}");
    let poll = format!("/api/pairing/changes/{}", report["version"]);
    if status != 200 {
        assert_eq!((status, &report["poll"]), (202, &json!(poll)));
    }
    eventually("it is enforced", async || (server.admin().get(&poll).await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_peer_can_be_revoked_by_its_own_id_and_by_its_pairings() {
    let server = TestServer::start().await;
    let (one, _) = server.pair_and_approve("one").await;
    let (other, _) = server.pair_and_approve("other").await;
    assert_eq!(server.revoke(&one.id).await["peer_id"], json!(one.peer));
    assert_eq!(server.revoke(&other.peer).await["peer_id"], json!(other.peer));
    for paired in [one, other] {
        let peer = server.admin().get(&format!("/api/peers/{}", paired.peer)).await.expect(200);
        assert_eq!(peer["status"], "revoked");
        server.decide(&paired.peer, "revoke").await.expect(409);
    }
}

#[tokio::test]
async fn a_revoked_peer_cannot_come_back() {
    let server = TestServer::start_with(&[("SIGNING_SECRET", SECRET)]).await;
    let key = server.key("keyed", "default").await;
    let token = server.exchange(&key).await;
    server.revoke("keyed").await;
    assert_eq!(server.dial(&token).open("keyed").await.err(), Some(403), "by the token it still has");
    assert_eq!(
        server.dial(&hand_signed("keyed")).open("keyed").await.err(),
        Some(403),
        "by a token made by hand"
    );
    server.exchange_with("x-api-key", &key).await.expect(401);
    let again = json!({ "peer_id": "keyed", "role": "agent" });
    server.admin().post("/api/keys", &again).await.expect(409);

    let (paired, device) = server.pair_and_approve("device").await;
    let token = text(&server.exchange_with("x-device-token", &device).await.expect(200), "token");
    server.revoke(&paired.id).await;
    assert_eq!(server.dial(&token).open(&paired.peer).await.err(), Some(403));
    server.exchange_with("x-device-token", &device).await.expect(401);
    let claim = server.api().with("x-pairing-id", &paired.id).with("x-claim-token", &paired.claim);
    claim.post_empty("/api/token").await.expect(401);
    // Paired anew it is somebody else, and the old name stays closed.
    let (anew, fresh) = server.pair_and_approve("device").await;
    assert_ne!(anew.peer, paired.peer);
    server.exchange_with("x-device-token", &fresh).await.expect(200);
    server.exchange_with("x-device-token", &device).await.expect(401);
}

#[tokio::test]
async fn the_last_key_takes_the_right_with_it() {
    let server = TestServer::start().await;
    let made =
        server.admin().post("/api/keys", &json!({ "peer_id": "a", "role": "agent" })).await.expect(201);
    let mut a = server.open("a", &server.exchange(&text(&made, "key")).await).await;
    a.register_with(&ALL).await;
    let report = server.admin().delete(&format!("/api/keys/{}", text(&made, "id"))).await.expect(200);
    assert_eq!(report["enforced"], true);
    a.expect("peer_revoked").await;
}

#[tokio::test]
async fn messages_that_wait_for_a_revoked_peer_or_come_from_it_are_not_delivered() {
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "0"), ("WRITE_DEADLINE", "60s")]).await;
    let (bad_token, reader_token) = (server.token("bad").await, server.token("reader").await);
    let mut bad = server.open("bad", &bad_token).await;
    bad.register_with(&["feedback"]).await;
    let mut reader = server.dial(&reader_token).receive_buffer(4096).open("reader").await.unwrap();
    reader.register().await;
    // The reader does not read: what does not fit into the kernel's buffers waits in its queue.
    let filler = "x".repeat(3_000);
    let (mut sent, mut delivered, mut rounds) = (0u32, 0, 0);
    // Three rounds of which nothing was written are no accident.
    while rounds < 3 {
        for _ in 0..50 {
            bad.send("answer", Some("reader"), json!({ "n": sent, "filler": filler })).await;
            sent += 1;
        }
        let now = standstill(&server).await;
        rounds = if now > 0 && now == delivered { rounds + 1 } else { 0 };
        delivered = now;
        assert!(sent < 5_000, "nothing waits");
    }
    let report = server.revoke("bad").await;
    assert_eq!(report["enforced"], true, "{report}");
    // What had reached the kernel arrives, what waited does not. The node may also have given the socket up.
    reader.try_send(r#"{"type":"ping","peer_id":"reader"}"#).await;
    let mut arrived = 0u32;
    while let Ok(message) = reader.next().await {
        if message["type"] == "pong" {
            break;
        }
        assert_eq!(message["payload"]["n"], arrived);
        arrived += 1;
    }
    assert!(arrived < sent, "{arrived} of {sent} arrived, {delivered} were written");
}

/// How many messages were written, once that does not grow any more.
async fn standstill(server: &TestServer) -> i64 {
    let mut before = server.relayed().await;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = server.relayed().await;
        if now == before {
            return now;
        }
        before = now;
    }
}

/// Messages come as fast as they can, and nobody is closed for reading them only later.
const FLOOD: [(&str, &str); 3] =
    [("MAX_MESSAGES_PER_SECOND", "0"), ("OUTBOX_BYTES", "100000000"), ("OUTBOX_MESSAGES", "1000000")];

/// Sends offers until it is told to stop. From the moment on that `answered` is set they say that they are late.
struct Traffic {
    answered: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<MeshClient>,
}

impl Traffic {
    fn start(mut from: MeshClient, to: &str) -> Self {
        let (answered, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (late, end, to) = (Arc::clone(&answered), Arc::clone(&stop), to.to_owned());
        let task = tokio::spawn(async move {
            while !end.load(Ordering::SeqCst) {
                from.send("offer", Some(&to), json!({ "late": late.load(Ordering::SeqCst) })).await;
            }
            for _ in 0..20 {
                from.send("offer", Some(&to), json!({ "late": true })).await;
            }
            from
        });
        Self { answered, stop, task }
    }

    async fn stop(self) -> MeshClient {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// Revokes `peer` while `traffic` reaches `target`; then nothing more may reach it.
async fn revoke_under_fire(
    server: &TestServer,
    traffic: Traffic,
    target: &mut MeshClient,
    peer: &str,
) -> MeshClient {
    mute_under_fire(traffic, target, peer, async || server.revoke(peer).await).await
}

/// [`revoke_under_fire`] by any call that mutes `peer` and answers a report.
async fn mute_under_fire(
    traffic: Traffic,
    target: &mut MeshClient,
    peer: &str,
    mute: impl AsyncFnOnce() -> Value,
) -> MeshClient {
    target.wait_for("offer").await; // it runs
    let mut mute = pin!(mute());
    let report = loop {
        tokio::select! {
            report = &mut mute => break report,
            // It reads on: a socket that stands still in the middle of a write is cut off for the sake of the revoke.
            message = target.next() => drop(message.unwrap_or_else(|end| panic!("{peer}: {end:?}"))),
        }
    };
    traffic.answered.store(true, Ordering::SeqCst);
    assert_eq!(report["enforced"], true);
    // What was written before the answer lies before the answer to this ping.
    let before = target.so_far().await;
    assert!(
        before.iter().all(|message| message["payload"]["late"] != true),
        "{peer}: sent late and delivered"
    );
    for _ in 0..3 {
        let after = target.so_far().await;
        assert!(after.iter().all(|message| message["type"] != "offer"), "{peer}: {} came late", after.len());
    }
    let sender = traffic.stop().await;
    let after = target.so_far().await;
    assert!(after.iter().all(|message| message["type"] != "offer"), "{peer}: {} came late", after.len());
    sender
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_nothing_comes_from_the_revoked_peer() {
    let server = TestServer::start_with(&FLOOD).await;
    let mut friend = server.join_fully("friend").await;
    for round in 0..20 {
        let name = format!("bad-{round}");
        let traffic = Traffic::start(server.join(&name).await, "friend");
        let mut bad = revoke_under_fire(&server, traffic, &mut friend, &name).await;
        bad.expect_silence().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_nothing_comes_to_the_revoked_peer() {
    let server = TestServer::start_with(&FLOOD).await;
    let mut friend = server.join("friend").await;
    for round in 0..20 {
        let name = format!("bad-{round}");
        let mut bad = server.join(&name).await;
        let traffic = Traffic::start(friend, &name);
        friend = revoke_under_fire(&server, traffic, &mut bad, &name).await;
    }
}

/// Nodes are woken by changes alone: if each acknowledgement woke all of them, each would renew once more for each of the
/// others.
#[tokio::test]
async fn a_revoke_costs_each_node_two_renewals() {
    const ROUNDS: i64 = 5;
    // No renewal comes by itself for as long as this takes.
    let server = TestServer::start_with(&[("LEASE_TERM", "60s")]).await;
    for n in 0..ROUNDS {
        server.key(&format!("p{n}"), "default").await;
    }
    let before = renewals_at_rest(&server).await;
    for n in 0..ROUNDS {
        assert_eq!(server.revoke(&format!("p{n}")).await["enforced"], true);
    }
    let spent = renewals_at_rest(&server).await - before;
    let nodes = i64::try_from(server.nodes()).unwrap();
    assert!(
        (ROUNDS * nodes..=(2 * ROUNDS + 1) * nodes).contains(&spent),
        "{spent} renewals on {nodes} nodes"
    );
}

/// How often all nodes together have renewed, once that does not grow any more.
async fn renewals_at_rest(server: &TestServer) -> i64 {
    let (mut before, mut unchanged) = (0, 0);
    while unchanged < 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = server.metric("heliograph_authorization_renewals_total").await;
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    before
}

/// A new invite that several may redeem: its id and its code.
async fn invite_of_many(server: &TestServer) -> (String, String) {
    let made = server.admin().post("/api/pairing/generate-code", &json!({ "uses": 9 })).await.expect(200);
    (text(&made, "id"), text(&made, "code"))
}

/// A device that came by the code and was approved: its peer, its device token, and its client.
async fn guest(server: &TestServer, code: &str) -> (String, String, MeshClient) {
    let paired = Paired::of(&server.redeem(code, "guest").await.expect(200));
    let approved = server.decide(&paired.id, "approve").await.expect(200);
    let device = text(&approved, "device_token");
    let session = server.exchange_with("x-device-token", &device).await.expect(200);
    let client = server.open(&paired.peer, &text(&session, "token")).await;
    (paired.peer, device, client)
}

/// The nodes that a report names are all there are.
fn assert_all_acknowledged(server: &TestServer, report: &Value) {
    let mut gateways = server.gateways();
    gateways.sort();
    assert_eq!((&report["enforced"], &report["expired"]), (&json!(true), &json!([])), "{report}");
    assert_eq!(report["acknowledged"], json!(gateways));
}

async fn assert_mute(client: &mut MeshClient, target: &str) {
    client.send_with_id("offer", target, json!("late"), "late").await;
    let answer = client.wait_for("undeliverable").await;
    assert_eq!(answer["payload"]["reason"], "unavailable", "{answer}");
}

#[tokio::test]
async fn an_invite_takes_all_who_came_by_it_along() {
    let server = TestServer::start().await;
    let mut friend = server.join_fully("friend").await;
    let (invite, code) = invite_of_many(&server).await;
    let mut guests = vec![];
    for _ in 0..3 {
        let (peer, device, mut client) = guest(&server, &code).await;
        client.register_with(&ALL).await;
        friend.wait_for("peer_joined").await;
        guests.push((peer, device, client));
    }
    let waits = Paired::of(&server.redeem(&code, "waits").await.expect(200));
    let (_, _, mut other) = guest(&server, &invite_of_many(&server).await.1).await;
    other.register_with(&ALL).await;
    friend.wait_for("peer_joined").await;

    let path = format!("/api/invites/{invite}?enrolled=revoke");
    let report = server.admin().delete(&path).await.expect(200);
    assert_all_acknowledged(&server, &report);
    assert_eq!(report["counts"], json!({ "revoked": 3, "rejected": 1, "keys": 0, "invites": 1 }));
    assert_eq!(report["rejected"], json!([waits.peer]));
    let mut told: Vec<String> = vec![];
    for _ in 0..3 {
        told.push(text(&friend.wait_for("peer_revoked").await["payload"], "peer"));
    }
    let mut gone: Vec<String> = guests.iter().map(|(peer, ..)| peer.clone()).collect();
    told.sort();
    gone.sort();
    assert_eq!((json!(told), &json!(gone)), (json!(gone), &report["revoked"]));
    for (_, device, mut client) in guests {
        assert_mute(&mut client, "friend").await;
        server.exchange_with("x-device-token", &device).await.expect(401);
    }
    server.redeem(&code, "late").await.expect(401);
    server.decide(&waits.id, "approve").await.expect(409);
    other.send("offer", Some("friend"), json!("goes on")).await;
    assert_eq!(friend.wait_for("offer").await["payload"], "goes on");
}

#[tokio::test]
async fn a_mesh_is_revoked_and_the_others_go_on() {
    let server = TestServer::start().await;
    let (mut a, mut b) = (server.join_fully("a").await, server.join("b").await);
    let mut lab = vec![];
    for name in ["one", "two"] {
        let key = server.key(name, "lab").await;
        let mut client = server.open(name, &server.exchange(&key).await).await;
        client.register_with(&ALL).await;
        lab.push((key, client));
    }
    let report = server.admin().post_empty("/api/meshes/lab/revoke").await.expect(200);
    assert_all_acknowledged(&server, &report);
    assert_eq!((&report["revoked"], &report["kept"]), (&json!(["one", "two"]), &Value::Null));
    for ((key, mut client), target) in lab.into_iter().zip(["two", "one"]) {
        assert_mute(&mut client, target).await;
        server.exchange_with("x-api-key", &key).await.expect(401);
    }
    a.send("offer", Some("b"), json!("goes on")).await;
    assert_eq!(b.wait_for("offer").await["payload"], "goes on");

    let report = server.admin().post_empty("/api/meshes/default/revoke").await.expect(200);
    assert_eq!((&report["revoked"], &report["kept"]), (&json!(["a", "b"]), &json!("admin")));
    assert_mute(&mut a, "b").await;
    server.admin().get("/api/peers").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_nothing_comes_from_those_who_were_revoked_together() {
    let server = TestServer::start_with(&FLOOD).await;
    let mut friend = server.join_fully("friend").await;
    for _ in 0..5 {
        let (invite, code) = invite_of_many(&server).await;
        let (_, _, mut silent) = guest(&server, &code).await;
        let (name, _, mut loud) = guest(&server, &code).await;
        loud.register().await;
        silent.register_with(&ALL).await;
        let path = format!("/api/invites/{invite}?enrolled=revoke");
        let traffic = Traffic::start(loud, "friend");
        let mute = async || server.admin().delete(&path).await.expect(200);
        mute_under_fire(traffic, &mut friend, &name, mute).await.expect_silence().await;
        assert_mute(&mut silent, "friend").await;
    }
    let traffic = Traffic::start(server.join("loud").await, "friend");
    let mute = async || server.admin().post_empty("/api/meshes/default/revoke").await.expect(200);
    mute_under_fire(traffic, &mut friend, "loud", mute).await;
}
