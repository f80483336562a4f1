//! Who was revoked does not come back: not by anything that it holds, and not by being quick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use heliograph_testkit::client::ALL;
use heliograph_testkit::jwt::DeviceKey;
use heliograph_testkit::{Access, MeshClient, Paired, eventually, peers, text};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::TestServer;

/// Whoever tries again and again is not to be stopped by limits here.
const UNLIMITED: [(&str, &str); 3] =
    [("MAX_UPGRADES_PER_SECOND", "0"), ("MAX_SOCKETS_PER_ADDRESS", "0"), ("MAX_MESSAGES_PER_SECOND", "0")];

/// Where the peer's sessions have a place.
async fn placed(server: &Access, peer: &str) -> Vec<Value> {
    let found = server.admin().get(&format!("/api/peers/{peer}")).await.expect(200);
    let sessions = found["sessions"].as_array().cloned().unwrap_or_else(|| panic!("{found}"));
    sessions.into_iter().filter(|session| session["placed"] == true).collect()
}

/// Who is listed for one that comes now, on each node.
async fn listed(server: &Access, witness: &str) -> Vec<String> {
    let token = server.token(witness).await;
    let mut all = vec![];
    for _ in 0..server.nodes() {
        all.extend(server.open(witness, &token).await.register().await);
    }
    all
}

#[tokio::test]
async fn a_socket_from_before_leads_nowhere() {
    let server = TestServer::start().await;
    let mut friend = server.join_fully("friend").await;
    let token = server.token("bad").await;
    // It is open, and nothing was said on it yet.
    let mut bad = server.open("bad", &token).await;
    server.revoke("bad").await;
    assert_eq!(bad.register_with(&ALL).await["peers"], json!([]));
    bad.send_with_id("offer", "friend", json!("from"), "1").await;
    assert_eq!(bad.wait_for("undeliverable").await["payload"]["reason"], "unavailable");
    friend.send_with_id("offer", "bad", json!("to"), "2").await;
    assert_eq!(friend.wait_for("undeliverable").await["payload"]["reason"], "unavailable");
    bad.expect_silence().await;
    assert_eq!(placed(&server, "bad").await, [] as [Value; 0]);
    assert!(!listed(&server, "witness").await.contains(&"bad".to_owned()));
}

#[tokio::test]
async fn a_session_that_waits_for_its_client_is_not_taken_up() {
    let server = TestServer::start().await;
    let mut friend = server.join_fully("friend").await;
    let token = server.token("bad").await;
    let mut bad = server.open("bad", &token).await;
    let resume = text(&bad.register_with(&ALL).await["session"], "resume_token");
    drop(bad);
    let parked = async || server.metric("heliograph_parked_sessions").await;
    eventually("parked", async || (parked().await == 1).then_some(())).await;
    friend.send_with_id("offer", "bad", json!("waits"), "1").await;
    friend.so_far().await;
    // A socket from before that resumes only now.
    let mut late = server.open("bad", &token).await;
    server.revoke("bad").await;
    assert_eq!(friend.wait_for("undeliverable").await["payload"]["id"], "1");
    late.send("resume", None, json!({ "resume_token": resume, "received": 0 })).await;
    assert_eq!(late.wait_for("resumed").await["payload"]["fresh"], true);
    assert_eq!(late.register_with(&ALL).await["peers"], json!([]));
    late.expect_silence().await;
    eventually("given up", async || (parked().await == 0).then_some(())).await;
    // It had inherited the place of the one before: that is given up too, though its client had said nothing yet.
    eventually("it has no place", async || placed(&server, "bad").await.is_empty().then_some(())).await;
    assert!(!listed(&server, "witness").await.contains(&"bad".to_owned()));
    assert_eq!(server.dial(&token).open("bad").await.err(), Some(403));
}

#[tokio::test]
async fn its_own_key_does_not_vouch_for_it_any_more() {
    let server = TestServer::start().await;
    let key = DeviceKey::new(9);
    let body = json!({ "code": server.invite().await, "agent_name": "device", "public_key": key.public });
    let paired = Paired::of(&server.api().post("/api/pairing/pair", &body).await.expect(200));
    server.decide(&paired.id, "approve").await.expect(200);
    let show =
        async |jti: &str| server.exchange_with("x-device-assertion", &key.assertion(&paired.peer, jti)).await;
    let token = text(&show("one").await.expect(200), "token");
    server.open(&paired.peer, &token).await.register().await;
    server.revoke(&paired.id).await;
    // Each node would have to be asked: none believes it.
    for jti in ["two", "three", "four"] {
        show(jti).await.expect(401);
        assert_eq!(server.dial(&token).open(&paired.peer).await.err(), Some(403));
    }
    // Neither does the same key make a way around the old name.
    assert_eq!(placed(&server, &paired.peer).await, [] as [Value; 0]);
}

/// Comes again and again, and takes a place each time.
struct Intruder {
    task: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    came: Arc<AtomicUsize>,
}

impl Intruder {
    fn start(server: &Access, peer: &str, token: &str) -> Self {
        let (stop, came) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (end, count) = (Arc::clone(&stop), Arc::clone(&came));
        let (server, peer, token) = (server.clone(), peer.to_owned(), token.to_owned());
        let task = tokio::spawn(async move {
            while !end.load(Ordering::SeqCst) {
                let Ok(mut client) = server.dial(&token).open(&peer).await else { continue };
                client.send("register", None, json!({ "version": 1, "capabilities": ALL })).await;
                // Another one of its sockets may have come in between.
                if list(&mut client).await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { task, stop, came }
    }

    /// Waits until it has come so many times more.
    async fn comes(&self, times: usize) {
        let enough = self.came.load(Ordering::SeqCst) + times;
        eventually("it comes", async || (self.came.load(Ordering::SeqCst) >= enough).then_some(())).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// The first list, if the socket lives that long, and the right too.
async fn list(client: &mut MeshClient) -> Option<Vec<String>> {
    loop {
        let message = client.next().await.ok()?;
        match message["type"].as_str() {
            Some("peer_list") => return Some(peers(&message)),
            Some("peer_revoked") if message["payload"]["peer"] == client.id => return None,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_again_and_again_while_it_is_revoked_gets_no_place() {
    const ROUNDS: usize = 8;
    const INTRUDERS: usize = 3;
    let server = TestServer::start_with(&UNLIMITED).await;
    for round in 0..ROUNDS {
        let peer = format!("bad-{round}");
        let token = server.token(&peer).await;
        let intruders: Vec<_> = (0..INTRUDERS).map(|_| Intruder::start(&server, &peer, &token)).collect();
        for intruder in &intruders {
            intruder.comes(2).await;
        }
        let report = server.revoke(&peer).await;
        assert_eq!(report["enforced"], true, "{report}");
        // Nobody who comes from now on gets it in a list, and soon it has no place anywhere, and stays without one.
        let seen = listed(&server, &format!("witness-{round}")).await;
        assert!(!seen.contains(&peer), "{peer} is listed after its revocation: {seen:?}");
        eventually("it has no place", async || placed(&server, &peer).await.is_empty().then_some(())).await;
        assert_eq!(server.dial(&token).open(&peer).await.err(), Some(403));
        for intruder in intruders {
            intruder.stop().await;
        }
        assert_eq!(placed(&server, &peer).await, [] as [Value; 0], "{peer}");
        assert!(!listed(&server, &format!("later-{round}")).await.contains(&peer));
    }
}
