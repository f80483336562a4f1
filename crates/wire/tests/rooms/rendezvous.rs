//! Every frame of the rendezvous dialect as text: what is read from it, what is written, what the others get.

use std::collections::BTreeMap;

use crate::table::{
    self, check_decode, check_encode, encoded, joined, list, peer_id, receipt, relay, signal,
};
use bytes::Bytes;
use heliograph_core::message::{ClientMessage, Directed, Kind, ServerMessage, Undeliverable};
use heliograph_wire::Dialect;
use heliograph_wire::rendezvous::{decode, encode};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

const DIALECT: Dialect = Dialect::Rendezvous;

#[test]
fn clients_are_read_and_what_they_say_is_relayed() {
    check_decode(DIALECT, include_str!("../golden/rendezvous.txt"));
}

#[test]
fn what_the_service_says_is_written_exactly() {
    check_encode(DIALECT, include_str!("../golden/rendezvous_service.txt"), &service_messages());
}

#[test]
fn what_the_dialect_has_no_words_for_is_not_written() {
    for message in [
        receipt("b", None),
        ServerMessage::Approved,
        ServerMessage::PeerRevoked { peer: peer_id("another") },
        ServerMessage::IceServers(std::sync::Arc::default()),
        ServerMessage::GoAway { reconnect_after_ms: 1, deadline_ms: 2 },
    ] {
        assert_eq!(encoded(DIALECT, &message), "");
    }
}

#[test]
fn a_plain_message_is_not_copied() {
    let frame = Bytes::from_static(br#"{"type":"offer","to":"b","sdp":{"sdp":"v=0"},"more":1}"#);
    let ClientMessage::Directed(Directed { target, payload, .. }) = decode(&frame).unwrap().message else {
        panic!("not directed");
    };
    assert!(matches!(target.unwrap(), std::borrow::Cow::Borrowed(_)));
    assert!(frame.as_ptr_range().contains(&payload.as_ptr()));
}

/// In the order of `golden/rendezvous_service.txt`.
fn service_messages() -> Vec<(&'static str, ServerMessage)> {
    let unproven = Bytes::from_static(br#"{"publicKey":{"kty":"OKP"}}"#);
    let proven = Bytes::from_static(br#"{"publicKey":{"kty":"OKP"},"proven":true}"#);
    let peers = [
        ("peer-fingerprint", Some(r#"{"publicKey":{"kty":"OKP"}}"#)),
        ("another", Some(r#"{"publicKey":{"kty":"EC"},"proven":true}"#)),
        ("Süd", None),
    ];
    let failures = [
        ("bus_unavailable", Undeliverable::BusUnavailable),
        ("authorization_unavailable", Undeliverable::AuthorizationUnavailable),
        ("queue_full", Undeliverable::QueueFull),
        ("rate_limited", Undeliverable::RateLimited),
        ("too_large", Undeliverable::TooLarge),
        ("malformed", Undeliverable::Malformed),
        ("expired", Undeliverable::Expired),
    ];
    let mut messages = vec![
        ("welcome to an empty room", list(&[])),
        ("welcome", list(&peers)),
        ("peer-joined", joined("new-peer-fingerprint", Some(unproven))),
        ("peer-joined, proven", joined("new-peer-fingerprint", Some(proven))),
        ("peer-joined, without a key", joined("new-peer-fingerprint", None)),
        ("peer-left", ServerMessage::PeerLeft { peer: peer_id("departed-peer-fingerprint") }),
        ("offer", signal(Kind::Offer, Bytes::from_static(br#""sdp":{"type":"offer","sdp":"v=0"}"#), false)),
        ("message of nothing but its type", signal(Kind::Offer, Bytes::new(), false)),
        ("challenge", ServerMessage::Challenge { nonce: "bm9uY2U".into() }),
        ("error", ServerMessage::Error { code: "malformed", message: "Error \"description\"".to_owned() }),
        ("revoked oneself", ServerMessage::PeerRevoked { peer: peer_id("receiver") }),
        ("unavailable", receipt("peer-fingerprint", Some(Undeliverable::Unavailable))),
        ("to whatever the sender wrote", receipt("\"\n", Some(Undeliverable::Unavailable))),
    ];
    messages.extend(failures.map(|(name, reason)| (name, receipt("b", Some(reason)))));
    messages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever else a client says, the target gets it, and the sender is who the service says.
    #[test]
    fn what_is_relayed_is_what_was_sent(
        more in prop::collection::btree_map("[a-z]{1,3}|\\PC{1,6}", json(), 0..5), sdp in json(), at in 0..6_usize,
    ) {
        let mut members: Vec<(String, Value)> = more.into_iter().collect();
        members.retain(|(name, _)| !["type", "to", "from", "sdp", "alg", "proof"].contains(&name.as_str()));
        let kept = members.clone();
        for (name, value) in [("sdp", sdp.clone()), ("to", "b".into()), ("type", "answer".into()), ("from", "x".into())] {
            members.insert(at.min(members.len()), (name.to_owned(), value));
        }
        let text = |(name, value): &(String, Value)| format!("{}: {value}", Value::from(name.as_str()));
        let frame = format!("{{ {} }}", members.iter().map(text).collect::<Vec<_>>().join(" ,"));
        let written = encoded(DIALECT, &relay(decode(&Bytes::from(frame)).unwrap().message).unwrap());
        let read: Value = serde_json::from_str(&written).unwrap();
        let mut expect: serde_json::Map<String, Value> = kept.into_iter().collect();
        expect.extend([("type".to_owned(), "answer".into()), ("from".to_owned(), table::SENDER.into()), ("sdp".to_owned(), sdp)]);
        prop_assert_eq!(read, Value::Object(expect), "{}", written);
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
        frame in r#"\{("(type|to|from|sdp|candidate|publicKey|proof|alg|t\\u006f|x)" ?: ?("offer"|"register"|"proof"|"b"|\{"kty":1\}|[0-9]|null|true|"\\ud83d"|\[\{) ?,?){0,6}\}?|[\[\]{}:,"\\u0-9a-f \n.eE+-]{0,60}"#,
    ) {
        check_read(frame.into_bytes())?;
    }
}

/// Whatever was read can be relayed, as JSON that says who sent it, and whatever was not is not quoted.
fn check_read(frame: Vec<u8>) -> Result<(), TestCaseError> {
    let frame = Bytes::from(frame);
    match decode(&frame) {
        Ok(envelope) => {
            prop_assert!(envelope.sender.is_none());
            if let Some(message) = relay(envelope.message) {
                let written = encoded(DIALECT, &message);
                let read: BTreeMap<String, &RawValue> = serde_json::from_str(&written).unwrap();
                prop_assert_eq!(read["from"].get(), "\"me\"", "{}", written);
            }
        }
        Err(malformed) => {
            let text = malformed.to_string();
            prop_assert!(!text.is_empty() && text.len() < 100, "{text}");
        }
    }
    Ok(())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}|[\\x00-\\x7f]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn the_dialect_is_this_module() {
    let frame = Bytes::from_static(br#"{"type":"offer","to":"b","sdp":1}"#);
    assert_eq!(DIALECT.decode(&frame), decode(&frame));
    assert_eq!(DIALECT.as_str(), "rendezvous");
    let (message, mut out) = (joined("a", None), vec![]);
    encode(&message, &peer_id("receiver"), &mut out);
    assert_eq!(encoded(DIALECT, &message).as_bytes(), out);
}
