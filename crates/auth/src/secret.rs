//! Secrets: how they are held, hashed, made and read back from people.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use heliograph_core::id::{GatewayId, PeerId};

/// A keyed hash of a secret. Equal secrets of one purpose have equal hashes, so it can be looked up.
pub type SecretHash = [u8; 32];

/// Crockford's base32: no `I`, `L`, `O`, `U`, so that nothing is misread or spells a word.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Ten characters are 50 bits, the least that withstands guessing under the rate limits.
const BASE32_LENGTH: usize = 10;
const DIGITS_LENGTH: usize = 6;
/// Room for a code with separators between all of its characters, and more; longer texts are not looked at.
const MAX_TYPED_BYTES: usize = 64;

/// A text that must not be seen: wiped when dropped, shown as dots. Not `Clone`, so that copies are deliberate.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text. The name is meant to be noticed in review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the same text, in time that depends on nothing but the lengths.
    pub fn matches(&self, candidate: &str) -> bool {
        same(self.0.as_bytes(), candidate.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// Whether two byte strings are equal, in time that depends on nothing but the lengths.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// What a secret is for. The same text has another hash for each purpose, so a stored hash of one kind never
/// answers a look-up of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `ak_…`, the key of an administrator or an agent.
    ApiKey,
    /// `dt_…`, what a paired device shows.
    DeviceToken,
    /// `ct_…`, with which a waiting device asks for its status.
    ClaimToken,
    /// What people type to pair.
    InviteCode,
    /// The id of an assertion, which is good once.
    Assertion,
}

impl Purpose {
    // Part of every stored hash: a change makes all stored secrets unknown.
    fn label(self) -> &'static [u8] {
        match self {
            Self::ApiKey => b"heliograph/api-key",
            Self::DeviceToken => b"heliograph/device-token",
            Self::ClaimToken => b"heliograph/claim-token",
            Self::InviteCode => b"heliograph/invite-code",
            Self::Assertion => b"heliograph/assertion",
        }
    }
}

/// Hashes secrets with the key of the installation (HMAC-SHA-256, RFC 2104), which all of its nodes share.
///
/// The key makes a stolen table of hashes useless for the short secrets too: six digits would otherwise be found
/// by trying them all.
pub struct Hasher(Zeroizing<[u8; 32]>);

impl Hasher {
    /// A hasher with this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A hasher with a key as stores keep it; `None` unless it has 32 bytes.
    pub fn from_stored(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(Self::new)
    }

    /// A key for a new installation.
    pub fn new_key<R: CryptoRng + ?Sized>(rng: &mut R) -> [u8; 32] {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        key
    }

    /// The hash of a secret. A code is hashed in its normalized form ([`NormalizedCode::expose`]).
    pub fn hash(&self, purpose: Purpose, secret: &str) -> SecretHash {
        // Filled up with zeros to a block of SHA-256, as RFC 2104 does itself; this constructor cannot fail.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        mac.update(purpose.label());
        mac.update(&[0]); // ends the label: no label with a secret reads as another label with another secret
        mac.update(secret.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(•••)")
    }
}

/// A new API key: `ak_` and 128 random bits.
pub fn api_key<R: CryptoRng + ?Sized>(rng: &mut R) -> Secret {
    Secret::new(random::<16>("ak_", rng))
}

/// A public id for an API key: `key_` and 12 hexadecimal digits. Random, so that it tells nothing about the key.
pub fn api_key_id<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    random::<6>("key_", rng)
}

/// A new device token: `dt_` and 128 random bits, as the original's.
pub fn device_token<R: CryptoRng + ?Sized>(rng: &mut R) -> Secret {
    Secret::new(random::<16>("dt_", rng))
}

/// A new claim token: `ct_` and 128 random bits.
pub fn claim_token<R: CryptoRng + ?Sized>(rng: &mut R) -> Secret {
    Secret::new(random::<16>("ct_", rng))
}

/// The random part of a token that resumes a session: `rt_` and 128 random bits.
pub fn resume_token<R: CryptoRng + ?Sized>(rng: &mut R) -> Secret {
    Secret::new(random::<16>("rt_", rng))
}

/// An id for a pairing: 12 hexadecimal digits (the original had 8).
pub fn pairing_id<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    random::<6>("", rng)
}

/// A public id for an invite: `inv_` and 12 hexadecimal digits.
pub fn invite_id<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    random::<6>("inv_", rng)
}

/// An id for a token (`jti`): 32 hexadecimal digits.
pub fn token_id<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    random::<16>("", rng)
}

/// An id for a paired peer: `agent-` and 12 hexadecimal digits (the original had 6).
pub fn peer_id<R: CryptoRng + ?Sized>(rng: &mut R) -> PeerId {
    #[expect(clippy::expect_used, reason = "a short prefix and hexadecimal digits are a name")]
    PeerId::parse(&random::<6>("agent-", rng)).expect("a name")
}

/// An id for a gateway, new at each boot: `gw-` and 12 hexadecimal digits.
pub fn gateway_id<R: CryptoRng + ?Sized>(rng: &mut R) -> GatewayId {
    #[expect(clippy::expect_used, reason = "a short prefix and hexadecimal digits are a name")]
    GatewayId::parse(&random::<6>("gw-", rng)).expect("a name")
}

fn random<const BYTES: usize>(prefix: &str, rng: &mut (impl CryptoRng + ?Sized)) -> String {
    let mut bytes = Zeroizing::new([0; BYTES]);
    rng.fill_bytes(&mut *bytes);
    // Reserved in full, so that no buffer that was outgrown keeps a part of the secret; the same holds below.
    let mut text = String::with_capacity(prefix.len() + 2 * BYTES);
    text.push_str(prefix);
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
        text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
    }
    text
}

/// How a new invite code looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeFormat {
    /// `XXXXX-XXXXX`, 50 bits.
    #[default]
    Base32,
    /// Six digits, as the original's: 20 bits, for short lives and few uses.
    Digits,
}

/// Why a text cannot be an invite code. Says nothing about whether a well-formed one is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is 10 letters and digits (such as XXXXX-XXXXX) or 6 digits")]
pub struct CodeError;

/// An invite code in its one normalized form: ten characters of Crockford's base32, or six digits.
pub struct NormalizedCode(Secret);

impl NormalizedCode {
    /// A new code.
    pub fn generate<R: CryptoRng + ?Sized>(format: CodeFormat, rng: &mut R) -> Self {
        Self(Secret::new(match format {
            CodeFormat::Base32 => base32(rng.next_u64()),
            CodeFormat::Digits => format!("{:06}", rng.random_range(0..1_000_000_u32)),
        }))
    }

    /// The normalized form, which is what gets hashed.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The form for people: `XXXXX-XXXXX`, or the six digits.
    pub fn shown(&self) -> Secret {
        match self.expose().split_at_checked(BASE32_LENGTH / 2) {
            Some((head, tail)) if tail.len() == head.len() => Secret::new(format!("{head}-{tail}")),
            _ => Secret::new(self.expose()),
        }
    }
}

impl fmt::Debug for NormalizedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NormalizedCode(•••)")
    }
}

fn base32(mut bits: u64) -> String {
    let mut text = String::with_capacity(BASE32_LENGTH);
    for _ in 0..BASE32_LENGTH {
        text.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

/// Reads a code as people type it: letters in any case, with hyphens and white space anywhere, `O` for `0`, `I`
/// and `L` for `1` (Crockford). The original's six digits pass as they are.
pub fn normalize_code(typed: &str) -> Result<NormalizedCode, CodeError> {
    if typed.len() > MAX_TYPED_BYTES {
        return Err(CodeError);
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_TYPED_BYTES));
    text.extend(typed.chars().filter(|c| *c != '-' && !c.is_whitespace()));
    let code = match text.len() {
        DIGITS_LENGTH if text.bytes().all(|byte| byte.is_ascii_digit()) => text,
        BASE32_LENGTH => read_base32(&text).ok_or(CodeError)?,
        _ => return Err(CodeError),
    };
    Ok(NormalizedCode(Secret(code)))
}

fn read_base32(text: &str) -> Option<Zeroizing<String>> {
    let mut code = Zeroizing::new(String::with_capacity(BASE32_LENGTH));
    for byte in text.bytes() {
        let read = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        ALPHABET.contains(&read).then(|| code.push(char::from(read)))?;
    }
    Some(code)
}

#[cfg(test)]
mod tests;
