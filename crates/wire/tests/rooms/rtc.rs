//! Every frame of the rtc-signaller dialect as text: what is read from it, what is written, what the others get.

use bytes::Bytes;
use heliograph_core::limits::MAX_PROFILE_BYTES;
use heliograph_core::message::{ClientMessage, Directed, Enter, Envelope, ServerMessage, Undeliverable, Who};
use heliograph_wire::rtc::{decode, encode};
use heliograph_wire::{Dialect, Malformed};
use proptest::prelude::*;
use serde_json::Value;

use crate::table::{check_decode, encoded, joined, list, peer_id, receipt, relay};

const DIALECT: Dialect = Dialect::RtcSignaller;

#[test]
fn clients_are_read_and_what_they_say_is_relayed() {
    check_decode(DIALECT, include_str!("../golden/rtc.txt"));
}

#[test]
fn what_the_service_says_is_written_exactly() {
    let announce = r#"/announce|a|{"id":"a","room":"lobby"}"#;
    check_written(&list(&[]), r#"/roominfo|{"memberCount":1}"#);
    check_written(&list(&[("a", Some(announce)), ("b", None)]), r#"/roominfo|{"memberCount":3}"#);
    check_written(&joined("a", Some(Bytes::from_static(announce.as_bytes()))), announce);
    let leave = |peer| ServerMessage::PeerLeft { peer: peer_id(peer) };
    check_written(
        &leave("cmwq7ko9b0000zm7d9xbcjznl"),
        r#"/leave|cmwq7ko9b0000zm7d9xbcjznl|{"id":"cmwq7ko9b0000zm7d9xbcjznl"}"#,
    );
    check_written(&leave("Süd 1"), r#"/leave|Süd 1|{"id":"Süd 1"}"#);
}

/// Its clients would take any word for a command of another client.
#[test]
fn what_the_dialect_has_no_words_for_is_not_written() {
    for message in [
        receipt("b", None),
        receipt("b", Some(Undeliverable::Unavailable)),
        joined("a", None),
        ServerMessage::Error { code: "malformed", message: "not a command".to_owned() },
        ServerMessage::Approved,
        ServerMessage::Challenge { nonce: "x".into() },
        ServerMessage::PeerRevoked { peer: peer_id("receiver") },
        ServerMessage::PeerRevoked { peer: peer_id("another") },
        ServerMessage::IceServers(std::sync::Arc::default()),
        ServerMessage::GoAway { reconnect_after_ms: 1, deadline_ms: 2 },
    ] {
        check_written(&message, "");
    }
}

#[test]
fn an_announce_has_a_bound() {
    let announce = |length: usize| {
        let frame = r#"/announce|a|{"id":"a","room":"r","x":""}"#;
        Bytes::from(frame.replace(r#""""#, &format!("{:?}", "x".repeat(length - frame.len()))))
    };
    assert!(decode(&announce(MAX_PROFILE_BYTES)).is_ok());
    for length in [MAX_PROFILE_BYTES + 1, 1024 * 1024] {
        let refused = Malformed("an announce of more than 4096 bytes".to_owned());
        assert_eq!(decode(&announce(length)), Err(refused));
    }
}

#[test]
fn frames_are_relayed_without_a_copy() {
    for frame in [r#"/to|b|/sdp|a|{"sdp":"v=0"}"#, "/hello|a|x"] {
        let frame = Bytes::from_static(frame.as_bytes());
        let (ClientMessage::Directed(Directed { payload, .. }) | ClientMessage::Broadcast { payload, .. }) =
            decode(&frame).unwrap().message
        else {
            panic!("not relayed");
        };
        assert_eq!((payload.as_ptr(), payload.len()), (frame.as_ptr(), frame.len()));
    }
}

#[test]
fn the_dialect_is_this_module() {
    let frame = Bytes::from_static(b"/hello|a|x");
    assert_eq!(DIALECT.decode(&frame), decode(&frame));
    assert_eq!(DIALECT.as_str(), "rtc");
    let (message, mut out) = (list(&[]), vec![]);
    encode(&message, &peer_id("receiver"), &mut out);
    assert_eq!(encoded(DIALECT, &message).as_bytes(), out);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// As the clients build it: the id, then the attributes as JSON.
    #[test]
    fn whoever_announces_is_read(id in "[^|\"\\\\\\p{Cc}{]{1,20}", room in "\\PC{1,20}", nick in ".{0,20}", old in any::<bool>()) {
        let meta = if old { serde_json::json!({ "id": id }).to_string() } else { id.clone() };
        let attributes = serde_json::json!({ "agent": "x", "id": id, "room": room, "nick": nick });
        let frame = Bytes::from(format!("/announce|{meta}|{attributes}"));
        let enter = Enter { who: Who::Id(id.into()), room: Some(room.into()), profile: Some(frame.clone()), proves: false };
        prop_assert_eq!(decode(&frame), Ok(Envelope { sender: None, message: ClientMessage::Enter(enter) }));
    }

    /// Whatever the parts are, the target and the sender are found, and the frame goes on as it came.
    #[test]
    fn whatever_is_sent_goes_on_as_it_came(
        target in "[^|]{1,20}", command in "[a-z]{5,9}x", sender in "[^|\"{]{1,20}", parts in prop::collection::vec(".{0,10}", 0..4),
    ) {
        let parts = [vec![sender.clone()], parts].concat().join("|");
        for (frame, to) in [
            (format!("/{command}|{parts}"), None),
            (format!("/to|{target}|/{command}|{parts}"), Some(target)),
        ] {
            let bytes = Bytes::from(frame.clone());
            let envelope = decode(&bytes).unwrap();
            prop_assert_eq!(envelope.sender.as_deref(), Some(&*sender));
            if let ClientMessage::Directed(directed) = &envelope.message {
                prop_assert_eq!(directed.target.as_deref(), to.as_deref());
            }
            prop_assert_eq!(encoded(DIALECT, &relay(envelope.message).unwrap()), frame);
        }
    }

    /// A count and a leave are what the clients can read.
    #[test]
    fn what_the_service_says_is_a_command_with_json(peer in "[^|\"\\\\\\p{Cc}]{1,20}") {
        prop_assume!(heliograph_core::id::PeerId::parse(&peer).is_ok());
        let left = encoded(DIALECT, &ServerMessage::PeerLeft { peer: peer_id(&peer) });
        let (head, json) = left.rsplit_once('|').unwrap();
        prop_assert_eq!(head, format!("/leave|{peer}"));
        prop_assert_eq!(serde_json::from_str::<Value>(json).unwrap(), serde_json::json!({ "id": peer }));
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
    fn reading_never_panics_on_frames(
        frame in r#"/?(to|announce|leave|x|roominfo|TO)?(\|(/?(announce|leave|to|x)|a|"a"|"\\ud83d"|1|\{"id":("a"|1|null|"a\|b")(,"room":("r"|""|null|\[))?\}|\{|[\[\]{}:,"\\u0-9a-f \n|]{0,10})){0,5}"#,
    ) {
        check_read(frame.into_bytes())?;
    }
}

/// Whatever was read is relayed as it came or says who enters, and whatever was not is not quoted.
fn check_read(frame: Vec<u8>) -> Result<(), TestCaseError> {
    let frame = Bytes::from(frame);
    match decode(&frame) {
        Ok(Envelope { message: ClientMessage::Enter(enter), .. }) => {
            let (Who::Id(id), Some(room)) = (&enter.who, &enter.room) else { panic!("{enter:?}") };
            prop_assert!(!id.is_empty() && !id.contains('|') && !room.is_empty());
            prop_assert!(enter.profile == Some(frame.clone()) && frame.len() <= MAX_PROFILE_BYTES);
        }
        Ok(envelope) => {
            if let Some(message) = relay(envelope.message) {
                let written = encoded(DIALECT, &message);
                prop_assert_eq!(written.as_bytes(), &*frame);
            }
        }
        Err(malformed) => prop_assert!(malformed.to_string().len() < 100, "{malformed}"),
    }
    Ok(())
}

fn check_written(message: &ServerMessage, expect: &str) {
    assert_eq!(encoded(DIALECT, message), expect);
}
