//! Rooms: who may enter, who hears what, and what comes of those who do not behave.

use std::time::Duration;

use heliograph_auth::room_key::RoomKey;
use heliograph_testkit::jwt::{DeviceKey, SECRET, hand_signed};
use heliograph_testkit::{Access, Dial, MeshClient, Paired};
use serde_json::{Value, json};

use crate::TestServer;

/// Keys (the first that of RFC 8037 A.2), with the names that the rendezvous protocol gives their holders.
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED25519_ID: &str = "20aab9665358bc73da7fc6ab0c064cc7487d8cc311c4596851adcce62db1f1e1";
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"8RVgNTHp7IOnkDvgrrKG2rrICzS10cLi5Qi7dfAVv6I","y":"3RXqVMmivtR5Oz4P3L0mr8BDpck13HKOPytQ0XZ3Axs"}"#;
const P256_ID: &str = "90050386f540c77be3e671cc7519ac20bb5d926bf625707afa9fe7be34c8345e";

async fn started(rooms: &str) -> TestServer {
    TestServer::start_with(&[("ROOMS", rooms), ("SIGNING_SECRET", SECRET)]).await
}

/// A socket of an rtc-signaller client.
pub(crate) async fn signaller(access: &Access, id: &str) -> MeshClient {
    Dial::to(access.address()).path("/primus").open(id).await.unwrap()
}

/// What an rtc-signaller client says to enter a room.
pub(crate) fn announce(id: &str, room: &str) -> String {
    format!(r#"/announce|{id}|{{"id":"{id}","room":"{room}","agent":"signaller@6.3.0"}}"#)
}

/// An rtc-signaller client in a room with so many members, itself among them.
pub(crate) async fn announced(access: &Access, id: &str, room: &str, members: usize) -> MeshClient {
    let mut client = signaller(access, id).await;
    client.send_text(&announce(id, room)).await;
    assert_eq!(client.next_text().await, format!(r#"/roominfo|{{"memberCount":{members}}}"#), "{id}");
    client
}

pub(crate) fn left(id: &str) -> String {
    format!(r#"/leave|{id}|{{"id":"{id}"}}"#)
}

/// A socket of a rendezvous client.
async fn rendezvous(access: &Access, room: &str, query: &str) -> Result<MeshClient, u16> {
    Dial::to(access.address()).path(&format!("/room/{room}/websocket{query}")).open(room).await
}

fn register(key: &str) -> String {
    format!(r#"{{"type":"register","publicKey":{key}}}"#)
}

async fn next(client: &mut MeshClient) -> Value {
    client.next().await.unwrap()
}

#[tokio::test]
async fn members_of_a_room_hear_one_another_and_nobody_else() {
    let server = started("open").await;
    let mut a = announced(&server, "a", "hall", 1).await;
    let mut b = announced(&server, "b", "hall", 2).await;
    assert_eq!(a.next_text().await, announce("b", "hall"), "as it was sent");
    let mut elsewhere = announced(&server, "a", "attic", 1).await;
    b.send_text("/hello|b|there|1|{\"x\":1}").await;
    b.send_text("/to|a|/sdp|b|{\"type\":\"offer\"}").await;
    b.send_text("/to|nobody|/sdp|b|1").await;
    b.send_text("/hello|a|in the name of another").await;
    b.send_text("/bye|b").await;
    let heard = [a.next_text().await, a.next_text().await, a.next_text().await];
    assert_eq!(heard, ["/hello|b|there|1|{\"x\":1}", "/to|a|/sdp|b|{\"type\":\"offer\"}", "/bye|b"]);
    b.send_text("/leave|b|{\"id\":\"b\"}").await;
    assert_eq!(a.next_text().await, left("b"));
    // It left on its socket and may come again.
    b.send_text(&announce("b", "attic")).await;
    assert_eq!(b.next_text().await, r#"/roominfo|{"memberCount":2}"#);
    assert_eq!(elsewhere.next_text().await, announce("b", "attic"));
    let spoofed = r#"heliograph_messages_total{dialect="rtc",kind="broadcast",outcome="spoofed"}"#;
    assert_eq!(server.metric(spoofed).await, 1);
}

#[tokio::test]
async fn a_client_that_moves_is_told_of_in_both_rooms_and_one_that_repeats_is_shown_again() {
    let server = started("open").await;
    let mut in_hall = announced(&server, "h", "hall", 1).await;
    let mut in_attic = announced(&server, "t", "attic", 1).await;
    let mut mover = announced(&server, "m", "hall", 2).await;
    assert_eq!(in_hall.next_text().await, announce("m", "hall"));
    mover.send_text(&announce("m", "hall")).await;
    assert_eq!(mover.next_text().await, r#"/roominfo|{"memberCount":2}"#);
    assert_eq!(in_hall.next_text().await, announce("m", "hall"), "again");
    mover.send_text(&announce("m", "attic")).await;
    assert_eq!(mover.next_text().await, r#"/roominfo|{"memberCount":2}"#);
    assert_eq!(in_hall.next_text().await, left("m"));
    assert_eq!(in_attic.next_text().await, announce("m", "attic"));
}

#[tokio::test]
async fn who_vanishes_and_is_back_in_time_was_never_away_and_who_is_not_has_left_once() {
    let server = started("open").await;
    let mut witness = announced(&server, "w", "hall", 1).await;
    for _ in 0..2 {
        drop(announced(&server, "v", "hall", 2).await);
    }
    let mut back = announced(&server, "v", "hall", 2).await;
    back.send_text("/here|v").await;
    assert_eq!(witness.next_text().await, announce("v", "hall"));
    assert_eq!(witness.next_text().await, "/here|v", "and nothing between");
    drop(back);
    assert_eq!(witness.next_text().await, left("v"));
    let mut newcomer = announced(&server, "n", "hall", 2).await;
    newcomer.send_text("/here|n").await;
    assert_eq!(witness.next_text().await, announce("n", "hall"), "left once");
}

#[tokio::test]
async fn of_two_sockets_of_one_name_the_newer_is_the_member_and_the_older_stays_open() {
    let server = started("open").await;
    let mut witness = announced(&server, "w", "hall", 1).await;
    let mut older = announced(&server, "x", "hall", 2).await;
    assert_eq!(witness.next_text().await, announce("x", "hall"));
    let mut newer = announced(&server, "x", "hall", 2).await;
    older.send_text("/from|x|the older").await;
    newer.send_text("/from|x|the newer").await;
    assert_eq!(witness.next_text().await, "/from|x|the newer");
    witness.send_text("/to|x|/hi|w").await;
    assert_eq!(newer.next_text().await, "/to|x|/hi|w");
    older.send_text(&announce("y", "hall")).await;
    assert_eq!(older.next_text().await, r#"/roominfo|{"memberCount":3}"#, "under another name");
}

#[tokio::test]
async fn keys_are_introduced_each_once_and_signal() {
    let server = started("open").await;
    let mut a = rendezvous(&server, "lobby", "").await.unwrap();
    a.send_text(r#"{"type":"offer","to":"x","sdp":"v=0"}"#).await;
    assert_eq!(next(&mut a).await["type"], "error", "not registered");
    a.send_text(&register(ED25519)).await;
    assert_eq!(next(&mut a).await, json!({"type": "welcome", "peerId": ED25519_ID, "peers": []}));
    let mut b = rendezvous(&server, "lobby", "").await.unwrap();
    b.send_text(&register(P256)).await;
    let (ed, ec): (Value, Value) =
        (serde_json::from_str(ED25519).unwrap(), serde_json::from_str(P256).unwrap());
    let peers = json!([{"id": ED25519_ID, "publicKey": ed}]);
    assert_eq!(next(&mut b).await, json!({"type": "welcome", "peerId": P256_ID, "peers": peers}));
    assert_eq!(next(&mut a).await, json!({"type": "peer-joined", "peerId": P256_ID, "publicKey": ec}));
    b.send_text(&format!(r#"{{"type":"offer","to":"{ED25519_ID}","sdp":"v=0","extra":[1]}}"#)).await;
    assert_eq!(next(&mut a).await, json!({"type": "offer", "from": P256_ID, "sdp": "v=0", "extra": [1]}));
    // The same again is answered again, and told to nobody; another identity on the same socket is refused.
    b.send_text(&register(P256)).await;
    assert_eq!(next(&mut b).await["type"], "welcome");
    b.send_text(&register(ED25519)).await;
    assert_eq!(next(&mut b).await["type"], "error");
    for target in [P256_ID, "nobody"] {
        b.send_text(&format!(r#"{{"type":"answer","to":"{target}","sdp":"v=0"}}"#)).await;
        assert_eq!(next(&mut b).await["type"], "error", "{target}");
    }
    // A second socket of the same key takes over without anybody hearing of it.
    let mut again = rendezvous(&server, "lobby", "").await.unwrap();
    again.send_text(&register(P256)).await;
    assert_eq!(next(&mut again).await["type"], "welcome");
    assert_eq!(b.closed().await, Some(4409));
    again.close().await;
    assert_eq!(next(&mut a).await, json!({"type": "peer-left", "peerId": P256_ID}));
}

#[tokio::test]
async fn names_of_rooms_are_checked() {
    let server = started("open").await;
    let long = "x".repeat(129);
    for bad in [long.as_str(), "a%00b", "a%22b", "%ff"] {
        assert_eq!(rendezvous(&server, bad, "").await.err(), Some(400), "{bad}");
    }
    let mut client = rendezvous(&server, "Wohnzimmer%20S%C3%BCd", "").await.unwrap();
    client.send_text(&register(P256)).await;
    assert_eq!(next(&mut client).await["type"], "welcome");
    let mut other = signaller(&server, "a").await;
    other.send_text(&announce("a", &long)).await;
    other.send_text(&announce("a", "good")).await;
    assert_eq!(other.next_text().await, r#"/roominfo|{"memberCount":1}"#, "silence, then the good one");
}

#[tokio::test]
async fn without_rooms_there_are_none() {
    let server = started("off").await;
    assert_eq!(rendezvous(&server, "lobby", "").await.err(), Some(404));
    for path in ["/", "/primus", "/signaller/", "/signaller/primus"] {
        assert_eq!(Dial::to(server.address()).path(path).open("a").await.err(), Some(404), "{path}");
    }
    let page = server.api().get("/").await;
    assert_eq!(page.status, 200, "without an upgrade it is a page");
}

#[tokio::test]
async fn in_a_room_of_paired_peers_a_token_gives_the_right_and_a_revocation_takes_it() {
    let server = started("paired").await;
    assert_eq!(Dial::to(server.address()).path("/primus").open("a").await.err(), Some(401));
    let (a, b) = (server.pair_and_approve("a").await.0, server.pair_and_approve("b").await.0);
    let enter = async |peer: &str, id: &str| {
        let path = format!("/primus?token={}", hand_signed(peer));
        let opened = Dial::to(server.address()).path(&path).open(id).await;
        let mut client = opened.unwrap_or_else(|status| panic!("{peer}: {status}"));
        client.send_text(&announce(id, "hall")).await;
        client
    };
    let mut first = enter(&a.peer, &a.peer).await;
    assert_eq!(first.next_text().await, r#"/roominfo|{"memberCount":1}"#);
    let mut liar = enter(&b.peer, &a.peer).await;
    let mut second = enter(&b.peer, &b.peer).await;
    assert_eq!(second.next_text().await, r#"/roominfo|{"memberCount":2}"#);
    assert_eq!(first.next_text().await, announce(&b.peer, "hall"));
    assert!(liar.anything_within(Duration::from_millis(200)).await.is_none(), "no room for it, nor a word");
    second.send_text(&format!("/hi|{}", b.peer)).await;
    assert_eq!(first.next_text().await, format!("/hi|{}", b.peer));
    server.revoke(&b.id).await;
    second.send_text(&format!("/hi|{}|again", b.peer)).await;
    first.send_text(&format!("/to|{}|/hi|{}", b.peer, a.peer)).await;
    assert_eq!(first.next_text().await, left(&b.peer), "and nothing of what came after");
    assert!(second.anything_within(Duration::from_millis(200)).await.is_none());
    let path = format!("/primus?token={}", hand_signed(&b.peer));
    assert_eq!(Dial::to(server.address()).path(&path).open("b").await.err(), Some(403));
}

/// A device that is enrolled with a key and approved.
async fn enrolled(server: &TestServer, key: &DeviceKey) -> Paired {
    let body = json!({ "code": server.invite().await, "agent_name": "device", "public_key": key.public });
    let paired = Paired::of(&server.api().post("/api/pairing/pair", &body).await.expect(200));
    server.decide(&paired.id, "approve").await.expect(200);
    paired
}

/// The answer to a challenge by `key`, for a key with that name.
async fn prove(client: &mut MeshClient, key: &DeviceKey, room: &str, id: &str) -> Value {
    let challenge = next(client).await;
    assert_eq!(challenge["type"], "challenge", "{challenge}");
    let nonce = challenge["nonce"].as_str().unwrap();
    let signature = key.sign(&format!("heliograph-room-proof-v1\n{room}\n{id}\n{nonce}"));
    client.send_text(&json!({"type": "proof", "alg": "EdDSA", "signature": signature}).to_string()).await;
    next(client).await
}

#[tokio::test]
async fn a_key_of_an_approved_peer_enters_by_a_proof_and_a_revocation_holds_everywhere() {
    let server = started("paired").await;
    let (key, own) = (DeviceKey::new(3), DeviceKey::new(4));
    let (ours, theirs) = (enrolled(&server, &key).await, enrolled(&server, &own).await);
    assert_eq!(rendezvous(&server, "hall", "").await.err(), Some(401));
    assert_eq!(rendezvous(&server, "hall", "?peer=nobody").await.err(), Some(403));
    let enter = async |paired: &Paired, key: &DeviceKey| {
        let mut client = rendezvous(&server, "hall", &format!("?peer={}", paired.peer)).await.unwrap();
        client.send_text(&register(&key.public.to_string())).await;
        client
    };
    assert_eq!(next(&mut enter(&ours, &own).await).await["code"], "wrong_identity");
    let name = |key: &DeviceKey| {
        let key = RoomKey::parse(key.public.to_string().as_bytes());
        key.unwrap_or_else(|error| panic!("{error}")).fingerprint()
    };
    let mut thief = enter(&ours, &key).await;
    assert_eq!(prove(&mut thief, &own, "hall", &name(&key)).await["code"], "bad_proof");
    let mut elsewhere = enter(&ours, &key).await;
    assert_eq!(prove(&mut elsewhere, &key, "attic", &name(&key)).await["code"], "bad_proof");

    let mut first = enter(&ours, &key).await;
    let welcome = prove(&mut first, &key, "hall", &name(&key)).await;
    assert_eq!(welcome, json!({"type": "welcome", "peerId": name(&key), "peers": []}));
    let mut second = enter(&theirs, &own).await;
    let welcome = prove(&mut second, &own, "hall", &name(&own)).await;
    let peers = json!([{"id": name(&key), "publicKey": key.public, "proven": true}]);
    assert_eq!(welcome, json!({"type": "welcome", "peerId": name(&own), "peers": peers}));
    assert_eq!(next(&mut first).await["proven"], true);
    second.send_text(&format!(r#"{{"type":"offer","to":"{}","sdp":"v=0"}}"#, name(&key))).await;
    assert_eq!(next(&mut first).await["from"], name(&own).as_str());

    server.revoke(&theirs.id).await;
    second.send_text(&format!(r#"{{"type":"offer","to":"{}","sdp":"late"}}"#, name(&key))).await;
    assert_eq!(next(&mut first).await, json!({"type": "peer-left", "peerId": name(&own)}));
    first.send_text(&format!(r#"{{"type":"offer","to":"{}","sdp":"v=0"}}"#, name(&own))).await;
    assert_eq!(next(&mut first).await["code"], "unavailable");
    assert_eq!(
        rendezvous(&server, "hall", &format!("?peer={}", theirs.peer)).await.err(),
        Some(403),
        "and it cannot come back"
    );
}

#[tokio::test]
async fn each_mesh_has_the_policy_that_is_said_of_it() {
    let server = started("off, default=open, factory=paired").await;
    let status = async |query: &str| rendezvous(&server, "hall", query).await.err();
    assert_eq!(status("").await, None);
    assert_eq!(status("?mesh=factory").await, Some(401));
    assert_eq!(status("?mesh=elsewhere").await, Some(404));
}

/// Frames of one dialect mean nothing in another.
#[tokio::test]
async fn rooms_of_two_dialects_are_never_the_same() {
    let server = started("open").await;
    let mut a = announced(&server, "a", "hall", 1).await;
    let mut b = rendezvous(&server, "hall", "").await.unwrap();
    b.send_text(&register(P256)).await;
    assert_eq!(next(&mut b).await["peers"], json!([]));
    a.send_text(&announce("a", "hall")).await;
    assert_eq!(a.next_text().await, r#"/roominfo|{"memberCount":1}"#, "and nothing before");
}
