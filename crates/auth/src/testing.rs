//! What the tests of this crate share: keys made from numbers, and tokens made by hand.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::token::Algorithm;

/// Some moment, in seconds since the Unix epoch; that of the tokens recorded from other programs.
pub(crate) const NOW: u64 = 1_795_252_443;

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A private Ed25519 key as a PKCS#8 file; the seed is `number` 32 times.
pub(crate) fn ed25519_pem(number: u8) -> String {
    // RFC 8410 section 7: version 0, id-Ed25519, the seed in an octet string.
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pem(&[head.as_slice(), &[number; 32]].concat())
}

/// A private P-256 key as a PKCS#8 file without the public half; the scalar is `number` 32 times.
pub(crate) fn p256_pem(number: u8) -> String {
    // RFC 5208 and RFC 5915: version 0, id-ecPublicKey on prime256v1, an ECPrivateKey of version 1.
    let head = [
        0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20,
    ];
    pem(&[head.as_slice(), &[number; 32]].concat())
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

pub(crate) fn private(algorithm: Algorithm, pem: &str) -> EncodingKey {
    match algorithm {
        Algorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
        Algorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
        other => panic!("no test has a key of {other:?}"),
    }
}

/// A token with any header and any claims, signed as told.
pub(crate) fn forge(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = unsigned(header, claims);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm.into()).unwrap();
    format!("{signed}.{signature}")
}

pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", b64(header), b64(claims))
}

pub(crate) fn b64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
