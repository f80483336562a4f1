//! The lines of the bridge: what a program may ask, and what it is told.

use std::sync::Arc;

use heliograph_core::id::PeerId;
use heliograph_core::limits::MAX_MESSAGE_ID_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::json;
use serde_json::value::RawValue;

use super::Refusal;

/// A line for programs, with its end. Shared by all that get it.
pub(super) type Line = Arc<str>;

/// The bridge's own codes of `error` lines; the mesh adds those of its refusals.
pub(super) mod code {
    pub(crate) const MALFORMED: &str = "malformed";
    pub(crate) const UNKNOWN_COMMAND: &str = "unknown_command";
    pub(crate) const TOO_LARGE: &str = "too_large";
    pub(crate) const TOO_SLOW: &str = "too_slow";
    pub(crate) const TOO_MANY_PROGRAMS: &str = "too_many_programs";
    pub(crate) const NOT_ALLOWED: &str = "not_allowed";
    pub(crate) const MISSED: &str = "missed";
}

/// A line from a program that can be carried out.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) label: Label<'a>,
    pub(super) order: Order<'a>,
}

/// What a program wants.
#[derive(Debug)]
pub(super) enum Order<'a> {
    Send { target: String, message: &'a RawValue },
    Broadcast { message: &'a RawValue },
    Connect { target: String },
    ListPeers,
    Status,
}

/// What an answer repeats of its command, so that the program knows which one is meant.
#[derive(Debug, Clone, Default)]
pub(super) struct Label<'a> {
    id: Option<&'a RawValue>,
    command: Option<String>,
}

impl Label<'_> {
    /// Whether the program wants an answer to a command that has none in the original.
    pub(super) fn wants_answer(&self) -> bool {
        self.id.is_some()
    }
}

/// A line that is no command.
#[derive(Debug)]
pub(super) struct Mistake<'a> {
    pub(super) label: Label<'a>,
    pub(super) refusal: Refusal,
}

/// What all programs are told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A peer sent a message over its channel.
    Message { from: PeerId, message: Box<RawValue> },
    /// A channel is open.
    PeerConnected(PeerId),
    /// A channel that was open is no more.
    PeerDisconnected(PeerId),
    /// How the agent fares; the payload is the mesh's.
    Status(serde_json::Value),
}

/// Reads one line. Unknown members are ignored; one that is given twice is an error, because two readers could see
/// two different commands.
pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, Mistake<'_>> {
    let (frame, label) = envelope(line).map_err(|refusal| Mistake { label: Label::default(), refusal })?;
    match order(label.command.as_deref(), &frame) {
        Ok(order) => Ok(Command { label, order }),
        Err(refusal) => Err(Mistake { label, refusal }),
    }
}

/// Members stay raw at first: a wrong one is then named, and the rest of the line is understood all the same.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

fn envelope(line: &[u8]) -> Result<(Frame<'_>, Label<'_>), Refusal> {
    let text = std::str::from_utf8(line)
        .map_err(|error| malformed(format!("not UTF-8 from byte {}", error.valid_up_to() + 1)))?;
    // Serde would read an array as a struct too.
    let is_object = text.trim_ascii_start().starts_with('{');
    let frame: Frame<'_> = serde_json::from_str(text).map_err(|error| describe(&error, "the line"))?;
    if !is_object {
        return Err(malformed("the line is not a JSON object".to_owned()));
    }
    let id = frame.id.map(checked_id).transpose()?;
    let command = frame.r#type.and_then(text_of);
    let command = command.filter(|name| name.len() <= heliograph_core::limits::MAX_KIND_BYTES);
    Ok((frame, Label { id, command }))
}

fn order<'a>(command: Option<&str>, frame: &Frame<'a>) -> Result<Order<'a>, Refusal> {
    let Some(command) = command else {
        return Err(malformed("`type` must be the name of a command".to_owned()));
    };
    let payload = || members(frame.payload);
    Ok(match command {
        "send" => {
            let payload = payload()?;
            let target = peer(payload.target_peer, "payload.target_peer")?;
            Order::Send { target, message: message(payload.message)? }
        }
        "broadcast" => Order::Broadcast { message: message(payload()?.message)? },
        "connect" => Order::Connect { target: peer(payload()?.target_peer_id, "payload.target_peer_id")? },
        "list_peers" => Order::ListPeers,
        "status" => Order::Status,
        _ => {
            let message = "there are `send`, `broadcast`, `connect`, `list_peers` and `status`".to_owned();
            return Err(Refusal { code: code::UNKNOWN_COMMAND, message, peer: None });
        }
    })
}

/// What payloads of commands may hold.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    target_peer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    target_peer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

fn members(payload: Option<&RawValue>) -> Result<Members<'_>, Refusal> {
    let text = payload.map_or("", RawValue::get);
    if !text.starts_with('{') {
        return Err(malformed("`payload` must be an object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| describe(&error, "`payload`"))
}

fn peer(value: Option<&RawValue>, member: &str) -> Result<String, Refusal> {
    let Some(name) = value.and_then(text_of) else {
        return Err(malformed(format!("`{member}` must be the id of a peer")));
    };
    match PeerId::parse(&name) {
        Ok(_) => Ok(name),
        Err(why) => Err(malformed(format!("`{member}` is not the id of a peer: it {why}"))),
    }
}

/// The one thing that messages of the mesh must have is a `type`.
fn message(value: Option<&RawValue>) -> Result<&RawValue, Refusal> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        r#type: &'a RawValue,
    }
    let is_message = |value: &&RawValue| {
        let head = value.get().starts_with('{').then(|| serde_json::from_str::<Head<'_>>(value.get()).ok());
        head.flatten().is_some_and(|head| head.r#type.get().starts_with('"'))
    };
    value.filter(is_message).ok_or_else(|| {
        malformed("`payload.message` must be an object with one member `type`, a string".to_owned())
    })
}

/// Kept as it was written: a large number comes back with all its digits.
fn checked_id(id: &RawValue) -> Result<&RawValue, Refusal> {
    let is_good = match id.get().as_bytes().first() {
        Some(b'"') => text_of(id).is_some_and(|text| text.len() <= MAX_MESSAGE_ID_BYTES),
        Some(b'-' | b'0'..=b'9') => id.get().len() <= MAX_MESSAGE_ID_BYTES,
        _ => false,
    };
    if is_good {
        return Ok(id);
    }
    Err(malformed(format!("`id` must be a string of at most {MAX_MESSAGE_ID_BYTES} bytes or a number")))
}

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn malformed(message: String) -> Refusal {
    Refusal { code: code::MALFORMED, message, peer: None }
}

/// serde_json quotes values in its messages; ours name members and places only.
fn describe(error: &serde_json::Error, what: &str) -> Refusal {
    let text = error.to_string();
    let member = text.split('`').nth(1).unwrap_or_default();
    malformed(match error.classify() {
        Category::Data if text.starts_with("duplicate field") => format!("`{member}` is given twice"),
        Category::Data => format!("{what} is not a JSON object"),
        Category::Syntax | Category::Eof | Category::Io => {
            format!("not valid JSON at column {}", error.column())
        }
    })
}

impl Notice {
    /// The line for all programs.
    pub(super) fn line(&self) -> Line {
        match self {
            Self::Message { from, message } => {
                #[derive(Serialize)]
                struct Payload<'a> {
                    from_peer: &'a str,
                    message: &'a RawValue,
                }
                line("message", None, Payload { from_peer: from.as_str(), message })
            }
            Self::PeerConnected(peer) => peer_connected(peer),
            Self::PeerDisconnected(peer) => {
                line("peer_disconnected", None, json!({ "peer_id": peer.as_str() }))
            }
            Self::Status(payload) => line("status", None, payload),
        }
    }
}

pub(super) fn peer_connected(peer: &PeerId) -> Line {
    line("peer_connected", None, json!({ "peer_id": peer.as_str() }))
}

/// The answer to `list_peers`.
pub(super) fn peer_list(label: &Label<'_>, peers: &[PeerId]) -> Line {
    let peers: Vec<&str> = peers.iter().map(PeerId::as_str).collect();
    line("peer_list", label.id, json!({ "peers": peers }))
}

/// The answer to `status`.
pub(super) fn status(label: &Label<'_>, payload: &serde_json::Value) -> Line {
    line("status", label.id, payload)
}

/// The answer to a command with an `id` that has none in the original. `peers`: how many channels took it.
pub(super) fn done(label: &Label<'_>, peers: Option<usize>) -> Line {
    #[derive(Serialize)]
    struct Payload<'a> {
        command: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
    }
    line("ok", label.id, Payload { command: label.command.as_deref(), peers })
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Why a command was not carried out.
pub(super) fn refused(label: &Label<'_>, refusal: &Refusal) -> Line {
    let Refusal { code, message, peer } = refusal;
    let command = label.command.as_deref();
    line("error", label.id, Failure { code, message, command, peer: peer.as_deref(), count: None })
}

/// An error that no command made.
pub(super) fn trouble(code: &str, message: &str) -> Line {
    line("error", None, Failure { code, message, command: None, peer: None, count: None })
}

/// Messages came while nobody was there to hear them, and the oldest are gone.
pub(super) fn missed(count: u64) -> Line {
    let message = "messages came while no program was attached; this many of them, the oldest, were not kept";
    line(
        "error",
        None,
        Failure { code: code::MISSED, message, command: None, peer: None, count: Some(count) },
    )
}

fn line(kind: &str, id: Option<&RawValue>, payload: impl Serialize) -> Line {
    #[derive(Serialize)]
    struct Frame<'a, P> {
        r#type: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        payload: P,
    }
    let written = serde_json::to_string(&Frame { r#type: kind, id, payload });
    debug_assert!(written.is_ok(), "texts, numbers, Values and raw JSON always serialize");
    let mut text = written.unwrap_or_default();
    // A peer may send JSON in several lines. Within strings these two are always escaped, so they are but spaces here.
    if text.contains(['\n', '\r']) {
        text = text.replace(['\n', '\r'], " ");
    }
    text.push('\n');
    text.into()
}
