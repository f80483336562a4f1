//! Every frame of the mesh dialect as text: what is read from it, and what is written.
//!
//! The tables are in `golden/`. An entry is `## name`, the frame (one line or more), and `=>` what it says:
//!
//! ```text
//! ## offer with an id
//! {"type":"offer","peer_id":"a","target_id":"b","id":"7","payload":{"sdp":"v=0"}}
//! => offer from "a" to "b" id "7" payload {"sdp":"v=0"}
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use heliograph_core::id::{Epoch, MeshName, PeerId};
use heliograph_core::message::{
    Capabilities, ClientMessage, Directed, Envelope, IceServer, Kind, Member, MeshHealth, Peer, Receipt,
    ResumeOffer, Resumed, ServerMessage, Signal, Undeliverable, Welcome,
};
use heliograph_wire::mesh::{REGISTRY, decode, encode};
use heliograph_wire::{Dialect, Malformed};

/// Stands in malformed frames where a careless error text would quote.
const MARKER: &str = "PLANTED";

#[test]
fn clients_of_the_original_are_read() {
    check_decode(include_str!("golden/original.txt"));
}

#[test]
fn additions_are_read() {
    check_decode(include_str!("golden/additions.txt"));
}

#[test]
fn payloads_come_out_as_they_went_in() {
    let table = include_str!("golden/payloads.txt");
    check_decode(table);
    for Entry { name, frame, expect } in entries(table) {
        let payload = expect.split_once(" payload ").unwrap().1;
        assert!(relayed(frame).contains(&format!("\"payload\":{payload}")), "{name}");
    }
}

#[test]
fn malformed_frames_are_explained_and_never_quoted() {
    let table = include_str!("golden/malformed.txt");
    check_decode(table);
    let mut planted = 0;
    for Entry { name, frame, expect } in entries(table) {
        assert!(expect.starts_with("malformed: ") && !expect.contains(MARKER), "{name}");
        planted += usize::from(frame.contains(MARKER));
    }
    assert!(planted > 40, "a marker in every frame that has room for one, not in {planted}");
}

#[test]
fn what_the_service_says_is_written_exactly() {
    let table = include_str!("golden/service.txt");
    let messages = service_messages();
    assert_eq!(
        entries(table).map(|e| e.name).collect::<Vec<_>>(),
        messages.iter().map(|m| m.0).collect::<Vec<_>>()
    );
    for (Entry { name, frame, .. }, (_, message)) in entries(table).zip(&messages) {
        assert_eq!(encoded(message), frame, "{name}");
    }
}

/// The original client goes by `type` alone, and ours by `peer_id`: neither can be had by a peer.
#[test]
fn no_peer_can_say_what_the_service_says() {
    let own = service_messages()
        .into_iter()
        .filter(|(_, message)| !matches!(message, ServerMessage::Signal { .. }));
    for (name, message) in own {
        let mut frame: serde_json::Value = serde_json::from_str(&encoded(&message)).unwrap();
        assert_eq!(frame["peer_id"], REGISTRY, "{name}");
        frame["peer_id"] = "mallory".into();
        frame["target_id"] = "agent-one".into();
        let frame = Bytes::from(frame.to_string());
        let refused = Malformed("`type` is one that only the service sends".to_owned());
        assert_eq!(decode(&frame), Err(refused), "{name}");
    }
    assert!(PeerId::parse(REGISTRY).is_err());
}

/// What a plain frame holds is borrowed from it, and a payload shares its memory.
#[test]
fn reading_copies_nothing_but_escapes() {
    let frame =
        Bytes::from_static(br#"{"type":"offer","peer_id":"a","target_id":"b","id":"1","payload":{}}"#);
    let Envelope { sender, message: ClientMessage::Directed(Directed { target, id, payload, .. }) } =
        decode(&frame).unwrap()
    else {
        panic!("not directed");
    };
    for text in [sender.unwrap(), target.unwrap(), id.unwrap()] {
        assert!(matches!(text, std::borrow::Cow::Borrowed(_)), "{text} is a copy");
    }
    assert!(frame.as_ptr_range().contains(&payload.as_ptr()));
}

/// A regression: the answer was built from a parsed value, and a text under a private key of serde_json, parsed
/// afresh and so with a depth of its own, within another and so on, took the whole stack and the process with it.
#[test]
fn a_ping_cannot_make_the_service_recurse() {
    let mut payload = "1".to_owned();
    for _ in 0..60 {
        let deep = format!("{}{payload}{}", "[".repeat(126), "]".repeat(126));
        let text = deep.replace('\\', r"\u005c").replace('"', r"\u0022");
        payload = format!(r#"{{"$serde_json::private::RawValue":"{text}"}}"#);
    }
    let frame = Bytes::from(format!(r#"{{"type":"ping","peer_id":"a","payload":{payload}}}"#));
    assert!(frame.len() < 64 * 1024, "small enough to be accepted");
    let Ok(Envelope { message: ClientMessage::Ping { payload }, .. }) = decode(&frame) else {
        panic!("not a ping");
    };
    let inside = String::from_utf8(payload.slice(1..payload.len() - 1).to_vec()).unwrap();
    let pong = encoded(&ServerMessage::Pong { payload, unix_ms: 1 });
    assert_eq!(
        pong,
        format!(r#"{{"type":"pong","peer_id":"registry","payload":{{"timestamp":1,{inside}}}}}"#)
    );
}

#[test]
fn the_dialect_is_this_module() {
    let frame = Bytes::from_static(br#"{"type":"heartbeat","peer_id":"a"}"#);
    assert_eq!(Dialect::Mesh.decode(&frame), decode(&frame));
    assert_eq!(Dialect::ALL.map(Dialect::as_str), ["mesh", "rendezvous", "rtc"]);
    let mut out = vec![];
    Dialect::Mesh.encode(&ServerMessage::Approved, &peer_id("a"), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), encoded(&ServerMessage::Approved));
}

fn check_decode(table: &str) {
    let mut seen = 0;
    for Entry { name, frame, expect } in entries(table) {
        let result = decode(&Bytes::from(frame.to_owned())).map(|envelope| summary(&envelope));
        let shown = result.unwrap_or_else(|malformed| format!("malformed: {malformed}"));
        assert_eq!(shown, expect, "{name}");
        seen += 1;
    }
    assert!(seen > 10, "the table is read");
}

struct Entry<'a> {
    name: &'a str,
    frame: &'a str,
    expect: &'a str,
}

fn entries(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.split("\n## ").skip(1).map(|entry| {
        let (name, rest) = entry.split_once('\n').unwrap();
        let (frame, expect) = rest.split_once("\n=> ").unwrap_or((rest.trim_end(), ""));
        Entry { name, frame, expect: expect.trim_end() }
    })
}

fn summary(envelope: &Envelope<'_>) -> String {
    let sender = envelope.sender.as_deref().unwrap_or_default();
    match &envelope.message {
        ClientMessage::Authenticate { token } => format!("authenticate with {token:?}"),
        ClientMessage::Resume { token, received: None } => format!("resume from {sender:?} with {token:?}"),
        ClientMessage::Resume { token, received: Some(received) } => {
            format!("resume from {sender:?} with {token:?} after {received}")
        }
        ClientMessage::Register(None) => format!("register from {sender:?}, original client"),
        ClientMessage::Register(Some(asked)) if *asked == Capabilities::NONE => {
            format!("register from {sender:?} with nothing")
        }
        ClientMessage::Register(Some(asked)) => {
            format!("register from {sender:?} with {}", asked.names().collect::<Vec<_>>().join(", "))
        }
        ClientMessage::Directed(directed) => directed_summary(sender, directed),
        ClientMessage::Ping { payload } => format!("ping from {sender:?} payload {}", utf8(payload)),
        ClientMessage::MeshHealth => format!("mesh_health from {sender:?}"),
        ClientMessage::Heartbeat => format!("heartbeat from {sender:?}"),
        ClientMessage::Unknown { kind } => format!("unknown {kind:?} from {sender:?}"),
        other => panic!("{other:?} is not in this dialect"),
    }
}

fn directed_summary(sender: &str, directed: &Directed<'_>) -> String {
    let mut shown = match &directed.kind {
        Kind::Offer => "offer".to_owned(),
        Kind::Answer => "answer".to_owned(),
        Kind::Candidate => "candidate".to_owned(),
        Kind::Application(name) => format!("application {name:?}"),
    };
    write!(shown, " from {sender:?}").unwrap();
    if let Some(target) = &directed.target {
        write!(shown, " to {target:?}").unwrap();
    }
    if let Some(id) = &directed.id {
        write!(shown, " id {id:?}").unwrap();
    }
    write!(shown, " payload {}", utf8(&directed.payload)).unwrap();
    shown
}

/// What the target of `frame` gets.
fn relayed(frame: &str) -> String {
    let frame = Bytes::from(frame.to_owned());
    let Envelope { sender, message: ClientMessage::Directed(directed) } = decode(&frame).unwrap() else {
        panic!("not directed");
    };
    encoded(&signal(directed.kind, &sender.unwrap(), directed.id.as_deref(), directed.payload))
}

fn encoded(message: &ServerMessage) -> String {
    let mut out = vec![];
    encode(message, &peer_id("agent-one"), &mut out);
    String::from_utf8(out).unwrap()
}

fn utf8(payload: &Bytes) -> &str {
    std::str::from_utf8(payload).unwrap()
}

fn peer_id(text: &str) -> PeerId {
    PeerId::parse(text).unwrap()
}

fn signal(kind: Kind, from: &str, id: Option<&str>, payload: impl Into<Bytes>) -> ServerMessage {
    let signal = Signal {
        from: Arc::new(Peer::new(MeshName::default_mesh(), peer_id(from))),
        from_epoch: Epoch(1),
        kind,
        id: id.map(Box::from),
        payload: payload.into(),
        receipt: id.is_some(),
        to_all: false,
        accepted_at: Instant::now(),
        via_bus: false,
        trace: None,
    };
    ServerMessage::Signal { signal, seq: None }
}

/// The same as it is written to a client that may resume.
fn numbered(message: ServerMessage, number: u64) -> ServerMessage {
    match message {
        ServerMessage::Signal { signal, .. } => ServerMessage::Signal { signal, seq: Some(number) },
        ServerMessage::Receipt { receipt, .. } => ServerMessage::Receipt { receipt, seq: Some(number) },
        other => panic!("has no number: {other:?}"),
    }
}

fn receipt(id: Option<&str>, target: &str, failure: Option<Undeliverable>) -> ServerMessage {
    let receipt = Receipt { id: id.map(Box::from), target: Box::from(target), failure };
    ServerMessage::Receipt { receipt, seq: None }
}

fn list(peers: &[(&str, u64)], welcome: Option<Welcome>) -> ServerMessage {
    let peers = peers.iter().map(|&(name, place)| Member::new(peer_id(name), place)).collect();
    ServerMessage::PeerList { peers, welcome: welcome.map(Box::new) }
}

fn welcome(granted: Capabilities) -> Welcome {
    let servers = granted.has(Capabilities::ICE).then(|| Arc::new(ice_servers()));
    let offer = || ResumeOffer { token: "rs_node-1.c2VjcmV0".into(), window_ms: 60_000 };
    let resume = granted.has(Capabilities::RESUME).then(offer);
    Welcome { granted, epoch: Epoch(7), place: 2, ice_servers: servers, resume }
}

fn ice_servers() -> Vec<IceServer> {
    let turn = ["turn:turn.example:3478?transport=udp", "turns:turn.example:5349"];
    vec![
        IceServer { urls: vec!["stun:stun.example:3478".to_owned()], username: None, credential: None },
        IceServer {
            urls: turn.map(str::to_owned).to_vec(),
            username: Some("1790000000:agent-one".to_owned()),
            credential: Some("q83v/+=".to_owned()),
        },
    ]
}

fn health(authorization_current: bool) -> ServerMessage {
    ServerMessage::MeshHealth(MeshHealth {
        peers_online: 12,
        gateways: 3,
        version: 41,
        authorization_current,
    })
}

fn pong(payload: &'static str) -> ServerMessage {
    ServerMessage::Pong { payload: Bytes::from_static(payload.as_bytes()), unix_ms: 1_790_000_000_123 }
}

/// In the order of `golden/service.txt`.
fn service_messages() -> Vec<(&'static str, ServerMessage)> {
    use heliograph_core::message::Role::{Impolite, Polite};
    let peers = [("agent-two", 1), ("Wohnzimmer Süd", 3)];
    let (left, revoked) = (peer_id("agent-two"), peer_id("agent-two"));
    let all_reasons = [
        ("undeliverable: unavailable", Undeliverable::Unavailable),
        ("undeliverable: bus_unavailable", Undeliverable::BusUnavailable),
        ("undeliverable: authorization_unavailable", Undeliverable::AuthorizationUnavailable),
        ("undeliverable: queue_full", Undeliverable::QueueFull),
        ("undeliverable: rate_limited", Undeliverable::RateLimited),
        ("undeliverable: too_large", Undeliverable::TooLarge),
        ("undeliverable: malformed", Undeliverable::Malformed),
        ("undeliverable: expired", Undeliverable::Expired),
    ];
    let reasons = all_reasons.map(|(name, reason)| (name, receipt(Some("7"), "agent-two", Some(reason))));
    // What was offered before still stands.
    let moved = Welcome { resume: None, ..welcome(Capabilities::RESUME) };
    let offer = || signal(Kind::Offer, "agent-two", None, r#"{"sdp":"v=0\r\n"}"#);
    let refused = receipt(Some("7"), "agent-two", Some(Undeliverable::Expired));
    let mut messages = vec![
        ("list of nobody", list(&[], None)),
        ("list for a client of the original", list(&peers, None)),
        ("list for a client that may do nothing more", list(&peers, Some(welcome(Capabilities::NONE)))),
        ("list with roles", list(&peers, Some(welcome(Capabilities::ROLES)))),
        ("list with ICE servers", list(&[], Some(welcome(Capabilities::ICE)))),
        ("list with a way to resume", list(&[], Some(welcome(Capabilities::RESUME)))),
        ("list of a session that was moved", list(&peers, Some(moved))),
        ("list with all there is", list(&peers, Some(welcome(Capabilities::OFFERED)))),
        ("offer", offer()),
        ("offer with a number", numbered(offer(), 12)),
        ("answer", signal(Kind::Answer, "agent-two", None, r#"{"sdp":"v=0\r\n"}"#)),
        (
            "candidate",
            signal(Kind::Candidate, "agent-two", None, r#"{"candidate":"candidate:1","sdpMid":""}"#),
        ),
        ("offer with an id", signal(Kind::Offer, "agent-two", Some("7"), "null")),
        (
            "offer with an id and a number",
            numbered(signal(Kind::Offer, "agent-two", Some("7"), "null"), u64::MAX),
        ),
        ("application message", signal(Kind::Application("chat.line".into()), "agent-two", None, "[1, 2]")),
        ("type and id with quotes", signal(Kind::Application("\"\\\n".into()), "a", Some("\"\u{1}"), "0")),
        ("peer_joined", ServerMessage::PeerJoined { peer: peer_id("agent-two"), role: None, profile: None }),
        (
            "peer_joined, to yield",
            ServerMessage::PeerJoined { peer: peer_id("agent-two"), role: Some(Polite), profile: None },
        ),
        (
            "peer_joined, to insist",
            ServerMessage::PeerJoined { peer: peer_id("agent-two"), role: Some(Impolite), profile: None },
        ),
        ("peer_left", ServerMessage::PeerLeft { peer: left }),
        ("peer_revoked", ServerMessage::PeerRevoked { peer: revoked }),
        ("approved", ServerMessage::Approved),
        ("delivered", receipt(Some("7"), "agent-two", None)),
        ("delivered with a number", numbered(receipt(Some("7"), "agent-two", None), 13)),
        ("undeliverable with a number", numbered(refused, 14)),
        ("undeliverable without an id", receipt(None, "agent-two", Some(Undeliverable::Unavailable))),
        (
            "undeliverable to whatever the sender wrote",
            receipt(None, "\"\n", Some(Undeliverable::Unavailable)),
        ),
    ];
    messages.extend(reasons);
    messages.extend([
        (
            "resumed",
            ServerMessage::Resumed(Resumed::Recovered {
                recovered: 5,
                lost: 2,
                resume: ResumeOffer { token: "rs_node-1.V2hhdC".into(), window_ms: 60_000 },
            }),
        ),
        ("resumed, nothing is left", ServerMessage::Resumed(Resumed::Fresh)),
        ("ice_servers", ServerMessage::IceServers(Arc::new(ice_servers()))),
        ("pong", pong("null")),
        ("pong with what was sent", pong(r#"{"n":1,"at":123456789012345678901234567890}"#)),
        ("pong with a time of the client's own", pong(r#"{"timestamp":"mine","n":1}"#)),
        ("pong to a payload that is no object", pong("[1, 2]")),
        ("mesh_health", health(true)),
        ("mesh_health without a lease", health(false)),
        ("goaway", ServerMessage::GoAway { reconnect_after_ms: 500, deadline_ms: 10_000 }),
        ("error", ServerMessage::Error { code: "unknown_type", message: "what \"x\" is".to_owned() }),
    ]);
    messages
}
