//! Frames of the mesh dialect, as far as a recording client reads and writes them.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::event::{Peer, Resumed, Verdict, What, hash};
use crate::client::ALL;

/// What the service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Who is there.
    List(List),
    /// The answer to `resume`, and how to resume the next time.
    Resumed(Resumed, Option<String>),
    /// The node drains.
    GoAway {
        /// When to come back, in milliseconds.
        after_ms: u64,
    },
    /// The answer to a question.
    Answered(u64),
    /// Something to record, with its number.
    Line(What, Option<u64>),
    /// Nothing to record.
    Other,
}

/// A list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) epoch: u64,
    pub(super) peers: Vec<Peer>,
    /// How to resume, where the list says it.
    pub(super) token: Option<String>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: String,
    peer_id: Peer,
    #[serde(default)]
    id: Option<Peer>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Reads a text frame.
pub(super) fn read(text: &str) -> Heard {
    let frame: Frame<'_> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if &*frame.peer_id != "registry" {
        let id =
            frame.id.unwrap_or_else(|| panic!("this client sends ids, and peers are such clients: {text}"));
        let hash = hash(frame.payload.get().as_bytes());
        return Heard::Line(What::Received { from: frame.peer_id, id, seq: frame.seq, hash }, frame.seq);
    }
    let payload: Value = serde_json::from_str(frame.payload.get()).unwrap_or_default();
    from_service(&frame.r#type, &payload, frame.seq)
}

fn from_service(kind: &str, payload: &Value, seq: Option<u64>) -> Heard {
    let name = |member: &str| Peer::from(payload[member].as_str().unwrap_or_default());
    let told = |verdict| Heard::Line(What::Told { id: name("id"), verdict, seq }, seq);
    match kind {
        "peer_list" => Heard::List(list(payload)),
        "resumed" if payload["fresh"] == true => Heard::Resumed(Resumed::Fresh, None),
        "resumed" => {
            let count = |member: &str| payload[member].as_u64().unwrap_or_default();
            let resumed = Resumed::Recovered { recovered: count("recovered"), lost: count("lost") };
            Heard::Resumed(resumed, payload["resume_token"].as_str().map(str::to_owned))
        }
        "delivered" => told(Verdict::Delivered),
        "undeliverable" => told(Verdict::Undeliverable(name("reason"))),
        "peer_joined" => Heard::Line(What::Joined(name("peer")), None),
        "peer_left" => Heard::Line(What::Left(name("peer")), None),
        "peer_revoked" => Heard::Line(What::Revoked(name("peer")), None),
        "error" => Heard::Line(What::Error(name("code")), None),
        "goaway" => Heard::GoAway { after_ms: payload["reconnect_after_ms"].as_u64().unwrap_or_default() },
        "pong" => payload["ask"].as_u64().map_or(Heard::Other, Heard::Answered),
        _ => Heard::Other,
    }
}

fn list(payload: &Value) -> List {
    let session = &payload["session"];
    let peers = payload["peers"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Peer::from);
    List {
        epoch: session["epoch"].as_u64().unwrap_or_default(),
        peers: peers.collect(),
        token: session["resume_token"].as_str().map(str::to_owned),
    }
}

/// Asks for the list.
pub(super) fn register(peer: &Peer) -> String {
    let payload = json!({ "version": 1, "capabilities": ALL });
    json!({ "type": "register", "peer_id": peer, "payload": payload }).to_string()
}

/// Asks for what a former session left.
pub(super) fn resume(peer: &Peer, token: &str, received: u64) -> String {
    let payload = json!({ "resume_token": token, "received": received });
    json!({ "type": "resume", "peer_id": peer, "payload": payload }).to_string()
}

/// Asks for an answer that comes after everything that was sent before was read.
pub(super) fn ask(peer: &Peer, question: u64) -> String {
    json!({ "type": "ping", "peer_id": peer, "payload": { "ask": question } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_the_bytes_of_its_payload() {
        let text =
            r#"{"type":"offer","peer_id":"a","target_id":"b","payload":{ "x" : 1 },"id":"a.7","seq":3}"#;
        let Heard::Line(What::Received { from, id, seq, hash: found }, Some(3)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!((&*from, &*id, seq, found), ("a", "a.7", Some(3), hash(br#"{ "x" : 1 }"#)));
    }

    #[test]
    fn the_services_words_are_read() {
        let service = |kind: &str, payload: Value| {
            read(&json!({ "type": kind, "peer_id": "registry", "payload": payload }).to_string())
        };
        let fresh = json!({ "fresh": true, "lost": null, "recovered": 0 });
        assert_eq!(service("resumed", fresh), Heard::Resumed(Resumed::Fresh, None));
        let recovered = Resumed::Recovered { recovered: 2, lost: 1 };
        let said = json!({ "recovered": 2, "lost": 1, "resume_token": "rs_y" });
        assert_eq!(service("resumed", said), Heard::Resumed(recovered, Some("rs_y".to_owned())));
        let session = json!({ "epoch": 7, "resume_token": "rs_x", "resume_window_ms": 60_000 });
        let list = List { epoch: 7, peers: vec!["b".into()], token: Some("rs_x".to_owned()) };
        assert_eq!(service("peer_list", json!({ "peers": ["b"], "session": session })), Heard::List(list));
        assert_eq!(service("pong", json!({ "ask": 9, "timestamp": 1 })), Heard::Answered(9));
        let verdict = Verdict::Undeliverable("expired".into());
        let told = Heard::Line(What::Told { id: "a.1".into(), verdict, seq: None }, None);
        assert_eq!(
            service("undeliverable", json!({ "id": "a.1", "reason": "expired", "target": "b" })),
            told
        );
        assert_eq!(service("ice_servers", json!({ "ice_servers": [] })), Heard::Other);
    }
}
