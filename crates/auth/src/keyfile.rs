//! The original's `api_keys.json`: `{"keys": {"ak_…": {"peer_id": …, "role": …, "mesh": …}}}`.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use heliograph_core::id::{InvalidName, MeshName, PeerId};
use heliograph_core::limits::MAX_CREDENTIAL_BYTES;

use crate::check_name;
use crate::secret::Secret;

/// A key of the file.
#[derive(Debug)]
pub struct KeyEntry {
    /// The API key.
    pub secret: Secret,
    /// The peer that it stands for.
    pub peer: PeerId,
    /// Its role.
    pub role: String,
    /// Its mesh; `default` where the file names none.
    pub mesh: MeshName,
}

/// Why a key file cannot be used. Entries are named by their position from 1; no key's text is ever in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not JSON, or not an object with an object `keys`.
    #[error(
        "not a key file: at line {line}, column {column}; \
         expected {{\"keys\": {{\"ak_…\": {{\"peer_id\": …, \"role\": …}}}}}}"
    )]
    NotAKeyFile {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An entry is wrong.
    #[error("key {position} of the file: {problem}")]
    Entry {
        /// Which entry, from 1, in the order of the file.
        position: usize,
        /// What is wrong with it.
        problem: EntryProblem,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// The key cannot be sent in a header.
    #[error("the key itself must be 1 to {MAX_CREDENTIAL_BYTES} visible ASCII characters")]
    BadKey,
    /// The key stood there before.
    #[error("the same key stands in the file twice")]
    Twice,
    /// The entry is not an object.
    #[error("must be an object with `peer_id` and `role`")]
    NotAnObject,
    /// A member is absent.
    #[error("lacks `{0}`")]
    Missing(&'static str),
    /// A member is not a text.
    #[error("`{0}` must be a text")]
    NotText(&'static str),
    /// A member is not a name.
    #[error("`{0}` {1}")]
    BadName(&'static str, InvalidName),
}

/// Reads the text of a key file, in the order of the file.
///
/// An entry without `peer_id` or `role` is an error. The original skipped it without a word, and its operator
/// found out when the device could not connect.
pub fn parse_key_file(text: &str) -> Result<Vec<KeyEntry>, KeyFileError> {
    // Of serde's error only the place is kept: its text quotes the file.
    let file: File = serde_json::from_str(text)
        .map_err(|error| KeyFileError::NotAKeyFile { line: error.line(), column: error.column() })?;
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(file.keys.0.len());
    for (index, (secret, value)) in file.keys.0.into_iter().enumerate() {
        let first = seen.insert(Sha256::digest(secret.expose()));
        let entry = if first { read_entry(secret, &value) } else { Err(EntryProblem::Twice) };
        entries.push(entry.map_err(|problem| KeyFileError::Entry { position: index + 1, problem })?);
    }
    Ok(entries)
}

fn read_entry(secret: Secret, value: &Value) -> Result<KeyEntry, EntryProblem> {
    let length = secret.expose().len();
    let visible = secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if length == 0 || length > MAX_CREDENTIAL_BYTES || !visible {
        return Err(EntryProblem::BadKey);
    }
    let members = value.as_object().ok_or(EntryProblem::NotAnObject)?;
    let named = |name, problem| EntryProblem::BadName(name, problem);
    let peer = member(members, "peer_id")?.ok_or(EntryProblem::Missing("peer_id"))?;
    let role = member(members, "role")?.ok_or(EntryProblem::Missing("role"))?;
    check_name(role).map_err(|problem| named("role", problem))?;
    let mesh = member(members, "mesh")?.map_or_else(|| Ok(MeshName::default_mesh()), MeshName::parse);
    Ok(KeyEntry {
        secret,
        peer: PeerId::parse(peer).map_err(|problem| named("peer_id", problem))?,
        role: role.to_owned(),
        mesh: mesh.map_err(|problem| named("mesh", problem))?,
    })
}

fn member<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, EntryProblem> {
    members.get(name).map(|value| value.as_str().ok_or(EntryProblem::NotText(name))).transpose()
}

#[derive(Deserialize)]
struct File {
    keys: Entries,
}

/// The entries in the order of the file, repeated ones too, which a map would lose.
struct Entries(Vec<(Secret, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    entries.push((Secret::new(key), value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests;
