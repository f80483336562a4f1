//! Devices that enrol with a public key, and the assertions by which they prove that they hold the private one.
//!
//! What is checked where: [`PublicKeyJwk::parse`] checks everything that can be seen in the text (type, curve,
//! lengths, RSA sizes and exponent, that no private member came along). Whether a point lies on its curve is
//! only found when the library verifies with it: its interface has no other entrance for public keys. Such a
//! key passes as text and then verifies nothing, so whoever enrols should show an assertion with it at once.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use heliograph_core::id::{MeshName, PeerId};
use heliograph_core::limits::TOKEN_LEEWAY_SECONDS;

use crate::jwk;
use crate::jws::{Audience, Jws};
use crate::token::{Algorithm, TokenError, check_times, mesh_or_default};
use crate::{SERVICE, check_name};

pub use crate::jwk::JwkError;

/// How far ahead the `exp` of an assertion may lie, in seconds: so long a `jti` has to be remembered.
pub const MAX_ASSERTION_SECONDS: u64 = 300;

const COORDINATE_BYTES: usize = 32;

/// The public key of a device.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKeyJwk(Key);

/// Members as the bytes that they stand for.
#[derive(Clone, PartialEq, Eq)]
enum Key {
    P256 { x: [u8; COORDINATE_BYTES], y: [u8; COORDINATE_BYTES] },
    Ed25519 { x: [u8; COORDINATE_BYTES] },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKeyJwk {
    /// Reads a JWK (RFC 7517) from its text.
    pub fn parse(text: &str) -> Result<Self, JwkError> {
        let members = jwk::public_members(text)?;
        let key = Self(Key::read(&members)?);
        check_intent(&members, key.algorithm())?;
        Ok(key)
    }

    /// A P-256 key from its coordinates; `None` unless both have 32 bytes.
    pub(crate) fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        Some(Self(Key::P256 { x: x.try_into().ok()?, y: y.try_into().ok()? }))
    }

    /// An Ed25519 key; `None` unless it has 32 bytes.
    pub(crate) fn ed25519(x: &[u8]) -> Option<Self> {
        Some(Self(Key::Ed25519 { x: x.try_into().ok()? }))
    }

    /// The one algorithm that signatures of this key may have.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Key::P256 { .. } => Algorithm::Es256,
            Key::Ed25519 { .. } => Algorithm::EdDsa,
            Key::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// The public members alone, in lexical order without white space: one key has one such text.
    pub fn canonical(&self) -> String {
        // Base64url needs no escaping. The order is that of RFC 7638 section 3.
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.0 {
            Key::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b64(x), b64(y))
            }
            Key::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x)),
            Key::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n)),
        }
    }

    /// The key's fingerprint: its RFC 7638 thumbprint with SHA-256, in base64url (43 characters).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.canonical()))
    }

    /// The public members as JSON.
    pub fn to_value(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.0 {
            Key::P256 { x, y } => json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}),
            Key::Ed25519 { x } => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(x)}),
            Key::Rsa { n, e } => json!({"kty": "RSA", "n": b64(n), "e": b64(e)}),
        }
    }

    pub(crate) fn decoding_key(&self) -> DecodingKey {
        match &self.0 {
            Key::P256 { x, y } => {
                // An uncompressed point (SEC 1 section 2.3.3).
                DecodingKey::from_ec_der(&[&[0x04], x.as_slice(), y.as_slice()].concat())
            }
            Key::Ed25519 { x } => DecodingKey::from_ed_der(x),
            Key::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
        }
    }
}

impl fmt::Debug for PublicKeyJwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKeyJwk({} {})", self.algorithm().as_str(), self.thumbprint())
    }
}

impl Key {
    fn read(members: &Map<String, Value>) -> Result<Self, JwkError> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => {
                Ok(Self::P256 { x: coordinate(members, "x")?, y: coordinate(members, "y")? })
            }
            (Some("OKP"), Some("Ed25519")) => Ok(Self::Ed25519 { x: coordinate(members, "x")? }),
            (Some("RSA"), None) => {
                let (n, e) = jwk::rsa(members)?;
                Ok(Self::Rsa { n, e })
            }
            _ => Err(JwkError::Unsupported),
        }
    }
}

fn coordinate(members: &Map<String, Value>, name: &'static str) -> Result<[u8; COORDINATE_BYTES], JwkError> {
    jwk::bytes(members, name)?.try_into().map_err(|_| JwkError::WrongLength(name))
}

/// What the JWK says of its own use, where it does, must fit (RFC 7517 sections 4.2 to 4.4).
fn check_intent(members: &Map<String, Value>, algorithm: Algorithm) -> Result<(), JwkError> {
    let fits = |name: &str, fit: &dyn Fn(&Value) -> bool| members.get(name).is_none_or(fit);
    if !fits("alg", &|alg| alg.as_str().is_some_and(|alg| algorithm.is_named(alg))) {
        return Err(JwkError::Unsupported);
    }
    let verifies = |ops: &Value| ops.as_array().is_some_and(|ops| ops.contains(&json!("verify")));
    if !fits("use", &|purpose| purpose == "sig") || !fits("key_ops", &verifies) {
        return Err(JwkError::NotForSignatures);
    }
    Ok(())
}

/// Whose assertion it claims to be. Not verified: good for nothing but looking up the key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedSubject {
    /// `sub`.
    pub peer: PeerId,
    /// `mesh`; without it the default one.
    pub mesh: MeshName,
}

/// What a verified assertion says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssertionClaims {
    /// `sub`: who signed.
    pub peer: PeerId,
    /// `mesh`; without it the default one.
    pub mesh: MeshName,
    /// `jti`. Whoever has seen it before `expires_at` and the leeway are over must refuse it.
    pub id: String,
    /// `iat`, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// `exp`, in seconds since the Unix epoch.
    pub expires_at: u64,
}

#[derive(Deserialize)]
struct Read {
    sub: Option<String>,
    mesh: Option<String>,
    aud: Option<Audience>,
    exp: Option<u64>,
    iat: Option<u64>,
    nbf: Option<u64>,
    jti: Option<String>,
}

/// Reads whose assertion it claims to be, to look up the key. Nothing is verified.
pub fn claimed_subject(jwt: &str) -> Result<ClaimedSubject, TokenError> {
    Jws::parse(jwt)?.claims::<Read>()?.subject()
}

/// Verifies an assertion at `now` (seconds since the Unix epoch) with the device's key: a JWT signed by it, with
/// `sub` (its peer id), `aud` ([`SERVICE`]), `exp` at most [`MAX_ASSERTION_SECONDS`] ahead, `iat` and `jti`.
/// The caller checks that `sub` is the key's owner and that the `jti` is new.
pub fn verify_assertion(jwt: &str, key: &PublicKeyJwk, now: u64) -> Result<AssertionClaims, TokenError> {
    let jws = Jws::parse(jwt)?;
    jws.check(key.algorithm(), &key.decoding_key())?;
    jws.claims::<Read>()?.check(now)
}

impl Read {
    fn subject(&self) -> Result<ClaimedSubject, TokenError> {
        let sub = self.sub.as_deref().ok_or(TokenError::MissingClaim("sub"))?;
        let peer = PeerId::parse(sub).map_err(|_| TokenError::BadName)?;
        Ok(ClaimedSubject { peer, mesh: mesh_or_default(self.mesh.as_deref())? })
    }

    fn check(self, now: u64) -> Result<AssertionClaims, TokenError> {
        let ClaimedSubject { peer, mesh } = self.subject()?;
        let aud = self.aud.ok_or(TokenError::MissingClaim("aud"))?;
        let expires_at = self.exp.ok_or(TokenError::MissingClaim("exp"))?;
        let issued_at = self.iat.ok_or(TokenError::MissingClaim("iat"))?;
        let id = self.jti.ok_or(TokenError::MissingClaim("jti"))?;
        if !aud.includes(SERVICE) {
            return Err(TokenError::WrongAudience);
        }
        // `iat` counts as a lower bound here: an assertion from the future is a wrong clock or a stockpile.
        check_times(expires_at, self.nbf.max(Some(issued_at)), now)?;
        if expires_at > now.saturating_add(MAX_ASSERTION_SECONDS + TOKEN_LEEWAY_SECONDS) {
            return Err(TokenError::LivesTooLong);
        }
        check_name(&id).map_err(|_| TokenError::BadName)?;
        Ok(AssertionClaims { peer, mesh, id, issued_at, expires_at })
    }
}

#[cfg(test)]
mod tests;
