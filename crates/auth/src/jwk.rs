//! What all public keys in JWK form (RFC 7517) have in common, whoever sends them and for whatever.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use heliograph_core::limits::MAX_CREDENTIAL_BYTES;

/// Members of private and secret keys (RFC 7518 section 6, RFC 8037 section 2).
pub(crate) const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Everyone's exponent is 65537; larger ones only slow the server down.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// Why a text is not a public key that can be used. No variant holds any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Longer than any key that is supported.
    #[error("the key is too long")]
    TooLong,
    /// Not a JSON object.
    #[error("the key is not a JSON object")]
    NotAnObject,
    /// A private key was sent.
    #[error("the key holds the private member `{0}`: send only the public half, and make a new key")]
    Private(&'static str),
    /// A member is absent, not a text, or not base64url without padding.
    #[error("the key's member `{0}` is missing or not base64url text")]
    BadMember(&'static str),
    /// Another type of key, curve or algorithm than a device may enrol with.
    #[error("the key must be EC P-256 (ES256), OKP Ed25519 (EdDSA) or RSA (RS256)")]
    Unsupported,
    /// Another type of key or curve than a member of a room may have.
    #[error("the key must be EC on P-256, P-384 or P-521, OKP Ed25519, or RSA")]
    NotForRooms,
    /// The key is not one for signatures.
    #[error("the key is not meant for signatures")]
    NotForSignatures,
    /// A coordinate has the wrong length.
    #[error("the key's member `{0}` has the wrong length")]
    WrongLength(&'static str),
    /// The coordinates are not those of a point that a key can have.
    #[error("the key is not a point on its curve")]
    NotOnCurve,
    /// The modulus is too small or too large, or even; the exponent is 1, even or very large.
    #[error("an RSA key must have 2048 to 8192 bits and a small odd exponent of at least 3")]
    BadRsa,
}

/// The members of a JWK that is not private; those that are neither a text nor a list of texts become null.
pub(crate) fn public_members(text: &str) -> Result<Map<String, Value>, JwkError> {
    if text.len() > MAX_CREDENTIAL_BYTES {
        return Err(JwkError::TooLong);
    }
    // Not into a `Value`: a string under serde_json's name for raw values is parsed once more by it, each time
    // with a fresh bound on depth, and a few kilobytes of such strings overflow the stack.
    let raw: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).map_err(|_| JwkError::NotAnObject)?;
    // First of all: whatever else is wrong, a sender of a private key has to hear it.
    match PRIVATE_MEMBERS.into_iter().find(|name| raw.contains_key(*name)) {
        Some(private) => Err(JwkError::Private(private)),
        None => Ok(raw.into_iter().map(|(name, raw)| (name, flat(&raw))).collect()),
    }
}

/// A string or a list of strings; anything else is of no use in a JWK and becomes null.
fn flat(raw: &RawValue) -> Value {
    let text = raw.get();
    serde_json::from_str::<String>(text)
        .map(Value::from)
        .or_else(|_| serde_json::from_str::<Vec<String>>(text).map(Value::from))
        .unwrap_or(Value::Null)
}

/// What stands in member `name`. The base64url of a number has one form only, so writing it again gives the same text.
pub(crate) fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, JwkError> {
    let text = members.get(name).and_then(Value::as_str).ok_or(JwkError::BadMember(name))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkError::BadMember(name))
}

/// Modulus and exponent of an RSA key that is neither weak nor a burden.
pub(crate) fn rsa(members: &Map<String, Value>) -> Result<(Vec<u8>, Vec<u8>), JwkError> {
    let (n, e) = (bytes(members, "n")?, bytes(members, "e")?);
    // Without leading zeros (RFC 7518 section 2), or one key would have several thumbprints.
    let minimal = |bytes: &[u8]| bytes.first().is_some_and(|first| *first != 0);
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last & 1 == 1);
    let good = minimal(&n)
        && minimal(&e)
        && odd(&n)
        && odd(&e)
        && RSA_BITS.contains(&bits(&n))
        && e.len() <= MAX_RSA_EXPONENT_BYTES
        && e != [1]; // everything is its own signature
    if good { Ok((n, e)) } else { Err(JwkError::BadRsa) }
}

/// Bits of a number without leading zero bytes.
pub(crate) fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
