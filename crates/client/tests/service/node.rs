//! One node, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use heliograph_auth::secret::Secret;
use heliograph_client::{
    Address, Config, Connector, Credential, Duplex, Event, Listed, Outcome, Reason, Role, State, Stop,
};
use heliograph_sandbox::Proxy;
use heliograph_testkit::jwt::{SECRET, claims, signed};
use heliograph_testkit::{TestServer, eventually, in_time};
use jsonwebtoken::Algorithm;
use tokio::net::TcpStream;

use crate::program::{Program, Said, Tokens, config, config_at, exchange, json, peer};

#[tokio::test]
async fn two_peers_are_introduced_and_exchange_offer_and_answer() {
    let server = TestServer::start().await;
    let mut a = Program::start(config(&server, &server.key("a", "default").await));
    assert_eq!(a.listed().await, (vec![], false));
    assert_eq!((a.client.peer_id(), a.client.state()), (Some(peer("a")), State::Online));
    let mut b = Program::start(config(&server, &server.key("b", "default").await));
    // Who came later yields.
    let (list, again) = b.listed().await;
    assert_eq!((list, again), (vec![Listed { peer: peer("a"), role: Some(Role::Polite) }], false));
    let joined = |event: &Event| match event {
        Event::PeerJoined(listed) => Some(listed.clone()),
        _ => None,
    };
    let joined = a.until("b", joined).await;
    assert_eq!(joined, Listed { peer: peer("b"), role: Some(Role::Impolite) });

    let offer = r#"{"sdp": "v=0…",  "odd":1.50}"#;
    assert_eq!(b.send("offer", "a", offer).await, Outcome::Delivered);
    let heard = a.hear().await;
    assert_eq!((&*heard.from, &*heard.kind, &*heard.payload), ("b", "offer", offer), "byte for byte");
    a.client.post("ice_candidate", &peer("b"), &json(r#"{"candidate":"c"}"#)).await.unwrap();
    assert_eq!(a.send("answer", "b", r#"{"sdp":"v=0"}"#).await, Outcome::Delivered);
    assert_eq!(b.hear().await.kind, "ice_candidate");
    assert_eq!(b.hear().await.kind, "answer");

    b.client.close().await;
    assert_eq!(b.stopped().await, Stop::Closed);
    let left = |event: &Event| matches!(event, Event::PeerLeft(id) if id.as_str() == "b").then_some(());
    a.until("b left", left).await;
    assert_eq!(b.client.send("offer", &peer("a"), &json("1")).await, Outcome::Undeliverable(Reason::Offline));
}

#[tokio::test]
async fn ice_servers_come_with_the_list_and_nothing_that_is_logged_shows_a_secret() {
    let turn = [("TURN_URLS", "turn:turn.example:3478"), ("TURN_SECRET", "0123456789abcdef0123456789abcdef")];
    let server = TestServer::start_with(&turn).await;
    let mut a = Program::start(config(&server, &server.key("a", "default").await));
    let servers = |event: &Event| match event {
        Event::IceServers(servers) => Some((servers.clone(), format!("{event:?}"))),
        _ => None,
    };
    let (servers, shown) = a.until("ICE servers", servers).await;
    let turn = servers.iter().find(|server| server.urls == ["turn:turn.example:3478"]).unwrap();
    let credential = turn.credential.as_ref().unwrap().expose();
    assert!(turn.username.as_ref().unwrap().ends_with(":a") && credential.len() > 20);
    assert!(!shown.contains(credential), "{shown}");
    a.online().await;
    let mut b = Program::join(&server, "b").await;
    assert_eq!(b.send("offer", "a", r#"{"sdp":"v=0 private"}"#).await, Outcome::Delivered);
    let shown = |event: &Event| matches!(event, Event::Message { .. }).then(|| format!("{event:?}"));
    let shown = a.until("an offer", shown).await;
    assert!(shown.contains("offer") && !shown.contains("private"), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_delivered_is_told_with_its_reason() {
    let server = TestServer::start().await;
    let mut a = Program::join(&server, "a").await;
    let refused = |reason| Outcome::Undeliverable(reason);
    assert_eq!(a.send("offer", "nobody", "{}").await, refused(Reason::Unavailable));
    let long = format!("\"{}\"", "x".repeat(70_000));
    assert_eq!(a.send("offer", "nobody", &long).await, refused(Reason::TooLarge));
    for kind in ["", "register", "peer_left", &"x".repeat(65)] {
        assert_eq!(a.send(kind, "nobody", "{}").await, refused(Reason::Malformed), "{kind:?}");
    }
    a.client.post("hello", &peer("nobody"), &json("{}")).await.unwrap();
    let undeliverable = |event: &Event| match event {
        Event::Undeliverable { target, reason } => Some((target.clone(), reason.clone())),
        _ => None,
    };
    let told = a.until("a word about what was posted", undeliverable).await;
    assert_eq!(told, (Some(peer("nobody")), Reason::Unavailable));
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    a.client.post("hello", &peer("nobody"), &json(&deep)).await.unwrap();
    let error = |event: &Event| match event {
        Event::ServiceError { code, .. } => Some(code.clone()),
        _ => None,
    };
    assert_eq!(a.until("an error", error).await, "malformed");
}

#[tokio::test]
async fn more_than_may_wait_are_refused_and_all_others_have_an_outcome() {
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "0")]).await;
    let a = Program::join(&server, "a").await;
    let sending = (0..600).map(|n| {
        let client = a.client.clone();
        tokio::spawn(async move { client.send("hello", &peer("nobody"), &json(&n.to_string())).await })
    });
    let sending: Vec<_> = sending.collect();
    let mut refused = [0, 0];
    for outcome in sending {
        match in_time("an outcome", outcome).await.unwrap() {
            Outcome::Undeliverable(Reason::Unavailable) => refused[0] += 1,
            Outcome::Undeliverable(Reason::TooManyPending) => refused[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused[0] >= 256 && refused[0] + refused[1] == 600, "{refused:?}");
}

#[tokio::test]
async fn a_credential_that_is_not_good_ends_it() {
    let server = TestServer::start().await;
    let mut nobody = Program::start(config(&server, "ak_unknown"));
    assert_eq!(nobody.stopped().await, Stop::CredentialRefused);
    for url in ["", "http://127.0.0.1/ws", "ws://", "nonsense"] {
        let config = Config::new(url, exchange(&server, "ak_1"));
        assert_eq!(Program::start(config).stopped().await, Stop::BadUrl, "{url:?}");
    }
}

#[tokio::test]
async fn a_revoked_peer_stops_and_the_others_hear_it() {
    let server = TestServer::start().await;
    let mut a = Program::join(&server, "a").await;
    let mut b = Program::join(&server, "b").await;
    server.revoke("b").await;
    b.until("our own revocation", |event| matches!(event, Event::Revoked).then_some(())).await;
    assert_eq!(b.stopped().await, Stop::Revoked);
    let revoked = |event: &Event| matches!(event, Event::PeerRevoked(id) if id.as_str() == "b").then_some(());
    a.until("b's revocation", revoked).await;
    // And it cannot come back.
    assert_eq!(a.send("offer", "b", "{}").await, Outcome::Undeliverable(Reason::Unavailable));
}

#[tokio::test]
async fn a_newer_session_of_the_same_peer_ends_the_older() {
    let server = TestServer::start().await;
    let key = server.key("a", "default").await;
    let mut older = Program::start(config(&server, &key));
    older.online().await;
    let mut newer = Program::start(config(&server, &key));
    newer.online().await;
    assert_eq!(older.stopped().await, Stop::Superseded);
    let mut b = Program::join(&server, "b").await;
    assert_eq!(b.send("offer", "a", "{}").await, Outcome::Delivered);
    assert_eq!(newer.hear().await.kind, "offer");
}

#[tokio::test]
async fn a_device_that_waits_for_its_approval_is_introduced_then() {
    let server = TestServer::start().await;
    let _a = Program::join(&server, "a").await;
    let (paired, token) = server.pair_and_approve("device").await;
    let credential = Credential::device_token(Secret::new(token));
    let mut device = Program::start(Config::for_server(&format!("http://{}", server.address()), credential));
    let (list, again) = device.listed().await;
    assert_eq!((list.len(), again), (1, false));
    assert_eq!(device.client.peer_id(), Some(peer(&paired.peer)));
}

#[tokio::test]
async fn a_pending_peer_keeps_its_socket_and_gets_the_list_upon_approval() {
    let server = TestServer::start().await;
    let _a = Program::join(&server, "a").await;
    let paired = server.pair("device").await;
    let token = server.token_of_claim(&paired).await;
    let tokens = Tokens::new(&token, &paired.peer, None);
    let mut device = Program::start(Config::new(format!("ws://{}/ws", server.address()), tokens));
    assert_eq!(device.listed().await, (vec![], false));
    server.decide(&paired.id, "approve").await.expect(200);
    device.until("the approval", |event| matches!(event, Event::Approved).then_some(())).await;
    let (list, again) = device.listed().await;
    assert_eq!((list.len(), again), (1, false), "introduced only now");
}

#[tokio::test]
async fn a_cut_connection_is_resumed_and_nothing_is_lost_or_comes_twice() {
    const MESSAGES: u32 = 300;
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "0")]).await;
    let proxy = Proxy::to(server.address()).await.unwrap();
    let key = server.key("a", "default").await;
    let mut a = Program::start(config_at(&proxy.address().to_string(), &key));
    a.online().await;
    let b = Program::join(&server, "b").await;
    let sender = b.client.clone();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let outcome = sender.send("count", &peer("a"), &json(&n.to_string())).await;
            assert_eq!(outcome, Outcome::Delivered, "message {n}");
        }
    });
    let mut cuts = 0;
    let mut next = 0;
    while next < MESSAGES {
        assert_eq!(a.hear().await, Said::new("b", "count", &next.to_string()));
        next += 1;
        if next % 100 == 50 {
            proxy.cut();
            proxy.heal();
            cuts += 1;
        }
    }
    in_time("all outcomes", sending).await.unwrap();
    // The token exchange is a connection of its own.
    assert!(proxy.accepted() >= cuts + 2, "{}", proxy.accepted());
}

#[tokio::test]
async fn an_outcome_that_comes_while_we_are_away_is_not_lost() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.address()).await.unwrap();
    let mut config = config_at(&proxy.address().to_string(), &server.key("a", "default").await);
    // Longer than both need to come back, however long they wait between attempts.
    config.feedback_within = Duration::from_mins(1);
    let mut a = Program::start(config);
    a.online().await;
    // The target is away, so the message waits with its outcome.
    let other = Proxy::to(server.address()).await.unwrap();
    let mut b = Program::start(config_at(&other.address().to_string(), &server.key("b", "default").await));
    b.online().await;
    other.cut();
    let parked = async |count| {
        eventually("parked", async || {
            (server.metric("heliograph_parked_sessions").await == count).then_some(())
        })
        .await;
    };
    parked(1).await;
    let client = a.client.clone();
    let sending = tokio::spawn(async move { client.send("offer", &peer("b"), &json("{}")).await });
    // The answer to this one says that the service has read that one.
    a.send("offer", "nobody", "{}").await;
    proxy.cut();
    parked(2).await;
    other.heal();
    assert_eq!(b.hear().await.kind, "offer");
    proxy.heal();
    assert_eq!(in_time("the outcome", sending).await.unwrap(), Outcome::Delivered);
}

#[tokio::test]
async fn a_service_that_asks_for_a_pause_gets_it() {
    let server = TestServer::start_with_peers(6, &[("MAX_UPGRADES_PER_SECOND", "1")]).await;
    let start = |n| Program::start(config(&server, &format!("ak_test_peer-{n}")));
    let mut programs: Vec<_> = (0..6).map(start).collect();
    let waits = |event: &Event| match event {
        Event::State(State::Waiting { retry_in }) => Some(Some(*retry_in)),
        Event::State(State::Online) => Some(None),
        _ => None,
    };
    let mut paused = 0;
    for program in &mut programs {
        if let Some(retry_in) = program.until("a pause or a list", waits).await {
            assert!(retry_in >= Duration::from_secs(1), "{retry_in:?}");
            paused += 1;
        }
    }
    assert!(paused > 0, "nobody was asked to wait");
}

#[tokio::test]
async fn any_stream_of_bytes_carries_the_socket() {
    let server = TestServer::start().await;
    let key = server.key("a", "default").await;
    let mut a = Program::start(config(&server, &key).connector(ThroughMemory(server.address())));
    a.online().await;
    let mut b = Program::join(&server, "b").await;
    assert_eq!(a.send("offer", "b", "{}").await, Outcome::Delivered);
    assert_eq!(b.send("answer", "a", "{}").await, Outcome::Delivered);
    assert_eq!(a.hear().await.kind, "answer");
}

/// A pipe in memory to a node, and narrow.
struct ThroughMemory(SocketAddr);

#[async_trait]
impl Connector for ThroughMemory {
    async fn connect(&self, _: &Address) -> std::io::Result<Box<dyn Duplex>> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut node = TcpStream::connect(self.0).await?;
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs, &mut node).await });
        Ok(Box::new(ours))
    }
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed() {
    let server = TestServer::start_with(&[("SIGNING_SECRET", SECRET)]).await;
    let key = server.key("a", "default").await;
    // As after a night: what is in hand is of no use any more.
    let stale = signed(&claims("a", -60), SECRET, Algorithm::HS256);
    let tokens = Tokens::new(&stale, "a", Some(exchange(&server, &key)));
    let asked = Arc::clone(&tokens.asked);
    let mut a = Program::start(Config::new(format!("ws://{}/ws", server.address()), tokens));
    a.online().await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_slow_program_loses_nothing() {
    const MESSAGES: usize = 1000;
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "0")]).await;
    let mut a = Program::join(&server, "a").await;
    let b = Program::join(&server, "b").await;
    // More than the events that are kept: the rest waits in sockets and at the service.
    for n in 0..MESSAGES {
        b.client.post("count", &peer("a"), &json(&n.to_string())).await.unwrap();
    }
    for n in 0..MESSAGES {
        assert_eq!(a.hear().await.payload, n.to_string());
    }
}
