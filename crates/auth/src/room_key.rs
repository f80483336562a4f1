//! Members of rooms that name themselves by a public key, and how they prove that the key is theirs.
//!
//! The name is a fingerprint that everybody can compute from the key, so that friends recognise each other by a list
//! of fingerprints. By itself it proves nothing, since public keys are public. Who signs a fresh [`nonce`] does prove it.

use std::fmt::{self, Write};

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rand::CryptoRng;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::jwk::{self, JwkError};

/// First line of what is signed: a signature for this purpose is good for no other.
const DOMAIN: &str = "heliograph-room-proof-v1";
const NONCE_BYTES: usize = 32;
const ED25519_BYTES: usize = 32;

/// The public key of a member of a room. Everything that can be wrong with it is checked when it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomKey {
    key: Key,
    /// As it came, for the others.
    text: String,
    /// The members that count.
    essential: Vec<(&'static str, String)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    /// An uncompressed point (SEC 1 section 2.3.3).
    Ec(Curve, Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl RoomKey {
    /// Reads a JWK (RFC 7517) from its text. X25519 and the like are refused: they agree on keys and sign nothing.
    ///
    /// What a JWK says of its own use (`use`, `key_ops`, `alg`) is not looked at, since it is no part of the name.
    pub fn parse(jwk: &[u8]) -> Result<Self, JwkError> {
        let jwk = str::from_utf8(jwk).map_err(|_| JwkError::NotAnObject)?.trim();
        let members = jwk::public_members(jwk)?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let (key, essential) = match (text("kty"), text("crv")) {
            (Some("EC"), Some(name)) => {
                let curve = Curve::named(name).ok_or(JwkError::NotForRooms)?;
                let key = curve.key(&jwk::bytes(&members, "x")?, &jwk::bytes(&members, "y")?)?;
                (key, ["kty", "crv", "x", "y"].as_slice())
            }
            (Some("OKP"), Some("Ed25519")) => {
                (ed25519(jwk::bytes(&members, "x")?)?, ["kty", "crv", "x"].as_slice())
            }
            (Some("RSA"), None) => {
                let (n, e) = jwk::rsa(&members)?;
                (Key::Rsa { n, e }, ["kty", "n", "e"].as_slice())
            }
            _ => return Err(JwkError::NotForRooms),
        };
        // Base64url without padding has one form only: the texts are as good as the bytes.
        let essential = essential.iter().filter_map(|&name| Some((name, text(name)?.to_owned()))).collect();
        Ok(Self { key, text: jwk.to_owned(), essential })
    }

    /// The name of its holder: SHA-256 of the essential members in the order of the rendezvous protocol, which is not
    /// that of RFC 7638; 64 lower-case hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(object(&self.essential)))
    }

    /// Its RFC 7638 thumbprint with SHA-256 in base64url (43 characters), by which enrolled keys are known.
    pub fn thumbprint(&self) -> String {
        let mut members = self.essential.clone();
        members.sort_unstable();
        URL_SAFE_NO_PAD.encode(Sha256::digest(object(&members)))
    }

    /// What the others in the room are shown, as JSON text: the key as it came, and whether it was `proven`.
    pub fn profile(&self, proven: bool) -> Bytes {
        let proven = if proven { r#","proven":true"# } else { "" };
        format!(r#"{{"publicKey":{}{proven}}}"#, self.text).into()
    }

    /// Whether `signature` (base64url text) proves to whoever gave out `nonce` that the key is that of whoever wants to
    /// be let into `room`. `algorithm` is a name of JOSE: see the protocol page of rendezvous.
    pub fn verify(&self, algorithm: &str, signature: &str, nonce: &str, room: &str) -> bool {
        let signed = signed_text(nonce, room, &self.fingerprint());
        URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|signature| self.verifies(algorithm, signed.as_bytes(), &signature))
    }

    /// Whether `signature` is one of `message` with this key. `algorithm` is its name in JOSE (RFC 7518, RFC 8037);
    /// each type of key has its own, RSA has two. ECDSA signatures are r and s one after the other, as WebCrypto
    /// makes them.
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match (&self.key, algorithm) {
            (Key::Ec(curve, point), name) if name == curve.algorithm().0 => {
                UnparsedPublicKey::new(curve.algorithm().1, point).verify(message, signature)
            }
            (Key::Ed25519(key), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Key::Rsa { n, e }, "RS256") => {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Key::Rsa { n, e }, "PS256") => {
                PublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            _ => return false,
        };
        outcome.is_ok()
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomKey({})", self.fingerprint())
    }
}

impl Curve {
    fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    /// Bytes of one coordinate (RFC 7518 section 6.2.1.2).
    fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The one signature algorithm of keys on this curve (RFC 7518 section 3.4).
    fn algorithm(self) -> (&'static str, &'static EcdsaVerificationAlgorithm) {
        match self {
            Self::P256 => ("ES256", &ECDSA_P256_SHA256_FIXED),
            Self::P384 => ("ES384", &ECDSA_P384_SHA384_FIXED),
            Self::P521 => ("ES512", &ECDSA_P521_SHA512_FIXED),
        }
    }

    fn key(self, x: &[u8], y: &[u8]) -> Result<Key, JwkError> {
        let fits = |name, bytes: &[u8]| {
            if bytes.len() == self.coordinate_bytes() { Ok(()) } else { Err(JwkError::WrongLength(name)) }
        };
        fits("x", x)?;
        fits("y", y)?;
        let point = [&[0x04], x, y].concat();
        ParsedPublicKey::new(self.algorithm().1, &point).map_err(|_| JwkError::NotOnCurve)?;
        Ok(Key::Ec(self, point))
    }
}

/// The library that verifies takes any 32 bytes, so the curve is asked itself. A point of small order is no key: with
/// some of them everybody can sign.
fn ed25519(key: Vec<u8>) -> Result<Key, JwkError> {
    if key.len() != ED25519_BYTES {
        return Err(JwkError::WrongLength("x"));
    }
    let point = CompressedEdwardsY::from_slice(&key).ok().and_then(|bytes| bytes.decompress());
    match point {
        Some(point) if !point.is_small_order() => Ok(Key::Ed25519(key)),
        _ => Err(JwkError::NotOnCurve),
    }
}

/// A fresh question for one socket and one attempt: 43 characters. Whoever asked it forgets it with the first answer,
/// right or wrong.
pub fn nonce<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    URL_SAFE_NO_PAD.encode(nonce)
}

/// Four lines. None can hold a line break, so no two questions have the same text.
fn signed_text(nonce: &str, room: &str, fingerprint: &str) -> String {
    format!("{DOMAIN}\n{room}\n{fingerprint}\n{nonce}")
}

/// As `JSON.stringify` has it. Neither base64url nor names of curves need escaping.
fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, text)| format!(r#""{name}":"{text}""#)).collect();
    format!("{{{}}}", members.join(","))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
