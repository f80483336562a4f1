//! What we say.

use heliograph_core::id::PeerId;
use heliograph_core::limits::{MAX_KIND_BYTES, MAX_MESSAGE_ID_BYTES};
use heliograph_core::message::reserved;
use serde::Serialize;
use serde_json::value::RawValue;

/// All that the service can grant.
const CAPABILITIES: [&str; 6] = ["events", "feedback", "resume", "roles", "ice", "goaway"];

#[derive(Serialize)]
struct Envelope<'a, P> {
    #[serde(rename = "type")]
    kind: &'a str,
    peer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    payload: P,
}

#[derive(Serialize)]
struct Register {
    version: u32,
    capabilities: [&'static str; 6],
}

#[derive(Serialize)]
struct Resume<'a> {
    resume_token: &'a str,
    received: u64,
}

/// "I am here, who else is?"
pub(crate) fn register(me: &PeerId) -> String {
    text("register", me, Register { version: 1, capabilities: CAPABILITIES })
}

/// "I was here before."
pub(crate) fn resume(me: &PeerId, token: &str, received: u64) -> String {
    text("resume", me, Resume { resume_token: token, received })
}

/// A message for one peer.
pub(crate) fn message(
    kind: &str,
    me: &PeerId,
    target: &PeerId,
    payload: &RawValue,
    id: Option<&str>,
) -> String {
    debug_assert!(id.is_none_or(|id| id.len() <= MAX_MESSAGE_ID_BYTES));
    to_text(&Envelope { kind, peer_id: me.as_str(), target_id: Some(target.as_str()), id, payload })
}

/// Whether a type is one that peers can send each other.
pub(crate) fn may_be_sent(kind: &str) -> bool {
    !kind.is_empty()
        && kind.len() <= MAX_KIND_BYTES
        && !reserved::is_for_service(kind)
        && !reserved::is_from_service(kind)
}

fn text(kind: &str, me: &PeerId, payload: impl Serialize) -> String {
    to_text(&Envelope { kind, peer_id: me.as_str(), target_id: None, id: None, payload })
}

#[expect(clippy::expect_used, reason = "texts, numbers and JSON that was read before have a JSON form")]
fn to_text(envelope: &impl Serialize) -> String {
    serde_json::to_string(envelope).expect("JSON")
}
