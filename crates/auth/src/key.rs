//! Keys that sign session tokens, each with its one algorithm.

use std::fmt;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};

use crate::assertion::PublicKeyJwk;
use crate::check_name;
use crate::secret::Secret;

/// Least length of a secret for HS256, in bytes (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Why a key cannot be used. No variant holds any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A shared secret must be longer.
    #[error("the signing secret must have at least {MIN_SECRET_BYTES} bytes")]
    SecretTooShort,
    /// A shared secret must not be empty, whatever else is allowed.
    #[error("the signing secret must not be empty")]
    SecretEmpty,
    /// A key file stands where a secret belongs.
    #[error("the signing secret is a PEM file; configure it as a signing key")]
    SecretIsPem,
    /// The text is not a private key that is supported.
    #[error(
        "not an unencrypted PKCS#8 `PRIVATE KEY` for Ed25519 or P-256 \
         (make one with `openssl genpkey -algorithm ed25519`)"
    )]
    NotAKey,
    /// The key id is not a name.
    #[error("a key id must be a name of at most 128 bytes without quotes or control characters")]
    BadKeyId,
    /// Two keys have one id.
    #[error("two signing keys have the same id")]
    DuplicateKeyId,
    /// The library refused to sign.
    #[error("signing failed")]
    Signing,
}

/// The signature algorithms of tokens. Each key has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: session tokens only.
    Hs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on Curve25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256: device assertions only.
    Rs256,
}

impl Algorithm {
    /// Its name in JWT headers and JWKs (RFC 7518, RFC 8037).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// Whether a header or JWK that says `name` means this one. RFC 9864 renamed EdDSA by its curve; ours has
    /// one curve only, so both names mean the same.
    pub(crate) fn is_named(self, name: &str) -> bool {
        name == self.as_str() || (self == Self::EdDsa && name == "Ed25519")
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Es256 => Self::ES256,
            Algorithm::EdDsa => Self::EdDSA,
            Algorithm::Rs256 => Self::RS256,
        }
    }
}

/// Which shared secrets are good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretRule {
    /// At least [`MIN_SECRET_BYTES`].
    Strong,
    /// Any that is not empty: for installations that move over from the original with their old secret.
    AllowShort,
}

/// A key that signs and verifies session tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    pub(crate) verifying: DecodingKey,
    /// Id and public half; a shared secret has neither.
    published: Option<(String, PublicKeyJwk)>,
}

impl SigningKey {
    /// A shared secret, for HS256. Its tokens have no `kid`, as the original's.
    pub fn from_secret(secret: &Secret, rule: SecretRule) -> Result<Self, KeyError> {
        let bytes = secret.expose().as_bytes();
        if bytes.is_empty() {
            return Err(KeyError::SecretEmpty);
        }
        // Above all a *public* key must never become a secret.
        if secret.expose().contains("-----BEGIN ") {
            return Err(KeyError::SecretIsPem);
        }
        if rule == SecretRule::Strong && bytes.len() < MIN_SECRET_BYTES {
            return Err(KeyError::SecretTooShort);
        }
        Ok(Self {
            algorithm: Algorithm::Hs256,
            private: EncodingKey::from_secret(bytes),
            verifying: DecodingKey::from_secret(bytes),
            published: None,
        })
    }

    /// A private key, Ed25519 (EdDSA) or P-256 (ES256), from the text of an unencrypted PKCS#8 PEM file. `kid` is
    /// the id by which tokens name it.
    pub fn from_pem(kid: &str, pem: &str) -> Result<Self, KeyError> {
        check_name(kid).map_err(|_| KeyError::BadKeyId)?;
        let (algorithm, private, public) = ed25519(pem).or_else(|| p256(pem)).ok_or(KeyError::NotAKey)?;
        let verifying = public.decoding_key();
        Ok(Self { algorithm, private, verifying, published: Some((kid.to_owned(), public)) })
    }

    /// The one algorithm that it signs and verifies with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its id; a shared secret has none.
    pub fn kid(&self) -> Option<&str> {
        self.published.as_ref().map(|(kid, _)| kid.as_str())
    }

    pub(crate) fn jwk(&self) -> Option<Value> {
        let (kid, public) = self.published.as_ref()?;
        let mut jwk = public.to_value();
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(self.algorithm.as_str());
        jwk["use"] = json!("sig");
        Some(jwk)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

fn ed25519(pem: &str) -> Option<(Algorithm, EncodingKey, PublicKeyJwk)> {
    let private = EncodingKey::from_ed_pem(pem.as_bytes()).ok()?;
    let public_of = DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key;
    let x = public_of(private.as_bytes(), &EllipticCurve::Ed25519).ok()?;
    Some((Algorithm::EdDsa, private, PublicKeyJwk::ed25519(&x)?))
}

fn p256(pem: &str) -> Option<(Algorithm, EncodingKey, PublicKeyJwk)> {
    let private = EncodingKey::from_ec_pem(pem.as_bytes()).ok()?;
    let public_of = DEFAULT_PROVIDER.key_utils.ec_pub_components_from_private_key;
    let (_, x, y) = public_of(private.as_bytes(), jsonwebtoken::Algorithm::ES256).ok()?;
    Some((Algorithm::Es256, private, PublicKeyJwk::p256(&x, &y)?))
}
