//! Session tokens: JWTs (RFC 7519) that say who a socket belongs to, and the keys that sign them.

use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::limits::TOKEN_LEEWAY_SECONDS;

use crate::jws::{Audience, Jws};
use crate::secret::{self, Secret};
use crate::{SERVICE, check_name};

pub use crate::key::{Algorithm, KeyError, MIN_SECRET_BYTES, SecretRule, SigningKey};

/// Life of a session token, in seconds; the original's.
pub const TOKEN_LIFE_SECONDS: u64 = 300;

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
        let mut header = jsonwebtoken::Header::new(self.signer.algorithm().into());
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
        jws.check(key.algorithm(), &key.verifying)
    }

    /// Without `kid` only the shared secrets are tried, so a public key can never be taken for one.
    fn check_unnamed(&self, jws: &Jws<'_>) -> Result<(), TokenError> {
        let mut outcome = Err(TokenError::UnknownKey);
        for key in self.keys().filter(|key| key.algorithm() == Algorithm::Hs256) {
            outcome = jws.check(key.algorithm(), &key.verifying);
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

#[cfg(test)]
mod tests;
