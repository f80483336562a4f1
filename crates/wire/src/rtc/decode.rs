use std::borrow::Cow;

use bytes::Bytes;
use heliograph_core::limits;
use heliograph_core::message::{ClientMessage, Directed, Enter, Envelope, Kind, Who};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Malformed, depth};

/// Reads one text frame.
pub fn decode(frame: &Bytes) -> Result<Envelope<'_>, Malformed> {
    let text = str::from_utf8(frame).map_err(|_| malformed("not UTF-8"))?;
    let (command, rest) = parts(text);
    match Command::of(command)? {
        Command::To => directed(rest, frame),
        Command::Announce => announce(rest, frame),
        Command::Leave => {
            let sender = introduced(rest)?;
            Ok(Envelope { sender, message: ClientMessage::Leave })
        }
        Command::Other(kind) => {
            let message = ClientMessage::Broadcast { kind, payload: frame.clone() };
            Ok(Envelope { sender: claimed(rest), message })
        }
    }
}

enum Command {
    To,
    Announce,
    Leave,
    Other(Kind),
}

impl Command {
    /// Names of commands are the same in capitals, as in the original switchboard.
    fn of(part: &str) -> Result<Self, Malformed> {
        let name = part.strip_prefix('/').ok_or_else(|| malformed("not a command: it begins with no `/`"))?;
        if name.is_empty() {
            return Err(malformed("a command without a name"));
        }
        if name.len() > limits::MAX_KIND_BYTES {
            return Err(Malformed(format!(
                "the command's name is longer than {} bytes",
                limits::MAX_KIND_BYTES
            )));
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        Ok(match name {
            _ if is("to") => Self::To,
            _ if is("announce") => Self::Announce,
            _ if is("leave") => Self::Leave,
            _ if is("roominfo") => return Err(malformed("a command that only the service sends")),
            _ if is("candidate") => Self::Other(Kind::Candidate),
            _ => Self::Other(Kind::Application(name.into())),
        })
    }
}

/// `/to|<target>|<command>|<sender>|…`
fn directed<'a>(rest: Option<&'a str>, frame: &Bytes) -> Result<Envelope<'a>, Malformed> {
    let (target, inner) = rest.map(parts).unwrap_or_default();
    let inner = inner.ok_or_else(|| malformed("`/to` without a target or a message"))?;
    let (command, rest) = parts(inner);
    // What goes within need not be a command: the original relays it, and its clients take it for data.
    let (kind, sender) = match Command::of(command) {
        Ok(Command::Announce) => (Kind::Application("announce".into()), introduced(rest)?),
        Ok(Command::Leave) => (Kind::Application("leave".into()), introduced(rest)?),
        Ok(Command::To) => return Err(malformed("`/to` within `/to`")),
        Ok(Command::Other(kind)) => (kind, claimed(rest)),
        Err(_) if !command.starts_with('/') => (Kind::Application("data".into()), claimed(rest)),
        Err(malformed) => return Err(malformed),
    };
    let target = Some(Cow::Borrowed(target));
    let message = ClientMessage::Directed(Directed { kind, target, id: None, payload: frame.clone() });
    Ok(Envelope { sender, message })
}

/// `/announce|<sender>|<JSON>`: who and where are what the JSON says.
fn announce<'a>(rest: Option<&'a str>, frame: &Bytes) -> Result<Envelope<'a>, Malformed> {
    let Some(id) = introduced(rest)? else { return Err(malformed("an announce without an `id`")) };
    let attributes: Attributes<'_> = attributes(rest)?;
    let Some(room) = attributes.room.and_then(name).filter(|room| !room.is_empty()) else {
        return Ok(Envelope { sender: None, message: ClientMessage::Leave });
    };
    if frame.len() > limits::MAX_PROFILE_BYTES {
        return Err(Malformed(format!("an announce of more than {} bytes", limits::MAX_PROFILE_BYTES)));
    }
    let enter = Enter { who: Who::Id(id), room: Some(room), profile: Some(frame.clone()), proves: false };
    // No claim about who one was before: an announce may change it.
    Ok(Envelope { sender: None, message: ClientMessage::Enter(enter) })
}

/// What the service reads of an announce or a leave. The original takes texts and numbers.
#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    room: Option<&'a RawValue>,
}

/// The JSON after the sender, with all `|` that may be in it.
fn attributes(rest: Option<&str>) -> Result<Attributes<'_>, Malformed> {
    let json = rest.and_then(|rest| parts(rest).1).ok_or_else(|| malformed("no JSON after the sender"))?;
    if !depth::is_within(json.as_bytes(), limits::MAX_JSON_DEPTH) {
        return Err(Malformed(format!("nested deeper than {} levels", limits::MAX_JSON_DEPTH)));
    }
    // Serde would read an array as a struct too.
    if !json.trim_ascii_start().starts_with('{') {
        return Err(malformed("what follows the sender is not a JSON object"));
    }
    serde_json::from_str(json)
        .map_err(|_| malformed("what follows the sender is not a JSON object, or says a thing twice"))
}

/// Whom an announce or a leave is about. Clients go by the `id` in its JSON, so that one counts; a sender before it has
/// to be the same.
fn introduced(rest: Option<&str>) -> Result<Option<Cow<'_, str>>, Malformed> {
    let claimed = claimed(rest);
    let Some(rest) = rest else { return Ok(None) };
    if parts(rest).1.is_none() {
        return Ok(claimed);
    }
    let Some(id) = attributes(Some(rest))?.id else { return Ok(claimed) };
    let id = name(id).ok_or_else(|| malformed("`id` is neither a text nor a number"))?;
    if id.contains('|') {
        return Err(malformed("an `id` with `|`, which ends it"));
    }
    match claimed {
        Some(claimed) if claimed != id => Err(malformed("the sender and the `id` are not the same")),
        _ => Ok(Some(id)),
    }
}

/// The sender that a command names in its next part, read as its clients read it: a text, a number, or JSON.
fn claimed(rest: Option<&str>) -> Option<Cow<'_, str>> {
    let (part, _) = parts(rest?);
    let claim = match part.as_bytes().first()? {
        b'{' => {
            serde_json::from_str(part).map(|Attributes { id, .. }| id.map(|id| name(id).unwrap_or_default()))
        }
        b'"' => serde_json::from_str(part).map(|Text(text)| Some(text)),
        _ => Ok(Some(Cow::Borrowed(part))),
    };
    // What looks like JSON and cannot be read is nobody's name: some reader might see another one in it.
    claim.unwrap_or(Some(Cow::Borrowed(part)))
}

/// A text or a number as text, so that `1` and `"1"` are the same name.
fn name(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok().map(|Text(text)| text),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

/// A text that stays in the frame unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The first part, and what follows its `|`.
fn parts(text: &str) -> (&str, Option<&str>) {
    text.split_once('|').map_or((text, None), |(part, rest)| (part, Some(rest)))
}

fn malformed(what: &str) -> Malformed {
    Malformed(what.to_owned())
}
