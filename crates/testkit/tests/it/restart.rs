//! What a node keeps when it ends, properly or not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use heliograph_testkit::client::ALL;
use heliograph_testkit::{Access, NodeProcess, Paired, TestServer, text};
use serde_json::{Value, json};
use tempfile::TempDir;

#[tokio::test]
async fn everything_that_was_answered_holds_after_a_restart() {
    let mut server = TestServer::start().await;
    let key = server.key("keyed", "default").await;
    let (device, device_token) = server.pair_and_approve("device").await;
    let waiting = server.pair("waiting").await;
    let (revoked, revoked_token) = server.pair_and_approve("revoked").await;
    server.revoke(&revoked.id).await;
    let used = server.invite().await;
    server.redeem(&used, "used").await.expect(200);
    let open = server.invite().await;
    let (token, late) = (server.exchange(&key).await, server.token("revoked-key").await);
    server.revoke("revoked-key").await;
    let mut client = server.join_fully("client").await;
    let before = server.admin().get("/api/audit/verify").await.expect(200);

    server.restart().await;
    client.wait_for("goaway").await;
    assert_eq!(client.closed().await, Some(1012));
    assert_eq!(server.admin().get("/api/audit/verify").await.expect(200), before, "not one row more or less");
    server.open("keyed", &token).await.register().await;
    server.exchange(&key).await;
    server.exchange_with("x-device-token", &device_token).await.expect(200);
    server.exchange_with("x-device-token", &revoked_token).await.expect(401);
    assert_eq!(server.dial(&late).open("revoked-key").await.err(), Some(403));
    server.redeem(&used, "again").await.expect(401);
    server.redeem(&open, "new").await.expect(200);

    let mut pending = server.open(&waiting.peer, &server.token_of_claim(&waiting).await).await;
    pending.register_with(&ALL).await;
    server.decide(&waiting.id, "approve").await.expect(200);
    pending.expect("approved").await;
    server.decide(&device.id, "approve").await.expect(409);
    assert_eq!(server.revoke(&device.id).await["enforced"], true);
}

#[tokio::test]
async fn epochs_and_versions_do_not_go_back() {
    let mut server = TestServer::start().await;
    let key = server.key("a", "default").await;
    let version = async |server: &TestServer| {
        let mut client = server.open("a", &server.exchange(&key).await).await;
        client.register().await;
        client.send("mesh_health", None, Value::Null).await;
        client.expect("mesh_health").await["payload"]["version"].as_u64().unwrap()
    };
    let before = version(&server).await;
    server.restart().await;
    let after = version(&server).await;
    assert!(after >= before && after > 0, "{before}, then {after}");
}

/// What the node had answered when it was killed: pairing → the last status.
type Answered = Arc<Mutex<BTreeMap<String, &'static str>>>;

/// Pairs, approves and revokes devices, one after the other, until the node is gone.
async fn keep_pairing(access: Access, answered: Answered) {
    let note = |id: &str, status| {
        answered.lock().unwrap().insert(id.to_owned(), status);
    };
    loop {
        let code = text(&access.admin().post("/api/pairing/generate-code", &json!({})).await.json(), "code");
        let paired = Paired::of(&access.redeem(&code, "device").await.json());
        note(&paired.id, "pending_approval");
        let status = access.decide(&paired.id, "approve").await.status;
        assert_eq!(status, 200);
        note(&paired.id, "approved");
        assert_eq!(access.decide(&paired.id, "revoke").await.status, 200);
        note(&paired.id, "revoked");
    }
}

/// How far along a status is: the next step may have been taken and not answered.
fn step(status: &str) -> usize {
    ["pending_approval", "approved", "revoked"].iter().position(|name| *name == status).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_in_the_middle_nothing_answered_is_lost_and_nothing_is_half_done() {
    let data = TempDir::new().unwrap();
    let program = env!("CARGO_BIN_EXE_heliograph-testnode");
    let mut answered_in_all = 0;
    for _ in 0..3 {
        let node = NodeProcess::start(program, data.path(), &[]).await;
        let answered = Answered::default();
        let pairers: Vec<_> =
            (0..4).map(|_| tokio::spawn(keep_pairing(node.clone(), Arc::clone(&answered)))).collect();
        heliograph_testkit::eventually("some work is done", async || {
            (answered.lock().unwrap().values().filter(|status| **status == "revoked").count() >= 8)
                .then_some(())
        })
        .await;
        node.kill().await;
        for pairer in pairers {
            assert!(pairer.await.is_err(), "it ends when the node is gone");
        }

        let node = NodeProcess::start(program, data.path(), &[]).await;
        let verified = node.admin().get("/api/audit/verify").await.expect(200);
        assert_eq!(verified["ok"], true, "{verified}");
        let answered = answered.lock().unwrap().clone();
        answered_in_all += answered.len();
        for (id, status) in answered {
            let pairing = find(&node, &id).await;
            let now = text(&pairing, "status");
            let steps = step(&now) - step(status);
            assert!(steps <= 1, "{id} was answered as {status} and is {now}");
            let peer =
                node.admin().get(&format!("/api/peers/{}", text(&pairing, "peer_id"))).await.expect(200);
            let of_peer = text(&peer, "status");
            assert_eq!(of_peer, now, "pairing and peer agree");
        }
        node.kill().await;
    }
    assert!(answered_in_all >= 24, "{answered_in_all}");
}

/// A pairing, from the pages of all of them.
async fn find(access: &Access, id: &str) -> Value {
    let mut path = "/api/pairing/all?limit=500".to_owned();
    loop {
        let page = access.admin().get(&path).await;
        let rows = page.expect(200);
        if let Some(row) = rows.as_array().unwrap().iter().find(|row| row["id"] == id) {
            return row.clone();
        }
        let cursor =
            page.headers.iter().find(|(name, _)| name.contains("cursor")).map(|(_, value)| value.clone());
        path =
            format!("/api/pairing/all?limit=500&cursor={}", cursor.unwrap_or_else(|| panic!("{id} is lost")));
    }
}
