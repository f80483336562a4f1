use heliograph_core::id::PeerId;
use heliograph_core::message::ServerMessage;

use crate::write::{text, value};

/// Appends the text frame for `message`; nothing, where the dialect has no words for it.
pub fn encode(message: &ServerMessage, _receiver: &PeerId, out: &mut Vec<u8>) {
    match message {
        ServerMessage::Signal { signal, .. } => out.extend_from_slice(&signal.payload),
        // Clients introduce themselves to newcomers; the service says only how many there are, the newcomer among them.
        ServerMessage::PeerList { peers, .. } => {
            text(out, r#"/roominfo|{"memberCount":"#);
            value(out, &(peers.len() + 1));
            out.push(b'}');
        }
        // Its announce, as it came.
        ServerMessage::PeerJoined { profile, .. } => {
            out.extend_from_slice(profile.as_deref().unwrap_or_default());
        }
        // Names are safe between quotes by construction.
        ServerMessage::PeerLeft { peer } => {
            text(out, "/leave|");
            text(out, peer.as_str());
            text(out, r#"|{"id":""#);
            text(out, peer.as_str());
            text(out, "\"}");
        }
        // Its clients would take any of these for a command of another client.
        ServerMessage::PeerRevoked { .. }
        | ServerMessage::Resumed(_)
        | ServerMessage::Challenge { .. }
        | ServerMessage::Approved
        | ServerMessage::Receipt { .. }
        | ServerMessage::IceServers(_)
        | ServerMessage::Pong { .. }
        | ServerMessage::MeshHealth(_)
        | ServerMessage::GoAway { .. }
        | ServerMessage::Error { .. } => {}
    }
}
