//! The outer shape of a JWT: three parts, a header, a signature (RFC 7515, compact form).
//!
//! The parts are taken apart here and not by the library's `decode`, for three reasons: that reads the system's
//! clock, it follows the header's idea of the algorithm until told otherwise, and it cannot tell an unknown
//! algorithm from a broken header. The library still does all the cryptography.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use heliograph_core::limits::MAX_CREDENTIAL_BYTES;

use crate::token::{Algorithm, TokenError};

/// A JWT taken apart. Nothing of it is to be believed before [`Jws::check`].
pub(crate) struct Jws<'a> {
    pub(crate) header: Header,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The part of the header that is read. `jku`, `x5u`, `x5c` and `jwk` would let the sender say which key to
/// believe: they have no field here, so nothing can honour them.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    // Names extensions that must be understood; we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

impl<'a> Jws<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = object(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        Ok(Self { header, signed, payload, signature })
    }

    /// Checks the signature with a key whose algorithm is fixed; the header may only agree.
    pub(crate) fn check(&self, algorithm: Algorithm, key: &DecodingKey) -> Result<(), TokenError> {
        if !algorithm.is_named(&self.header.alg) {
            return Err(TokenError::WrongAlgorithm);
        }
        match jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm.into()) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(TokenError::BadSignature),
        }
    }

    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Result<T, TokenError> {
        object(self.payload)
    }
}

fn object<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    // Serde would read an array as a struct too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// `aud`: one or several (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(crate) fn includes(&self, who: &str) -> bool {
        match self {
            Self::One(one) => one == who,
            Self::Several(several) => several.iter().any(|one| one == who),
        }
    }
}
