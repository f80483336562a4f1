use bytes::Bytes;
use heliograph_core::id::PeerId;
use heliograph_core::message::{Kind, Member, Receipt, ServerMessage, Signal, Undeliverable};

use crate::write::{text, value};

/// Appends the text frame for `message`; nothing, where the dialect has no words for it.
///
/// Names ([`PeerId`]) are safe between quotes by construction, profiles and payloads are JSON text already.
pub fn encode(message: &ServerMessage, receiver: &PeerId, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Signal { signal, .. } => encode_signal(signal, out),
        ServerMessage::PeerList { peers, .. } => encode_welcome(receiver, peers, out),
        ServerMessage::PeerJoined { peer, profile, .. } => {
            text(out, r#"{"type":"peer-joined","#);
            described("peerId", peer, profile.as_ref(), out);
        }
        ServerMessage::PeerLeft { peer } => {
            text(out, r#"{"type":"peer-left","#);
            described("peerId", peer, None, out);
        }
        ServerMessage::Challenge { nonce } => {
            text(out, r#"{"type":"challenge","nonce":"#);
            value(out, nonce);
            out.push(b'}');
        }
        ServerMessage::Receipt { receipt, .. } => encode_failure(receipt, out),
        ServerMessage::Error { code, message } => encode_error(message, code, None, out),
        ServerMessage::PeerRevoked { peer } if peer == receiver => {
            encode_error("this key is no longer allowed here", "revoked", None, out);
        }
        // Others hear of it by `peer-left`, which follows; the rest is for clients that asked for it, and here none can.
        ServerMessage::PeerRevoked { .. }
        | ServerMessage::Resumed(_)
        | ServerMessage::Approved
        | ServerMessage::IceServers(_)
        | ServerMessage::Pong { .. }
        | ServerMessage::MeshHealth(_)
        | ServerMessage::GoAway { .. } => {}
    }
}

fn encode_signal(signal: &Signal, out: &mut Vec<u8>) {
    out.reserve(signal.payload.len() + 48 + signal.from.id.as_str().len());
    text(out, r#"{"type":"#);
    match &signal.kind {
        Kind::Offer => text(out, r#""offer""#),
        Kind::Answer => text(out, r#""answer""#),
        Kind::Candidate => text(out, r#""ice-candidate""#),
        Kind::Application(name) => value(out, &**name),
    }
    text(out, r#","from":""#);
    text(out, signal.from.id.as_str());
    out.push(b'"');
    more(&signal.payload, out);
    out.push(b'}');
}

fn encode_welcome(receiver: &PeerId, peers: &[Member], out: &mut Vec<u8>) {
    let profiles = peers.iter().filter_map(|member| member.profile.as_ref()).map(Bytes::len).sum::<usize>();
    out.reserve(128 + peers.len() * 80 + profiles);
    text(out, r#"{"type":"welcome","peerId":""#);
    text(out, receiver.as_str());
    text(out, r#"","peers":["#);
    for (i, member) in peers.iter().enumerate() {
        text(out, if i == 0 { "{" } else { ",{" });
        described("id", &member.peer, member.profile.as_ref(), out);
    }
    text(out, "]}");
}

/// The rest of an object that names a peer, with what it shows of itself.
fn described(name: &str, peer: &PeerId, profile: Option<&Bytes>, out: &mut Vec<u8>) {
    out.push(b'"');
    text(out, name);
    text(out, r#"":""#);
    text(out, peer.as_str());
    out.push(b'"');
    let members = profile.and_then(|profile| profile.strip_prefix(b"{")?.strip_suffix(b"}"));
    more(members.unwrap_or_default(), out);
    out.push(b'}');
}

/// Further members, as text.
fn more(members: &[u8], out: &mut Vec<u8>) {
    if !members.is_empty() {
        out.push(b',');
        out.extend_from_slice(members);
    }
}

/// What arrives needs no word; clients hear of what does not.
fn encode_failure(receipt: &Receipt, out: &mut Vec<u8>) {
    let Some(reason) = receipt.failure else { return };
    let message = match reason {
        Undeliverable::Unavailable => "peer not found",
        Undeliverable::BusUnavailable => "the way to the peer is down, try again later",
        Undeliverable::AuthorizationUnavailable => "the service cannot check rights now, try again later",
        Undeliverable::QueueFull => "the peer reads too slowly, try again later",
        Undeliverable::RateLimited => "too many messages, try again after a pause",
        Undeliverable::TooLarge => "the message is too large",
        Undeliverable::Malformed => "the message is malformed",
        Undeliverable::Expired => "nobody answered for the message in time; it may have arrived all the same",
    };
    encode_error(message, reason.as_str(), Some(&receipt.target), out);
}

/// `message` is for people and as the protocol has it, `code` is a stable word for programs.
fn encode_error(message: &str, code: &str, to: Option<&str>, out: &mut Vec<u8>) {
    text(out, r#"{"type":"error","message":"#);
    value(out, message);
    text(out, r#","code":"#);
    value(out, code);
    if let Some(to) = to {
        text(out, r#","to":"#);
        value(out, to);
    }
    out.push(b'}');
}
