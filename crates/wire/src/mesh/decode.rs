use std::borrow::Cow;

use bytes::Bytes;
use heliograph_core::limits;
use heliograph_core::message::{Capabilities, ClientMessage, Directed, Envelope, Kind, reserved};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::MAX_RESUME_TOKEN_BYTES;
use crate::{Malformed, depth};

/// The envelope. Unknown members are dropped, as the original does; a member given twice is an error, because two
/// readers could see two different messages.
#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Frame<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow, default)]
    peer_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    target_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// A text that stays in the frame unless it has escapes. Serde borrows a bare `Cow`, but copies one inside an
/// `Option` or a `Vec`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads one text frame.
pub fn decode(frame: &Bytes) -> Result<Envelope<'_>, Malformed> {
    if !depth::is_within(frame, limits::MAX_JSON_DEPTH) {
        return Err(Malformed(format!("nested deeper than {} levels", limits::MAX_JSON_DEPTH)));
    }
    // Serde would read an array as a struct too.
    if frame.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed("not a JSON object".to_owned()));
    }
    let fields: Frame<'_> = serde_json::from_slice(frame).map_err(|error| describe(&error))?;
    let Text(name) = fields.r#type;
    if name == "authenticate" {
        let token = token_of(fields.payload)?;
        return Ok(Envelope { sender: None, message: ClientMessage::Authenticate { token } });
    }
    let Some(Text(sender)) = fields.peer_id else {
        return Err(Malformed("`peer_id` is missing".to_owned()));
    };
    if name == "resume" {
        let message = resumption(fields.payload, fields.target_id.is_some())?;
        return Ok(Envelope { sender: Some(sender), message });
    }
    let payload =
        fields.payload.map_or(Bytes::from_static(b"null"), |raw| frame.slice_ref(raw.get().as_bytes()));
    let target = fields.target_id.map(|Text(target)| target);
    let message = match &*name {
        "register" => ClientMessage::Register(hello(&payload)?),
        "heartbeat" => ClientMessage::Heartbeat,
        "ping" if target.is_none() => ClientMessage::Ping { payload },
        "mesh_health" if target.is_none() => ClientMessage::MeshHealth,
        _ => match kind(name, target.is_some())? {
            Ok(kind) => {
                ClientMessage::Directed(Directed { kind, target, id: checked_id(fields.id)?, payload })
            }
            Err(kind) => ClientMessage::Unknown { kind },
        },
    };
    Ok(Envelope { sender: Some(sender), message })
}

/// The type of a directed message, or the name of a type that is neither known nor directed.
fn kind(name: Cow<'_, str>, targeted: bool) -> Result<Result<Kind, Cow<'_, str>>, Malformed> {
    if name.len() > limits::MAX_KIND_BYTES {
        return Err(Malformed(format!("`type` is longer than {} bytes", limits::MAX_KIND_BYTES)));
    }
    Ok(match &*name {
        "offer" => Ok(Kind::Offer),
        "answer" => Ok(Kind::Answer),
        "ice_candidate" => Ok(Kind::Candidate),
        service if targeted && reserved::is_from_service(service) => {
            return Err(Malformed("`type` is one that only the service sends".to_owned()));
        }
        _ if targeted => Ok(Kind::Application(name.into())),
        _ => Err(name),
    })
}

fn checked_id(id: Option<Text<'_>>) -> Result<Option<Cow<'_, str>>, Malformed> {
    match id.map(|Text(id)| id) {
        Some(id) if id.is_empty() || id.len() > limits::MAX_MESSAGE_ID_BYTES => {
            Err(Malformed(format!("`id` must have 1 to {} bytes", limits::MAX_MESSAGE_ID_BYTES)))
        }
        id => Ok(id),
    }
}

/// What a `register` says of its client. The original sends null; an object without `capabilities` means the same.
fn hello(payload: &Bytes) -> Result<Option<Capabilities>, Malformed> {
    #[derive(Deserialize)]
    struct Hello<'a> {
        #[serde(borrow, default)]
        capabilities: Option<Vec<Text<'a>>>,
    }
    if payload.first() != Some(&b'{') {
        return Ok(None);
    }
    let hello: Hello<'_> = serde_json::from_slice(payload).map_err(|_| {
        Malformed("`payload.capabilities` of a register must be a list of strings".to_owned())
    })?;
    let Some(names) = hello.capabilities else { return Ok(None) };
    if names.len() > limits::MAX_CAPABILITIES {
        return Err(Malformed(format!("more than {} capabilities", limits::MAX_CAPABILITIES)));
    }
    Ok(Some(names.iter().fold(Capabilities::NONE, |all, Text(name)| all.with(Capabilities::named(name)))))
}

/// What a client shows that comes back. No peer gets to see it: a token that was addressed by mistake is not relayed.
fn resumption(payload: Option<&RawValue>, targeted: bool) -> Result<ClientMessage<'_>, Malformed> {
    #[derive(Deserialize)]
    struct Claim<'a> {
        #[serde(borrow, default)]
        resume_token: Option<&'a RawValue>,
        #[serde(borrow, default)]
        received: Option<&'a RawValue>,
    }
    if targeted {
        return Err(Malformed("`resume` is for the service and has no `target_id`".to_owned()));
    }
    let bad_token = || {
        Malformed(format!(
            "`resume` needs `payload.resume_token`, 1 to {MAX_RESUME_TOKEN_BYTES} bytes of text"
        ))
    };
    let claim: Claim<'_> = object(payload).ok_or_else(bad_token)?;
    let token = claim.resume_token.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let Text(token) = token
        .filter(|Text(token)| (1..=MAX_RESUME_TOKEN_BYTES).contains(&token.len()))
        .ok_or_else(bad_token)?;
    let received = claim.received.map(|raw| serde_json::from_str(raw.get())).transpose();
    let received = received.map_err(|_| {
        Malformed("`payload.received` of a `resume` must be a whole number from 0".to_owned())
    })?;
    Ok(ClientMessage::Resume { token, received })
}

fn token_of(payload: Option<&RawValue>) -> Result<Cow<'_, str>, Malformed> {
    #[derive(Deserialize)]
    struct Credentials<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
    }
    object(payload)
        .map(|Credentials { token }| token)
        .ok_or_else(|| Malformed("`authenticate` needs `payload.token`, a string".to_owned()))
}

/// The payload as a struct; serde would read an array as one, too.
fn object<'a, T: Deserialize<'a>>(payload: Option<&'a RawValue>) -> Option<T> {
    let text = payload?.get();
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

/// A text for the client. serde_json quotes values in its messages; ours name members and places only.
fn describe(error: &serde_json::Error) -> Malformed {
    let text = error.to_string();
    let member = text.split('`').nth(1).unwrap_or_default();
    Malformed(match error.classify() {
        Category::Data if text.starts_with("missing field") => format!("`{member}` is missing"),
        Category::Data if text.starts_with("duplicate field") => format!("`{member}` is given twice"),
        Category::Data => {
            "not an envelope: an object with strings `type` and `peer_id`, and where given `target_id` and `id`".to_owned()
        }
        Category::Syntax | Category::Eof | Category::Io => {
            format!("not valid JSON at line {} column {}", error.line(), error.column())
        }
    })
}
