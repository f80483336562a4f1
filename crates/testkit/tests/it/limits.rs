//! Every bound has a test that runs into it.

use std::net::Ipv4Addr;

use heliograph_testkit::jwt::{SECRET, hand_signed};
use heliograph_testkit::{Access, FlakyStore, MeshClient, TestServer, eventually, in_time};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Another address of this machine.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn limited(server: &Access, limit: &str) -> i64 {
    server.metric(&format!("heliograph_rate_limited_total{{limit=\"{limit}\"}}")).await
}

async fn closes(server: &Access, code: u16) -> i64 {
    server.metric(&format!("heliograph_session_closes_total{{code=\"{code}\"}}")).await
}

/// That the other side ends the connection, whatever it says before.
async fn assert_ended(stream: &mut TcpStream) {
    let mut rest = vec![];
    let _reset = in_time("the end of the connection", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn who_never_sends_the_first_byte_is_cut_off() {
    let server = TestServer::start_with(&[("FIRST_BYTE_DEADLINE", "200ms")]).await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut byte = [0];
    let end = in_time("the end", silent.read(&mut byte)).await;
    assert_eq!(end.unwrap(), 0, "without a word");
    server.join("a").await.expect_silence().await;
}

#[tokio::test]
async fn who_sends_one_byte_now_and_then_is_cut_off() {
    let server = TestServer::start_with(&[("HEADER_DEADLINE", "300ms")]).await;
    let (mut reader, mut writer) = TcpStream::connect(server.address()).await.unwrap().into_split();
    let drip = async {
        for byte in b"GET /ws HTTP/1.1\r\nhost: x\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let mut rest = vec![];
    tokio::select! {
        () = drip => {}
        _end = in_time("the deadline", reader.read_to_end(&mut rest)) => {}
    }
    server.join("a").await.expect_silence().await;
}

#[tokio::test]
async fn who_sends_half_a_frame_and_stops_is_cut_off() {
    let server = TestServer::start_with(&[("REGISTER_DEADLINE", "300ms")]).await;
    let token = server.token("a").await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let request = format!(
        "GET /ws?token={token} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(&[0x81, 0xfe, 0x01]).await.unwrap();
    assert_ended(&mut stream).await;
    assert_eq!(closes(&server, 4408).await, 1);
}

#[tokio::test]
async fn who_never_registers_is_closed_with_4408() {
    let server = TestServer::start_with(&[("REGISTER_DEADLINE", "200ms")]).await;
    let mut idle = server.connect("idle").await;
    assert_eq!(idle.closed().await, Some(4408));
    assert_eq!(closes(&server, 4408).await, 1);
}

#[tokio::test]
async fn who_never_authenticates_is_closed_with_4408() {
    let server = TestServer::start_with(&[("AUTHENTICATE_DEADLINE", "200ms")]).await;
    let mut silent = server.dial_bare().open("nobody").await.unwrap();
    assert_eq!(silent.closed().await, Some(4408));
}

#[tokio::test]
async fn who_answers_pings_stays_and_who_does_not_is_closed_with_4408() {
    let server = TestServer::start_with(&[("PING_INTERVAL", "1s"), ("PONG_DEADLINE", "600ms")]).await;
    let mut alive = server.join("alive").await;
    // A client answers when it reads, so this one does not.
    let mut dead = server.join("dead").await;
    let until_closed =
        eventually("the dead one is closed", async || (closes(&server, 4408).await == 1).then_some(()));
    let ((), ()) = tokio::join!(until_closed, alive.pinged(2));
    assert_eq!(dead.closed().await, Some(4408));
    alive.expect_silence().await;
}

#[tokio::test]
async fn pages_of_other_sites_may_not_connect() {
    let server =
        TestServer::start_with(&[("ALLOWED_ORIGINS", "https://app.example,http://localhost:3000")]).await;
    let token = server.token("a").await;
    let from = async |origin: &str| server.dial(&token).header("origin", origin).open("a").await.err();
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:8443",
    ] {
        assert_eq!(from(origin).await, Some(403), "{origin}");
    }
    for origin in ["https://app.example", "http://localhost:3000"] {
        assert_eq!(from(origin).await, None, "{origin}");
    }
    assert_eq!(from(&format!("http://{}", server.address())).await, None, "the same origin");
    assert_eq!(server.dial(&token).open("a").await.err(), None, "programs send none");
    let refused = server.metric(r#"heliograph_upgrades_refused_total{status="403"}"#).await;
    assert_eq!(refused, 5);
}

#[tokio::test]
async fn sockets_per_address_are_bounded() {
    let server = TestServer::start_with(&[("MAX_SOCKETS_PER_ADDRESS", "2")]).await;
    let token = server.token("a").await;
    let open = async |from: Ipv4Addr| server.dial(&token).from(from).open("a").await;
    let first = open(Ipv4Addr::LOCALHOST).await.ok().unwrap();
    let _second = server.dial_bare().open("nobody").await.ok().unwrap();
    assert_eq!(open(Ipv4Addr::LOCALHOST).await.err(), Some(429));
    assert!(open(ELSEWHERE).await.is_ok(), "another address has places of its own");
    assert_eq!(limited(&server, "sockets_per_address").await, 1);
    drop(first);
    eventually("the place is free again", async || open(Ipv4Addr::LOCALHOST).await.ok()).await;
}

#[tokio::test]
async fn unauthenticated_sockets_are_bounded() {
    let server = TestServer::start_with(&[
        ("MAX_UNAUTHENTICATED", "3"),
        ("MAX_UNAUTHENTICATED_PER_ADDRESS", "2"),
        ("AUTHENTICATE_DEADLINE", "60s"),
    ])
    .await;
    let open = async |from: Ipv4Addr| server.dial_bare().from(from).open("a").await;
    let (mut one, _two) =
        (open(Ipv4Addr::LOCALHOST).await.unwrap(), open(Ipv4Addr::LOCALHOST).await.unwrap());
    assert_eq!(open(Ipv4Addr::LOCALHOST).await.err(), Some(429));
    assert_eq!(limited(&server, "unauthenticated_per_address").await, 1);
    let _three = open(ELSEWHERE).await.unwrap();
    assert_eq!(open(ELSEWHERE).await.err(), Some(429));
    assert_eq!(limited(&server, "unauthenticated").await, 1);
    // A token needs no such place, and who authenticates gives it back.
    let token = server.token("a").await;
    assert!(server.dial(&token).open("a").await.is_ok());
    one.send_text(&json!({ "type": "authenticate", "payload": { "token": token } }).to_string()).await;
    one.register().await;
    assert!(open(Ipv4Addr::LOCALHOST).await.is_ok());
}

#[tokio::test]
async fn upgrades_per_second_are_bounded() {
    let server = TestServer::start_with(&[("MAX_UPGRADES_PER_SECOND", "5")]).await;
    let token = server.token("a").await;
    let mut opened = 0;
    let refused = loop {
        match server.dial(&token).open("a").await {
            Ok(_) => opened += 1,
            Err(status) => break status,
        }
        assert!(opened < 1_000, "never refused");
    };
    assert_eq!(refused, 429);
    assert!(opened >= 5, "{opened} opened");
    assert!(limited(&server, "upgrades").await >= 1);
    assert!(server.dial(&token).from(ELSEWHERE).open("a").await.is_ok());
    eventually("the next second", async || server.dial(&token).open("a").await.ok()).await;
}

#[tokio::test]
async fn sessions_that_open_at_once_are_bounded_and_who_waits_for_the_store_is_among_them() {
    let store = FlakyStore::new();
    let settings = [("SIGNING_SECRET", SECRET), ("MAX_OPENING", "2"), ("LEASE_TERM", "60s")];
    let server = TestServer::start_on(store.clone(), &settings).await;
    store.hold(true);
    let open = |peer: &'static str| {
        let dial = server.dial(&hand_signed(peer));
        tokio::spawn(async move { dial.open(peer).await.err() })
    };
    let waiting = [open("one"), open("other")];
    eventually("both wait for the store", async || {
        (server.metric("heliograph_opening_sessions").await == 2).then_some(())
    })
    .await;
    assert_eq!(in_time("an answer", open("third")).await.unwrap(), Some(503));
    assert_eq!(limited(&server, "opening").await, 1);
    store.hold(false);
    for opened in waiting {
        assert_eq!(in_time("the socket", opened).await.unwrap(), None);
    }
    assert_eq!(open("third").await.unwrap(), None);
}

#[tokio::test]
async fn only_trusted_proxies_say_who_the_client_is() {
    let settings = [("MAX_SOCKETS_PER_ADDRESS", "1"), ("TRUSTED_PROXIES", "127.0.0.1/32")];
    let server = TestServer::start_with(&settings).await;
    let token = server.token("a").await;
    let open = async |through: Ipv4Addr, client: &str| {
        server.dial(&token).from(through).header("x-forwarded-for", client).open("a").await
    };
    let _one = open(Ipv4Addr::LOCALHOST, "203.0.113.1").await.ok().unwrap();
    let _other = open(Ipv4Addr::LOCALHOST, "203.0.113.2").await.ok().unwrap();
    assert_eq!(open(Ipv4Addr::LOCALHOST, "203.0.113.1").await.err(), Some(429));
    let forged = open(Ipv4Addr::LOCALHOST, "198.51.100.9, 203.0.113.1").await;
    assert_eq!(forged.err(), Some(429), "what stands further left proves nothing");
    let _direct = open(ELSEWHERE, "203.0.113.3").await.ok().unwrap();
    assert_eq!(open(ELSEWHERE, "203.0.113.4").await.err(), Some(429), "this one is no proxy");
}

#[tokio::test]
async fn messages_over_the_rate_are_refused_and_a_flood_is_closed_with_4429() {
    let server = TestServer::start_with(&[("MAX_MESSAGES_PER_SECOND", "1"), ("MESSAGE_BURST", "10")]).await;
    let mut friend = server.join("friend").await;
    let mut loud = server.connect("loud").await;
    loud.register_with(&["feedback"]).await;
    for n in 0..30 {
        loud.send_with_id("offer", "friend", json!(n), &n.to_string()).await;
    }
    let mut refused = 0;
    for _ in 0..30 {
        let answer = loud.next().await.unwrap();
        if answer["type"] == "undeliverable" {
            assert_eq!(answer["payload"]["reason"], "rate_limited");
            refused += 1;
        }
    }
    assert!(
        (15..=21).contains(&refused),
        "{refused} of 30 with a burst of 10, of which one was the register"
    );
    // On and on: the socket is closed.
    let flood = json!({ "type": "heartbeat", "peer_id": "loud" }).to_string();
    while loud.try_send(&flood).await && closes(&server, 4429).await == 0 {
        for _ in 0..100 {
            loud.try_send(&flood).await;
        }
    }
    assert_eq!(loud.closed().await, Some(4429));
    assert!(limited(&server, "messages").await >= 500);
    friend.send("ping", None, Value::Null).await;
    friend.wait_for("pong").await;
}

#[tokio::test]
async fn code_guessing_from_one_address_is_stopped_and_successes_do_not_count() {
    let server = TestServer::start_with(&[("REDEEM_FAILURES_PER_ADDRESS", "3")]).await;
    for _ in 0..5 {
        server.pair("device").await;
    }
    let code = server.invite().await;
    for _ in 0..3 {
        server.redeem("AAAAA-AAAAA", "guesser").await.expect(401);
    }
    let refused = server.redeem(&code, "guesser").await;
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 1));
    assert_eq!(refused.expect(429)["code"], "rate_limited");
    assert_eq!(limited(&server, "redeem_failures").await, 1);
    let body = json!({ "code": code, "agent_name": "device" });
    server.api().from(ELSEWHERE).post("/api/pairing/pair", &body).await.expect(200);
}

#[tokio::test]
async fn code_guessing_from_many_addresses_is_stopped() {
    let settings = [("REDEEM_FAILURES_PER_ADDRESS", "3"), ("REDEEM_FAILURES_GLOBAL", "10")];
    let server = TestServer::start_with(&settings).await;
    let code = server.invite().await;
    let guess = async |host: u8, code: &str| {
        let api = server.api().from([127, 0, 1, host]);
        api.post("/api/pairing/pair", &json!({ "code": code, "agent_name": "x" })).await.status
    };
    let mut statuses = vec![];
    for host in 1..=12 {
        statuses.push(guess(host, "AAAAA-AAAAA").await);
    }
    assert_eq!(statuses, [vec![401; 10], vec![429; 2]].concat());
    assert_eq!(guess(99, &code).await, 429, "also for one who never guessed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_at_once_gets_no_more_tries_than_one_after_the_other() {
    let settings = [("REDEEM_FAILURES_PER_ADDRESS", "1000"), ("REDEEM_FAILURES_GLOBAL", "10")];
    let server = TestServer::start_with(&settings).await;
    let guess = |access: Access| async move { access.redeem("AAAAA-AAAAA", "guesser").await.status };
    let guesses: Vec<_> = (0..60).map(|_| tokio::spawn(guess(server.clone()))).collect();
    let mut tried = 0;
    for guess in guesses {
        tried += usize::from(guess.await.unwrap() == 401);
    }
    assert!(tried <= 11, "{tried} of 60 got an answer"); // one may have grown back in the meantime
}

#[tokio::test]
async fn waiting_devices_and_open_invites_are_bounded() {
    let settings = [("MAX_PENDING_PER_MESH", "2"), ("MAX_OPEN_INVITES_PER_MESH", "3")];
    let server = TestServer::start_with(&settings).await;
    let codes = [server.invite().await, server.invite().await, server.invite().await];
    server.admin().post("/api/pairing/generate-code", &json!({})).await.expect(429);
    let first = server.redeem(&codes[0], "one").await.expect(200);
    server.redeem(&codes[1], "two").await.expect(200);
    server.redeem(&codes[2], "three").await.expect(429);
    server.decide(first["id"].as_str().unwrap(), "reject").await.expect(200);
    server.redeem(&codes[2], "three").await.expect(200);
}

/// A peer whose socket takes little, and who does not read.
async fn join_deaf(server: &Access, peer: &str) -> MeshClient {
    let token = server.token(peer).await;
    let mut deaf = server.dial(&token).receive_buffer(4096).open(peer).await.unwrap();
    deaf.register().await;
    deaf
}

/// Sends numbered messages of one kind until one is not delivered; the answer to that one.
async fn send_until_refused(sender: &mut MeshClient, target: &str, kind: &str, bytes: usize) -> Value {
    let filler = "x".repeat(bytes);
    for n in 0..20_000 {
        sender.send(kind, Some(target), json!({ "n": n, "filler": filler })).await;
        if n % 32 == 0
            && let Some(refused) =
                sender.so_far().await.iter().find(|message| message["type"] == "undeliverable")
        {
            return refused.clone();
        }
    }
    panic!("everything was taken");
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_costs_only_itself() {
    let settings = [("MAX_MESSAGES_PER_SECOND", "0"), ("OUTBOX_BYTES", "200000"), ("WRITE_DEADLINE", "60s")];
    let server = TestServer::start_with(&settings).await;
    let mut sender = server.connect("sender").await;
    sender.register_with(&["feedback"]).await;
    let mut friend = server.join("friend").await;
    let mut deaf = join_deaf(&server, "deaf").await;
    let refused = send_until_refused(&mut sender, "deaf", "offer", 2_000).await;
    assert_eq!(refused["payload"]["reason"], "queue_full", "{refused}");
    eventually("it is closed", async || (closes(&server, 4413).await == 1).then_some(())).await;

    sender.so_far().await;
    sender.send_with_id("offer", "deaf", json!(1), "after").await;
    assert_eq!(sender.wait_for("undeliverable").await["payload"]["reason"], "unavailable");
    sender.send_with_id("offer", "friend", json!("unharmed"), "f").await;
    assert_eq!(friend.wait_for("offer").await["payload"], "unharmed");
    assert_eq!(sender.wait_for("delivered").await["payload"]["id"], "f");
    assert_eq!(friend.register().await, ["sender"]);
    assert!(server.metric(r#"heliograph_outbox_dropped_total{reason="slow_consumer"}"#).await >= 1);
    // What it had got before is whole, and in order.
    let mut next = 0;
    while let Ok(message) = deaf.next().await {
        assert_eq!(message["payload"]["n"], next);
        next += 1;
    }
}

#[tokio::test]
async fn large_messages_to_a_client_that_never_reads_end_the_same_way() {
    let settings = [("MAX_MESSAGES_PER_SECOND", "0"), ("OUTBOX_BYTES", "200000"), ("WRITE_DEADLINE", "60s")];
    let server = TestServer::start_with(&settings).await;
    let mut sender = server.connect("sender").await;
    sender.register_with(&["feedback"]).await;
    let _deaf = join_deaf(&server, "deaf").await;
    let refused = send_until_refused(&mut sender, "deaf", "offer", 60_000).await;
    assert_eq!(refused["payload"]["reason"], "queue_full", "{refused}");
    eventually("it is gone", async || {
        let sessions = server.metric(r#"heliograph_sessions{dialect="mesh"}"#).await;
        (sessions == 1).then_some(())
    })
    .await;
    assert_eq!(closes(&server, 4413).await, 1, "counted as what it was");
}

#[tokio::test]
async fn a_slow_client_loses_stale_candidates_first_and_keeps_its_socket() {
    let settings = [
        ("MAX_MESSAGES_PER_SECOND", "0"),
        ("OUTBOX_MESSAGES", "50"),
        ("WRITE_DEADLINE", "60s"),
        ("PING_INTERVAL", "60s"),
    ];
    let server = TestServer::start_with(&settings).await;
    let mut sender = server.connect("sender").await;
    sender.register_with(&["feedback"]).await;
    let mut slow = join_deaf(&server, "slow").await;
    let refused = send_until_refused(&mut sender, "slow", "ice_candidate", 3_000).await;
    assert_eq!(refused["payload"]["reason"], "queue_full", "{refused}");
    sender.send_with_id("offer", "slow", json!("the offer"), "offer").await;
    sender.send_with_id("answer", "slow", json!("the answer"), "answer").await;
    // Now it reads: the offer and the answer are there.
    let seen = slow.until("answer").await;
    assert_eq!(seen[seen.len() - 2]["payload"], "the offer");
    assert_eq!(closes(&server, 4413).await, 0);
    assert!(server.metric(r#"heliograph_outbox_dropped_total{reason="stale_candidate"}"#).await >= 1);
    slow.expect_silence().await;
}

#[tokio::test]
async fn a_write_that_stands_still_is_given_up() {
    let settings = [("MAX_MESSAGES_PER_SECOND", "0"), ("WRITE_DEADLINE", "300ms"), ("PING_INTERVAL", "60s")];
    let server = TestServer::start_with(&settings).await;
    let mut sender = server.join("sender").await;
    let _deaf = join_deaf(&server, "deaf").await;
    let payload = json!("x".repeat(3_000));
    eventually("it is closed", async || {
        for _ in 0..20 {
            sender.send("ice_candidate", Some("deaf"), payload.clone()).await;
        }
        (closes(&server, 4413).await == 1).then_some(())
    })
    .await;
    assert_eq!(sender.register().await, [""; 0]);
}

#[tokio::test]
async fn a_target_that_wakes_up_does_not_cost_its_sender_the_socket() {
    let settings = [("MAX_MESSAGES_PER_SECOND", "0"), ("OUTBOX_MESSAGES", "50"), ("WRITE_DEADLINE", "60s")];
    let server = TestServer::start_with(&settings).await;
    let mut sender = server.connect("sender").await;
    sender.register_with(&["feedback"]).await;
    let mut slow = join_deaf(&server, "slow").await;
    // More than fits into the kernel's buffers and may wait; each wants an answer.
    let filler = "x".repeat(3_000);
    let mut refused = false;
    for n in 0.. {
        sender.send_with_id("ice_candidate", "slow", json!(filler), &n.to_string()).await;
        let answers = if n % 8 == 0 { sender.so_far().await } else { vec![] };
        refused |= answers.iter().any(|answer| answer["type"] == "undeliverable");
        if refused && n % 8 == 0 {
            break;
        }
        assert!(n < 20_000, "everything was taken");
    }
    // It reads again, and all the answers come at once.
    sender.send_with_id("offer", "slow", json!("last"), "last").await;
    slow.wait_for("offer").await;
    while sender.wait_for("delivered").await["payload"]["id"] != "last" {}
    assert_eq!(closes(&server, 4413).await, 0);
}
