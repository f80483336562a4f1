use std::borrow::Cow;

use bytes::Bytes;
use heliograph_core::limits;
use heliograph_core::message::{ClientMessage, Directed, Enter, Envelope, Kind, Proof, Who};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::members::Members;
use crate::{Malformed, depth};

/// Reads one text frame.
pub fn decode(frame: &Bytes) -> Result<Envelope<'_>, Malformed> {
    if !depth::is_within(frame, limits::MAX_JSON_DEPTH) {
        return Err(Malformed(format!("nested deeper than {} levels", limits::MAX_JSON_DEPTH)));
    }
    let text = str::from_utf8(frame).map_err(|_| Malformed("not UTF-8".to_owned()))?;
    let members = Members::read(text).map_err(|error| describe(&error))?;
    let name: Cow<'_, str> = string(members.r#type, "type")?;
    let message = match &*name {
        "register" => ClientMessage::Enter(register(&members, frame)?),
        "proof" => ClientMessage::Prove(Proof {
            algorithm: string(members.alg, "alg")?,
            signature: string(members.signature, "signature")?,
        }),
        "offer" => directed(&members, Kind::Offer, frame)?,
        "answer" => directed(&members, Kind::Answer, frame)?,
        "ice-candidate" => directed(&members, Kind::Candidate, frame)?,
        _ => return Err(Malformed("`type` is not one that the service knows".to_owned())),
    };
    Ok(Envelope { sender: None, message })
}

fn register<'a>(members: &Members<'a>, frame: &Bytes) -> Result<Enter<'a>, Malformed> {
    let key = present(members.public_key, "publicKey")?.get();
    if !key.starts_with('{') {
        return Err(Malformed("`publicKey` must be a JWK, a JSON object".to_owned()));
    }
    let proves = members.proof.map(|proof| serde_json::from_str(proof.get())).transpose();
    let proves = proves.map_err(|_| Malformed("`proof` of a register must be true or false".to_owned()))?;
    Ok(Enter {
        who: Who::Key(frame.slice_ref(key.as_bytes())),
        room: None,
        profile: None,
        proves: proves.unwrap_or_default(),
    })
}

fn directed<'a>(members: &Members<'a>, kind: Kind, frame: &Bytes) -> Result<ClientMessage<'a>, Malformed> {
    let (content, name) = match kind {
        Kind::Candidate => (members.candidate, "candidate"),
        _ => (members.sdp, "sdp"),
    };
    present(content, name)?;
    let target = Some(string(members.to, "to")?);
    Ok(ClientMessage::Directed(Directed { kind, target, id: None, payload: members.rest(frame) }))
}

fn present<'a>(member: Option<&'a RawValue>, name: &str) -> Result<&'a RawValue, Malformed> {
    member.ok_or_else(|| Malformed(format!("`{name}` is missing")))
}

fn string<'a>(member: Option<&'a RawValue>, name: &str) -> Result<Cow<'a, str>, Malformed> {
    /// Serde borrows a bare `Cow` only where it is told to.
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str(present(member, name)?.get())
        .map(|Text(text)| text)
        .map_err(|_| Malformed(format!("`{name}` must be a string")))
}

/// A text for the client. serde_json quotes values in its messages; ours name members and places only.
fn describe(error: &serde_json::Error) -> Malformed {
    let text = error.to_string();
    Malformed(match error.classify() {
        Category::Data if text.starts_with("duplicate field") => {
            format!("`{}` is given twice", text.split('`').nth(1).unwrap_or_default())
        }
        Category::Data => "not a JSON object".to_owned(),
        Category::Syntax | Category::Eof | Category::Io => {
            format!("not valid JSON at line {} column {}", error.line(), error.column())
        }
    })
}
