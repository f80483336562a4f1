use std::collections::BTreeMap;

use heliograph_core::id::PeerId;
use heliograph_core::message::{
    Capabilities, IceServer, Kind, Member, Receipt, Resumed, Role, ServerMessage, Signal, Welcome,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::REGISTRY;
use crate::write::{text, value};

/// Appends the text frame for `message`.
///
/// Names ([`PeerId`]) are safe between quotes by construction, payloads are JSON text already; everything else
/// goes through serde_json.
pub fn encode(message: &ServerMessage, receiver: &PeerId, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Signal { signal, seq } => encode_signal(signal, *seq, receiver, out),
        ServerMessage::Resumed(resumed) => encode_resumed(resumed, out),
        ServerMessage::PeerList { peers, welcome } => encode_peer_list(peers, welcome.as_deref(), out),
        ServerMessage::PeerJoined { peer, role, profile: _ } => encode_joined(peer, *role, out),
        ServerMessage::Challenge { .. } => {} // tokens are what proves an identity here
        ServerMessage::PeerLeft { peer } => encode_event("peer_left", peer, out),
        ServerMessage::PeerRevoked { peer } => encode_event("peer_revoked", peer, out),
        ServerMessage::Approved => registry("approved", &json!({}), out),
        ServerMessage::Receipt { receipt, seq } => encode_receipt(receipt, *seq, out),
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

fn encode_signal(signal: &Signal, seq: Option<u64>, receiver: &PeerId, out: &mut Vec<u8>) {
    out.reserve(signal.payload.len() + 160 + signal.from.id.as_str().len() + receiver.as_str().len());
    text(out, r#"{"type":"#);
    match &signal.kind {
        Kind::Offer => text(out, r#""offer""#),
        Kind::Answer => text(out, r#""answer""#),
        Kind::Candidate => text(out, r#""ice_candidate""#),
        Kind::Application(name) => value(out, &**name),
    }
    text(out, r#","peer_id":""#);
    text(out, signal.from.id.as_str());
    text(out, r#"","target_id":""#);
    text(out, receiver.as_str());
    text(out, r#"","payload":"#);
    out.extend_from_slice(&signal.payload);
    if let Some(id) = &signal.id {
        text(out, r#","id":"#);
        value(out, id);
    }
    end(seq, out);
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
    value(out, &capabilities);
    text(out, r#","session":{"epoch":"#);
    value(out, &welcome.epoch.0);
    if let Some(offer) = &welcome.resume {
        text(out, r#","resume_token":"#);
        value(out, &offer.token);
        text(out, r#","resume_window_ms":"#);
        value(out, &offer.window_ms);
    }
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

/// Written by hand, since there is one for each message with an `id`.
fn encode_receipt(receipt: &Receipt, seq: Option<u64>, out: &mut Vec<u8>) {
    out.reserve(192 + receipt.target.len());
    let kind = if receipt.failure.is_some() { "undeliverable" } else { "delivered" };
    begin(kind, out);
    out.push(b'{');
    if let Some(id) = &receipt.id {
        text(out, r#""id":"#);
        value(out, id);
        out.push(b',');
    }
    if let Some(reason) = receipt.failure {
        text(out, r#""reason":""#);
        text(out, reason.as_str());
        text(out, "\",");
    }
    text(out, r#""target":"#);
    value(out, &receipt.target);
    out.push(b'}');
    end(seq, out);
}

fn encode_resumed(resumed: &Resumed, out: &mut Vec<u8>) {
    let payload = match resumed {
        Resumed::Recovered { recovered, lost, resume } => json!({
            "recovered": recovered,
            "lost": lost,
            "resume_token": resume.token,
            "resume_window_ms": resume.window_ms,
        }),
        Resumed::Fresh => json!({ "recovered": 0, "lost": null, "fresh": true }),
    };
    registry("resumed", &payload, out);
}

/// What was sent comes back: an object's members beside `timestamp`, anything else as `payload`.
///
/// Members stay text. Read as a [`Value`], a client's JSON can recurse deeper than serde_json's own limit: with
/// `raw_value`, a string under a private key is parsed afresh, and 53 KB of such strings overflow the stack.
fn encode_pong(payload: &[u8], unix_ms: u64, out: &mut Vec<u8>) {
    begin("pong", out);
    text(out, r#"{"timestamp":"#);
    value(out, &unix_ms);
    match serde_json::from_slice::<BTreeMap<String, &RawValue>>(payload) {
        Ok(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "timestamp") {
                out.push(b',');
                value(out, name);
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
    begin(kind, out);
    value(out, payload);
    end(None, out);
}

/// A message of the service's own, up to its payload.
fn begin(kind: &str, out: &mut Vec<u8>) {
    text(out, r#"{"type":""#);
    text(out, kind);
    text(out, r#"","peer_id":""#);
    text(out, REGISTRY);
    text(out, r#"","payload":"#);
}

/// The end of an envelope, with its number where it has one.
fn end(seq: Option<u64>, out: &mut Vec<u8>) {
    if let Some(seq) = seq {
        text(out, r#","seq":"#);
        value(out, &seq);
    }
    out.push(b'}');
}
