use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A frame taken apart: what the service reads of it, and where the rest stands.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) r#type: Option<&'a RawValue>,
    pub(super) to: Option<&'a RawValue>,
    pub(super) public_key: Option<&'a RawValue>,
    pub(super) proof: Option<&'a RawValue>,
    pub(super) alg: Option<&'a RawValue>,
    pub(super) signature: Option<&'a RawValue>,
    pub(super) sdp: Option<&'a RawValue>,
    pub(super) candidate: Option<&'a RawValue>,
    from: Option<&'a RawValue>,
    rest: Vec<Range<usize>>,
}

impl<'a> Members<'a> {
    pub(super) fn read(frame: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(frame);
        let members = Reader(frame).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(members)
    }

    /// All but `type`, `to` and `from`, as it stood between the braces. Shares the memory of `frame` where that is one
    /// piece, which it is in nearly every frame.
    pub(super) fn rest(&self, frame: &Bytes) -> Bytes {
        match self.rest.as_slice() {
            [] => Bytes::new(),
            [piece] => frame.slice(piece.clone()),
            pieces => {
                let pieces: Vec<_> = pieces.iter().map(|piece| &frame[piece.clone()]).collect();
                pieces.join(&b","[..]).into()
            }
        }
    }

    /// Where the member of that name belongs; `None`: it is not looked at.
    fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a RawValue>)> {
        Some(match name {
            "type" => ("type", &mut self.r#type),
            "to" => ("to", &mut self.to),
            "from" => ("from", &mut self.from),
            "publicKey" => ("publicKey", &mut self.public_key),
            "proof" => ("proof", &mut self.proof),
            "alg" => ("alg", &mut self.alg),
            "signature" => ("signature", &mut self.signature),
            "sdp" => ("sdp", &mut self.sdp),
            "candidate" => ("candidate", &mut self.candidate),
            _ => return None,
        })
    }
}

struct Reader<'a>(&'a str);

impl<'a> DeserializeSeed<'a> for Reader<'a> {
    type Value = Members<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Members<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Reader<'a> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
        let mut members = Members::default();
        let mut in_one_piece = false;
        while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            let name = serde_json::from_str::<Name<'_>>(key.get()).map_err(A::Error::custom)?;
            if let Some((name, slot)) = members.slot(&name.0) {
                // Two readers could see two different messages.
                if slot.replace(value).is_some() {
                    return Err(A::Error::duplicate_field(name));
                }
            }
            let kept = !matches!(&*name.0, "type" | "to" | "from");
            if kept {
                let (start, end) = (self.offset(key.get()), self.offset(value.get()) + value.get().len());
                match members.rest.last_mut() {
                    Some(piece) if in_one_piece => piece.end = end,
                    _ => members.rest.push(start..end),
                }
            }
            in_one_piece = kept;
        }
        Ok(members)
    }
}

impl Reader<'_> {
    /// Where in the frame `part` of it begins.
    fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.0.as_ptr() as usize
    }
}

/// A name that stays in the frame unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
