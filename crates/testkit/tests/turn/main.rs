//! TURN: what the service vends is used on a real TURN server, and nobody gets any who may not signal.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

mod coturn;
mod relayed;

use std::net::Ipv4Addr;
use std::time::Duration;

use coturn::{Coturn, settings};
use heliograph_auth::secret::Secret;
use heliograph_auth::turn::IceConfig;
use heliograph_core::id::PeerId;
use heliograph_core::message::IceServer;
use heliograph_testkit::{Access, FlakyStore, MeshClient, Plan, TestServer, eventually};
use serde_json::{Value, json};

const SECRET: &str = "a secret shared with coturn";

#[tokio::test]
async fn coturn_relays_for_whoever_shows_a_vended_credential() {
    let coturn = Coturn::start(&[SECRET]).await;
    let url = coturn.url();
    let server = TestServer::start_with(&settings(&url, SECRET)).await;

    let (_a, servers) = join(&server, "a").await;
    let pushed = turn(&servers).unwrap();
    assert_eq!(pushed.urls, std::slice::from_ref(&url));
    let asked = server.api().with("x-api-key", &server.key("b", "default").await).get("/api/config").await;
    let asked = turn(&asked.expect(200)["iceServers"]).unwrap();
    tokio::join!(coturn.accepts("from the socket", &pushed), coturn.accepts("from HTTP", &asked));

    coturn.refuses("another password", &IceServer { credential: asked.credential, ..pushed }).await;
}

#[tokio::test]
async fn coturn_refuses_what_has_expired_and_what_another_secret_signed() {
    let coturn = Coturn::start(&[SECRET]).await;
    let now = heliograph_testkit::jwt::now();
    coturn.accepts("now", &vended(SECRET, now)).await;
    coturn.refuses("an hour ago", &vended(SECRET, now - 3_600)).await;
    coturn.refuses("with another secret", &vended("another secret", now)).await;
}

#[tokio::test]
async fn the_shipped_configuration_relays_into_no_private_network() {
    let coturn = Coturn::start(&[SECRET]).await;
    let credential = vended(SECRET, heliograph_testkit::jwt::now());
    for inside in ["10.1.2.3", "172.20.0.9", "192.168.1.1", "169.254.169.254", "127.0.0.2"] {
        let words = coturn.relay(&credential, inside.parse::<Ipv4Addr>().unwrap()).await;
        assert!(words.contains("403 (Forbidden IP)"), "{inside}: {words}");
    }
}

#[tokio::test]
async fn while_the_secret_is_changed_credentials_of_old_and_new_nodes_are_good() {
    let coturn = Coturn::start(&["the old secret of both", "the new secret of both"]).await;
    let url = coturn.url();
    // Two nodes of one cluster, in the middle of being rolled.
    let old = Plan::nodes(1).settings(&settings(&url, "the old secret of both")).start().await;
    let new = Plan::nodes(1).settings(&settings(&url, "the new secret of both")).start().await;
    let (_a, servers) = join(&old.access(), "a").await;
    let (_b, others) = join(&new.access(), "b").await;
    let (servers, others) = (turn(&servers).unwrap(), turn(&others).unwrap());
    tokio::join!(coturn.accepts("old", &servers), coturn.accepts("new", &others));
}

#[tokio::test]
async fn without_a_lease_nobody_gets_credentials_and_they_follow_when_there_is_one() {
    let store = FlakyStore::new();
    let mut settings = settings("turn:turn.example", SECRET).to_vec();
    settings.push(("LEASE_TERM", "500ms"));
    let server = TestServer::start_on(store.clone(), &settings).await;
    let mut a = server.connect("a").await;

    store.switch(false);
    lease(&server, false).await;
    let welcome = a.register_with(&["ice"]).await;
    assert!(turn(&welcome["ice_servers"]).is_none(), "{welcome}");
    assert_eq!(welcome["ice_servers"][0]["urls"], json!(["stun:stun.example"]), "{welcome}");

    store.switch(true);
    let pushed = a.expect("ice_servers").await["payload"]["ice_servers"].clone();
    let credential = turn(&pushed).unwrap();
    assert!(credential.username.unwrap().ends_with(":a"));
}

#[tokio::test]
async fn credentials_are_renewed_before_they_expire_but_not_for_the_revoked() {
    let mut settings = settings("turn:turn.example", SECRET).to_vec();
    // The shortest that may be set; a third of it passes before the first push.
    settings.push(("TURN_TTL", "30s"));
    let server = TestServer::start_with(&settings).await;
    let ((mut a, first), (mut b, _)) = (join(&server, "a").await, join(&server, "b").await);
    let mut quiet = server.connect("quiet").await;
    quiet.register_with(&["events"]).await;
    server.revoke("b").await;

    let renewed = a.expect("ice_servers").await["payload"]["ice_servers"].clone();
    let left = expiry(&first).saturating_sub(heliograph_testkit::jwt::now());
    assert!((1..30).contains(&left), "the first one is good for {left} s more");
    assert!(expiry(&renewed) > expiry(&first), "{renewed}");

    // Whoever was revoked was due at the same time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heard = b.so_far().await;
    assert!(heard.iter().all(|message| message["type"] != "ice_servers"), "{heard:?}");
    let heard = quiet.so_far().await;
    assert!(heard.iter().all(|message| message["type"] != "ice_servers"), "not asked for: {heard:?}");
}

/// A peer that registered for ICE servers, and those it got.
async fn join(server: &Access, peer: &str) -> (MeshClient, Value) {
    let mut client = server.connect(peer).await;
    let servers = client.register_with(&["ice"]).await["ice_servers"].clone();
    (client, servers)
}

/// The entry with a credential.
fn turn(servers: &Value) -> Option<IceServer> {
    let entry = servers.as_array()?.iter().find(|entry| entry.get("credential").is_some())?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let urls = entry["urls"].as_array()?.iter().filter_map(text).collect();
    Some(IceServer { urls, username: text(&entry["username"]), credential: text(&entry["credential"]) })
}

/// When the credential ends, in seconds since the Unix epoch.
fn expiry(servers: &Value) -> u64 {
    let username = turn(servers).unwrap().username.unwrap();
    username.split_once(':').unwrap().0.parse().unwrap()
}

/// What a service with this secret vended at some time.
fn vended(secret: &str, at: u64) -> IceServer {
    let config = IceConfig {
        turn_urls: vec!["turn:turn.example".to_owned()],
        turn_secret: Some(Secret::new(secret)),
        ..IceConfig::default()
    };
    config.servers_for(Some(&PeerId::parse("alice").unwrap()), at).remove(0)
}

async fn lease(server: &Access, held: bool) {
    let fails = i64::from(!held);
    eventually("the lease", async || {
        (server.metric("heliograph_authorization_fail_closed").await == fails).then_some(())
    })
    .await;
}
