use std::collections::BTreeMap;

use heliograph_core::id::PeerId;
use heliograph_core::message::{
    Capabilities, IceServer, Kind, Member, Receipt, Role, ServerMessage, Signal, Welcome,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::REGISTRY;

/// Appends the text frame for `message`.
///
/// Names ([`PeerId`]) are safe between quotes by construction, payloads are JSON text already; everything else
/// goes through serde_json.
pub fn encode(message: &ServerMessage, receiver: &PeerId, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Signal(signal) => encode_signal(signal, receiver, out),
        ServerMessage::PeerList { peers, welcome } => encode_peer_list(peers, welcome.as_deref(), out),
        ServerMessage::PeerJoined { peer, role } => encode_joined(peer, *role, out),
        ServerMessage::PeerLeft { peer } => encode_event("peer_left", peer, out),
        ServerMessage::PeerRevoked { peer } => encode_event("peer_revoked", peer, out),
        ServerMessage::Approved => registry("approved", &json!({}), out),
        ServerMessage::Receipt(receipt) => encode_receipt(receipt, out),
        ServerMessage::IceServers(servers) => {
            registry("ice_servers", &json!({ "ice_servers": ice_servers(servers) }), out);
        }
        ServerMessage::Pong { payload, unix_ms } => encode_pong(payload, *unix_ms, out),
        ServerMessage::MeshHealth(health) => {
            let authorization = if health.authorization_current { "current" } else { "unavailable" };
            let payload = json!({
                "peers_online": health.peers_online,
                "gateways": health.gateways,
                "version": health.version,
                "authorization": authorization,
            });
            registry("mesh_health", &payload, out);
        }
        ServerMessage::GoAway { reconnect_after_ms, deadline_ms } => {
            let payload = json!({ "reconnect_after_ms": reconnect_after_ms, "deadline_ms": deadline_ms });
            registry("goaway", &payload, out);
        }
        ServerMessage::Error { code, message } => {
            registry("error", &json!({ "code": code, "message": message }), out);
        }
    }
}

fn encode_signal(signal: &Signal, receiver: &PeerId, out: &mut Vec<u8>) {
    out.reserve(signal.payload.len() + 128 + signal.from.id.as_str().len() + receiver.as_str().len());
    text(out, r#"{"type":"#);
    match &signal.kind {
        Kind::Offer => text(out, r#""offer""#),
        Kind::Answer => text(out, r#""answer""#),
        Kind::Candidate => text(out, r#""ice_candidate""#),
        Kind::Application(name) => quoted(out, name),
    }
    text(out, r#","peer_id":""#);
    text(out, signal.from.id.as_str());
    text(out, r#"","target_id":""#);
    text(out, receiver.as_str());
    text(out, r#"","payload":"#);
    out.extend_from_slice(&signal.payload);
    if let Some(id) = &signal.id {
        text(out, r#","id":"#);
        quoted(out, id);
    }
    out.push(b'}');
}

/// Written by hand: in a mesh of thousands it is the largest frame there is, and each newcomer gets one.
fn encode_peer_list(peers: &[Member], welcome: Option<&Welcome>, out: &mut Vec<u8>) {
    out.reserve(96 + peers.iter().map(|member| member.peer.as_str().len() + 3).sum::<usize>());
    text(out, r#"{"type":"peer_list","peer_id":"registry","payload":{"peers":["#);
    for (i, member) in peers.iter().enumerate() {
        text(out, if i == 0 { "\"" } else { ",\"" });
        text(out, member.peer.as_str());
        out.push(b'"');
    }
    out.push(b']');
    if let Some(welcome) = welcome {
        encode_welcome(peers, welcome, out);
    }
    text(out, "}}");
}

fn encode_welcome(peers: &[Member], welcome: &Welcome, out: &mut Vec<u8>) {
    let capabilities: Vec<_> = welcome.granted.names().collect();
    text(out, r#","version":1,"capabilities":"#);
    value(out, &json!(capabilities));
    text(out, r#","session":{"epoch":"#);
    text(out, &welcome.epoch.0.to_string());
    out.push(b'}');
    if welcome.granted.has(Capabilities::ROLES) {
        text(out, r#","roles":{"#);
        for (i, member) in peers.iter().enumerate() {
            text(out, if i == 0 { "\"" } else { ",\"" });
            text(out, member.peer.as_str());
            text(out, "\":\"");
            text(out, Role::of(welcome.place, member.place).as_str());
            out.push(b'"');
        }
        out.push(b'}');
    }
    if let Some(servers) = &welcome.ice_servers {
        text(out, r#","ice_servers":"#);
        value(out, &ice_servers(servers));
    }
}

fn encode_joined(peer: &PeerId, role: Option<Role>, out: &mut Vec<u8>) {
    let payload = match role {
        Some(role) => json!({ "peer": peer.as_str(), "role": role.as_str() }),
        None => json!({ "peer": peer.as_str() }),
    };
    registry("peer_joined", &payload, out);
}

fn encode_event(kind: &str, peer: &PeerId, out: &mut Vec<u8>) {
    registry(kind, &json!({ "peer": peer.as_str() }), out);
}

fn encode_receipt(receipt: &Receipt, out: &mut Vec<u8>) {
    let mut payload = json!({ "target": receipt.target });
    if let Some(id) = &receipt.id {
        payload["id"] = json!(id);
    }
    let kind = match receipt.failure {
        Some(reason) => {
            payload["reason"] = json!(reason.as_str());
            "undeliverable"
        }
        None => "delivered",
    };
    registry(kind, &payload, out);
}

/// What was sent comes back: an object's members beside `timestamp`, anything else as `payload`.
///
/// Members stay text. Read as a [`Value`], a client's JSON can recurse deeper than serde_json's own limit: with
/// `raw_value`, a string under a private key is parsed afresh, and 53 KB of such strings overflow the stack.
fn encode_pong(payload: &[u8], unix_ms: u64, out: &mut Vec<u8>) {
    text(out, r#"{"type":"pong","peer_id":""#);
    text(out, REGISTRY);
    text(out, r#"","payload":{"timestamp":"#);
    text(out, &unix_ms.to_string());
    match serde_json::from_slice::<BTreeMap<String, &RawValue>>(payload) {
        Ok(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "timestamp") {
                out.push(b',');
                quoted(out, name);
                out.push(b':');
                text(out, member.get());
            }
        }
        Err(_) if payload == b"null" => {}
        Err(_) => {
            text(out, r#","payload":"#);
            out.extend_from_slice(payload);
        }
    }
    text(out, "}}");
}

fn ice_servers(servers: &[IceServer]) -> Value {
    servers
        .iter()
        .map(|server| {
            let mut entry = json!({ "urls": server.urls });
            if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
                entry["username"] = json!(username);
                entry["credential"] = json!(credential);
            }
            entry
        })
        .collect()
}

/// A message of the service's own.
fn registry(kind: &str, payload: &Value, out: &mut Vec<u8>) {
    text(out, r#"{"type":""#);
    text(out, kind);
    text(out, r#"","peer_id":""#);
    text(out, REGISTRY);
    text(out, r#"","payload":"#);
    value(out, payload);
    out.push(b'}');
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    value(out, &Value::from(text));
}

fn value(out: &mut Vec<u8>, value: &Value) {
    // Writing to a vector cannot fail, and a `Value` has no keys that are not strings.
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "a Value always serializes");
}
