//! Session tokens: JWTs (RFC 7519) that say who a socket belongs to, and the keys that sign them.

use std::fmt;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::limits::TOKEN_LEEWAY_SECONDS;

use crate::assertion::PublicKeyJwk;
use crate::jws::{Audience, Jws};
use crate::secret::{self, Secret};
use crate::{SERVICE, check_name};

/// Life of a session token, in seconds; the original's.
pub const TOKEN_LIFE_SECONDS: u64 = 300;
/// Least length of a secret for HS256, in bytes (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Why a token is not believed. No variant holds any part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is too long, not three parts of base64url, or its JSON is not what a JWT has.
    #[error("the token is malformed")]
    Malformed,
    /// No key has its `kid`; or it has none, and there is no shared secret.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// Its header names another algorithm than its key has.
    #[error("the token names another algorithm than its key has")]
    WrongAlgorithm,
    /// The signature does not fit.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It will be good later; or was issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It would be good for longer than is allowed.
    #[error("the token lives too long")]
    LivesTooLong,
    /// It is meant for somebody else.
    #[error("the token is for another audience")]
    WrongAudience,
    /// It was issued by somebody else.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// A claim is absent.
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(&'static str),
    /// `sub`, `mesh`, `role` or `jti` is not a name.
    #[error("the token holds an invalid name")]
    BadName,
}

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
    private: EncodingKey,
    verifying: DecodingKey,
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

    fn jwk(&self) -> Option<Value> {
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

/// The keys of the installation: one signs, all verify.
///
/// To rotate: add the new key beside the old one on every node, let the new one sign, and take the old one away
/// when its last token has expired ([`TOKEN_LIFE_SECONDS`]).
#[derive(Debug)]
pub struct KeySet {
    signer: SigningKey,
    others: Vec<SigningKey>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: whose token it is.
    pub peer: PeerId,
    /// `role`, as the key or pairing had it.
    pub role: String,
    /// `mesh`; tokens without it are for the default one.
    pub mesh: MeshName,
    /// `iat`, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// `exp`, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// `jti`; tokens signed by hand have none.
    pub id: Option<String>,
    /// `ver`: the version of the pairing state at issue; tokens signed by hand have none.
    pub version: Option<Version>,
}

/// For whom a token is to be issued.
#[derive(Debug, Clone)]
pub struct Grant<'a> {
    /// The peer.
    pub peer: &'a PeerId,
    /// Its role.
    pub role: &'a str,
    /// Its mesh.
    pub mesh: &'a MeshName,
    /// The version of the pairing state under which it was found authorized.
    pub version: Version,
}

/// The claims as we write them.
#[derive(Serialize)]
struct Written<'a> {
    sub: &'a str,
    role: &'a str,
    mesh: &'a str,
    exp: u64,
    iat: u64,
    iss: &'static str,
    aud: &'static str,
    jti: String,
    ver: u64,
}

/// The claims as they may come: tokens signed by hand for the original carry `sub`, `role`, `exp`, `iat` only.
#[derive(Deserialize)]
struct Read {
    sub: Option<String>,
    role: Option<String>,
    mesh: Option<String>,
    exp: Option<u64>,
    iat: Option<u64>,
    nbf: Option<u64>,
    iss: Option<String>,
    aud: Option<Audience>,
    jti: Option<String>,
    ver: Option<u64>,
}

impl KeySet {
    /// A set in which `signer` signs, and `others` only verify.
    pub fn new(signer: SigningKey, others: Vec<SigningKey>) -> Result<Self, KeyError> {
        let set = Self { signer, others };
        let mut kids: Vec<_> = set.keys().filter_map(SigningKey::kid).collect();
        let named = kids.len();
        kids.sort_unstable();
        kids.dedup();
        if kids.len() < named {
            return Err(KeyError::DuplicateKeyId);
        }
        Ok(set)
    }

    /// Issues a token at `now` (seconds since the Unix epoch) for [`TOKEN_LIFE_SECONDS`].
    pub fn issue<R: CryptoRng + ?Sized>(
        &self,
        grant: &Grant<'_>,
        now: u64,
        rng: &mut R,
    ) -> Result<Secret, KeyError> {
        let claims = Written {
            sub: grant.peer.as_str(),
            role: grant.role,
            mesh: grant.mesh.as_str(),
            exp: now.saturating_add(TOKEN_LIFE_SECONDS),
            iat: now,
            iss: SERVICE,
            aud: SERVICE,
            jti: secret::token_id(rng),
            ver: grant.version.0,
        };
        let mut header = jsonwebtoken::Header::new(self.signer.algorithm.into());
        header.kid = self.signer.kid().map(str::to_owned);
        let token =
            jsonwebtoken::encode(&header, &claims, &self.signer.private).map_err(|_| KeyError::Signing)?;
        Ok(Secret::new(token))
    }

    /// Verifies a token at `now` (seconds since the Unix epoch). The signature comes first: nothing is said
    /// about the claims of a token that somebody else wrote.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let jws = Jws::parse(token)?;
        match &jws.header.kid {
            Some(kid) => self.check_named(&jws, kid)?,
            None => self.check_unnamed(&jws)?,
        }
        jws.claims::<Read>()?.check(now)
    }

    /// The public keys as a JWK set (RFC 7517 section 5); shared secrets are not in it.
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys().filter_map(SigningKey::jwk).collect::<Vec<_>>() })
    }

    fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.signer).chain(&self.others)
    }

    fn check_named(&self, jws: &Jws<'_>, kid: &str) -> Result<(), TokenError> {
        let key = self.keys().find(|key| key.kid() == Some(kid)).ok_or(TokenError::UnknownKey)?;
        jws.check(key.algorithm, &key.verifying)
    }

    /// Without `kid` only the shared secrets are tried, so a public key can never be taken for one.
    fn check_unnamed(&self, jws: &Jws<'_>) -> Result<(), TokenError> {
        let mut outcome = Err(TokenError::UnknownKey);
        for key in self.keys().filter(|key| key.algorithm == Algorithm::Hs256) {
            outcome = jws.check(key.algorithm, &key.verifying);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

impl Read {
    fn check(self, now: u64) -> Result<Claims, TokenError> {
        let sub = self.sub.ok_or(TokenError::MissingClaim("sub"))?;
        let role = self.role.ok_or(TokenError::MissingClaim("role"))?;
        let expires_at = self.exp.ok_or(TokenError::MissingClaim("exp"))?;
        let issued_at = self.iat.ok_or(TokenError::MissingClaim("iat"))?;
        check_times(expires_at, self.nbf, now)?;
        if self.iss.is_some_and(|iss| iss != SERVICE) {
            return Err(TokenError::WrongIssuer);
        }
        if self.aud.is_some_and(|aud| !aud.includes(SERVICE)) {
            return Err(TokenError::WrongAudience);
        }
        check_name(&role).map_err(|_| TokenError::BadName)?;
        Ok(Claims {
            peer: PeerId::parse(&sub).map_err(|_| TokenError::BadName)?,
            role,
            mesh: mesh_or_default(self.mesh.as_deref())?,
            issued_at,
            expires_at,
            id: self.jti,
            version: self.ver.map(Version),
        })
    }
}

/// Whether `now` lies before `exp` and not before `nbf`, clocks being [`TOKEN_LEEWAY_SECONDS`] apart at most.
pub(crate) fn check_times(exp: u64, nbf: Option<u64>, now: u64) -> Result<(), TokenError> {
    if now >= exp.saturating_add(TOKEN_LEEWAY_SECONDS) {
        return Err(TokenError::Expired);
    }
    if nbf.is_some_and(|nbf| nbf > now.saturating_add(TOKEN_LEEWAY_SECONDS)) {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

pub(crate) fn mesh_or_default(mesh: Option<&str>) -> Result<MeshName, TokenError> {
    mesh.map_or_else(|| Ok(MeshName::default_mesh()), MeshName::parse).map_err(|_| TokenError::BadName)
}
