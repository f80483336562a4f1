//! What holds for every frame, however strange.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use heliograph_core::id::{Epoch, MeshName, PeerId};
use heliograph_core::limits;
use heliograph_core::message::{
    Capabilities, ClientMessage, Directed, Envelope, IceServer, Kind, Member, MeshHealth, Peer, Receipt,
    ResumeOffer, Resumed, Role, ServerMessage, Signal, Undeliverable, Welcome,
};
use heliograph_wire::mesh::{MAX_RESUME_TOKEN_BYTES, decode, encode};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

const MARKER: &str = "PLANTED";

const VALID: [&str; 8] = [
    r#"{"type":"register","peer_id":"a","payload":{"version":1,"capabilities":["events","feedback"]}}"#,
    r#"{"type":"offer","peer_id":"a","target_id":"b","id":"7","payload":{"sdp":"PLANTED","n":[1,{"x":null}]}}"#,
    r#"{"type":"ice_candidate","peer_id":"S\u00fcd","target_id":"b","payload":{"candidate":"PLANTED"}}"#,
    r#"{"type":"chat","peer_id":"a","target_id":"b","payload":[[["PLANTED"]]]}"#,
    r#"{"type":"ping","peer_id":"a","payload":{"at":1.5e3,"who":"PLANTED"}}"#,
    r#"{"type":"resume","peer_id":"a","payload":{"resume_token":"PLANTED","received":12}}"#,
    r#"{"type":"authenticate","payload":{"token":"PLANTED"}}"#,
    r#"{"type":"heartbeat","peer_id":"a","target_id":null}"#,
];

#[derive(serde::Deserialize)]
struct Original<'a> {
    r#type: String,
    peer_id: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_to_a_target_reads_back_as_what_was_sent(
        from in peer_id(), to in peer_id(), kind in kind(), id in prop::option::of(message_id()),
        seq in any::<Option<u64>>(), payload in json(),
    ) {
        let message = signal(&from, kind.clone(), id.as_deref(), seq, &payload);
        let frame = Bytes::from(encoded(&message, &to));
        let expect = Envelope {
            sender: Some(Cow::Borrowed(from.as_str())),
            message: ClientMessage::Directed(Directed {
                kind,
                target: Some(Cow::Borrowed(to.as_str())),
                id: id.map(Cow::Owned),
                payload: Bytes::from(payload),
            }),
        };
        prop_assert_eq!(decode(&frame), Ok(expect));
    }

    /// A number is a member of the envelope like `id`, whatever stands before it.
    #[test]
    fn numbers_are_read_where_they_are_written(
        from in peer_id(), id in prop::option::of(message_id()), seq in any::<Option<u64>>(), payload in json(),
        failure in prop::option::of(reason()),
    ) {
        #[derive(serde::Deserialize)]
        struct Numbered { seq: Option<u64> }
        let to = PeerId::parse("to").unwrap();
        let receipt = Receipt { id: id.as_deref().map(Box::from), target: from.as_str().into(), failure };
        let relayed = signal(&from, Kind::Offer, id.as_deref(), seq, &payload);
        for message in [relayed, ServerMessage::Receipt { receipt, seq }] {
            let frame = encoded(&message, &to);
            prop_assert_eq!(serde_json::from_str::<Numbered>(&frame).unwrap().seq, seq, "{}", frame);
        }
    }

    #[test]
    fn what_a_client_shows_to_resume_is_read(
        from in peer_id(), token in "\\PC{1,40}|[\\x00-\\x7f]{1,256}", received in any::<Option<u64>>(),
    ) {
        let payload = serde_json::json!({ "resume_token": token, "received": received });
        let frame = serde_json::json!({ "type": "resume", "peer_id": from.as_str(), "payload": payload });
        let frame = Bytes::from(frame.to_string());
        let message = ClientMessage::Resume { token: Cow::Owned(token), received };
        let expect = Envelope { sender: Some(Cow::Borrowed(from.as_str())), message };
        prop_assert_eq!(decode(&frame), Ok(expect));
    }

    /// What the original client asks of a frame: JSON with a `type` and a `peer_id`, both texts.
    #[test]
    fn every_written_frame_is_an_envelope(message in server_message(), to in peer_id()) {
        let frame = encoded(&message, &to);
        let read: Original<'_> = serde_json::from_str(&frame).unwrap();
        prop_assert!(!read.peer_id.is_empty() && !read.payload.get().is_empty(), "{} in {frame}", read.r#type);
    }
}

proptest! {
    // Fuzzing without a fuzzer: each case is some microseconds.
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn reading_never_panics_on_bytes(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        check_read(frame)?;
    }

    #[test]
    fn reading_never_panics_on_text(frame in r#"[\[\]{}:,"\\u0-9a-f \n.eE+-]{0,60}|.{0,60}"#) {
        check_read(frame.into_bytes())?;
    }

    #[test]
    fn reading_never_panics_on_damaged_frames(
        frame in select(&VALID[..]), damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut frame = frame.as_bytes().to_vec();
        for damage in damages {
            damage.apply(&mut frame);
        }
        check_read(frame)?;
    }
}

/// Whatever was read keeps its promises, and whatever was not is not quoted.
fn check_read(frame: Vec<u8>) -> Result<(), TestCaseError> {
    let frame = Bytes::from(frame);
    let envelope = match decode(&frame) {
        Ok(envelope) => envelope,
        Err(malformed) => {
            let text = malformed.to_string();
            prop_assert!(!text.is_empty() && text.len() < 150 && !text.contains(MARKER), "{text}");
            return Ok(());
        }
    };
    match envelope.message {
        ClientMessage::Directed(directed) => check_directed(&directed)?,
        ClientMessage::Ping { payload } => {
            prop_assert!(serde_json::from_slice::<&RawValue>(&payload).is_ok());
            let pong = encoded(&ServerMessage::Pong { payload, unix_ms: 1 }, &PeerId::parse("a").unwrap());
            prop_assert!(serde_json::from_str::<&RawValue>(&pong).is_ok(), "{pong}");
        }
        ClientMessage::Resume { token, .. } => {
            prop_assert!((1..=MAX_RESUME_TOKEN_BYTES).contains(&token.len()));
        }
        ClientMessage::Unknown { kind } => prop_assert!(kind.len() <= limits::MAX_KIND_BYTES),
        _ => {}
    }
    Ok(())
}

fn check_directed(directed: &Directed<'_>) -> Result<(), TestCaseError> {
    prop_assert!(serde_json::from_slice::<&RawValue>(&directed.payload).is_ok());
    if let Some(id) = &directed.id {
        prop_assert!((1..=limits::MAX_MESSAGE_ID_BYTES).contains(&id.len()));
    }
    if let Kind::Application(name) = &directed.kind {
        prop_assert!(name.len() <= limits::MAX_KIND_BYTES && directed.target.is_some());
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Remove(Index),
    Replace(Index, u8),
    Insert(Index, &'static str),
    Repeat(Index, Index),
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        let len = frame.len();
        match self {
            Self::Cut(at) => frame.truncate(at.index(len)),
            Self::Remove(at) => {
                frame.remove(at.index(len));
            }
            Self::Replace(at, byte) => frame[at.index(len)] = *byte,
            Self::Insert(at, text) => {
                let at = at.index(len);
                frame.splice(at..at, text.bytes());
            }
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                let part = frame[from.min(to)..from.max(to)].to_vec();
                frame.splice(to..to, part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let pieces = [
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "0",
        "\\u0000",
        "\\ud83d",
        "\u{feff}",
        "\u{2028}",
        r#""type":"offer","#,
        r#""peer_id":"a","#,
        r#""target_id":"b","#,
        r#""id":"","#,
        r#""payload":{},"#,
        "[[[[[[[[",
    ];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        any::<Index>().prop_map(Damage::Remove),
        any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), select(pieces.to_vec())).prop_map(|(at, text)| Damage::Insert(at, text)),
        any::<(Index, Index)>().prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn peer_id() -> impl Strategy<Value = PeerId> {
    "[^\"\\\\\\p{Cc}]{1,20}".prop_filter_map("not a name", |text| PeerId::parse(&text).ok())
}

fn message_id() -> impl Strategy<Value = String> {
    "\\PC{1,16}|[\\x00-\\x7f]{1,64}"
}

fn kind() -> impl Strategy<Value = Kind> {
    let application = "app:.{0,12}|ping".prop_map(|name| Kind::Application(name.into()));
    prop_oneof![Just(Kind::Offer), Just(Kind::Answer), Just(Kind::Candidate), application]
}

/// JSON texts as nobody's serializer writes them: odd spaces, escapes, repeated members, numbers beyond floats.
fn json() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        ".{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        r#""(\\u[0-9a-fA-F]{4}|\\[nrt/"\\bf]|[a-z{}\[\]])*""#,
    ];
    let number = r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?";
    let leaf =
        prop_oneof![select(vec!["null", "true", "false"]).prop_map(str::to_owned), text.clone(), number];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let member = (text.clone(), "[ \t\n]{0,2}", inner.clone())
            .prop_map(|(name, gap, value)| format!("{name}{gap}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{} ]", items.join(" ,"))),
            prop::collection::vec(member, 0..5).prop_map(|members| format!("{{ {}}}", members.join(","))),
        ]
    })
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let receipt =
        (prop::option::of(message_id()), ".{0,20}", prop::option::of(reason()), any::<Option<u64>>())
            .prop_map(|(id, target, failure, seq)| {
                let receipt = Receipt { id: id.map(Into::into), target: target.into(), failure };
                ServerMessage::Receipt { receipt, seq }
            });
    let resumed = prop::option::of((any::<u64>(), any::<u64>(), resume_offer())).prop_map(|counts| {
        let recovered = |(recovered, lost, resume)| Resumed::Recovered { recovered, lost, resume };
        ServerMessage::Resumed(counts.map_or(Resumed::Fresh, recovered))
    });
    let health = any::<(u64, u64, u64, bool)>().prop_map(
        |(peers_online, gateways, version, authorization_current)| {
            ServerMessage::MeshHealth(MeshHealth { peers_online, gateways, version, authorization_current })
        },
    );
    prop_oneof![
        (prop::collection::vec((peer_id(), any::<u64>()), 0..6), prop::option::of(welcome())).prop_map(
            |(peers, welcome)| {
                let peers = peers.into_iter().map(|(peer, place)| Member::new(peer, place)).collect();
                ServerMessage::PeerList { peers, welcome: welcome.map(Box::new) }
            }
        ),
        (peer_id(), kind(), prop::option::of(message_id()), any::<Option<u64>>(), json())
            .prop_map(|(from, kind, id, seq, payload)| signal(&from, kind, id.as_deref(), seq, &payload)),
        (peer_id(), prop::option::of(select(vec![Role::Polite, Role::Impolite])))
            .prop_map(|(peer, role)| ServerMessage::PeerJoined { peer, role, profile: None }),
        peer_id().prop_map(|peer| ServerMessage::PeerLeft { peer }),
        peer_id().prop_map(|peer| ServerMessage::PeerRevoked { peer }),
        Just(ServerMessage::Approved),
        receipt,
        resumed,
        ice_servers().prop_map(|servers| ServerMessage::IceServers(Arc::new(servers))),
        (json(), any::<u64>())
            .prop_map(|(payload, unix_ms)| ServerMessage::Pong { payload: Bytes::from(payload), unix_ms }),
        health,
        any::<(u64, u64)>().prop_map(|(reconnect_after_ms, deadline_ms)| ServerMessage::GoAway {
            reconnect_after_ms,
            deadline_ms
        }),
        ".{0,40}".prop_map(|message| ServerMessage::Error { code: "malformed", message }),
    ]
}

fn reason() -> impl Strategy<Value = Undeliverable> {
    select(vec![Undeliverable::Unavailable, Undeliverable::QueueFull, Undeliverable::Expired])
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let granted = prop::collection::vec(
        select(vec![Capabilities::EVENTS, Capabilities::ROLES, Capabilities::ICE, Capabilities::OFFERED]),
        0..3,
    );
    let resume = prop::option::of(resume_offer());
    (granted, any::<u64>(), any::<u64>(), prop::option::of(ice_servers()), resume).prop_map(
        |(granted, epoch, place, servers, resume)| Welcome {
            granted: granted.into_iter().fold(Capabilities::NONE, Capabilities::with),
            epoch: Epoch(epoch),
            place,
            ice_servers: servers.map(Arc::new),
            resume,
        },
    )
}

fn resume_offer() -> impl Strategy<Value = ResumeOffer> {
    (".{0,40}", any::<u64>()).prop_map(|(token, window_ms)| ResumeOffer { token: token.into(), window_ms })
}

fn ice_servers() -> impl Strategy<Value = Vec<IceServer>> {
    let server =
        (prop::collection::vec(".{0,20}", 0..3), prop::option::of(".{0,20}"), prop::option::of(".{0,20}"));
    prop::collection::vec(
        server.prop_map(|(urls, username, credential)| IceServer { urls, username, credential }),
        0..3,
    )
}

fn signal(from: &PeerId, kind: Kind, id: Option<&str>, seq: Option<u64>, payload: &str) -> ServerMessage {
    let signal = Signal {
        from: Arc::new(Peer::new(MeshName::default_mesh(), from.clone())),
        from_epoch: Epoch(1),
        kind,
        id: id.map(Box::from),
        payload: Bytes::from(payload.to_owned()),
        receipt: false,
        to_all: false,
        accepted_at: Instant::now(),
        via_bus: false,
        trace: None,
    };
    ServerMessage::Signal { signal, seq }
}

fn encoded(message: &ServerMessage, to: &PeerId) -> String {
    let mut out = vec![];
    encode(message, to, &mut out);
    String::from_utf8(out).unwrap()
}
