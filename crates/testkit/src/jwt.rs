//! Tokens made by hand, good and bad ones.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use heliograph_auth::token::{KeySet, SigningKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// For `HELIOGRAPH_SIGNING_SECRET`.
pub const SECRET: &str = "a secret of the test kit, long enough for HS256";

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The claims of a token as the original makes them, good for `seconds` from now.
pub fn claims(peer: &str, seconds: i64) -> Value {
    json!({ "sub": peer, "role": "agent", "iat": now(), "exp": now().saturating_add_signed(seconds) })
}

/// A token as the original makes it, signed with [`SECRET`].
pub fn hand_signed(peer: &str) -> String {
    signed(&claims(peer, 300), SECRET, Algorithm::HS256)
}

/// A token with any claims, signed with a shared secret.
pub fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap_or_else(|error| panic!("{error}"))
}

/// A token that says of itself that it needs no signature.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(claims))
}

/// A device's pair of keys.
pub struct DeviceKey {
    pem: String,
    /// The public half, as it is enrolled.
    pub public: Value,
}

impl DeviceKey {
    /// The Ed25519 key whose seed is `number` 32 times.
    pub fn new(number: u8) -> Self {
        // RFC 8410 section 7: version 0, id-Ed25519, the seed in an octet string.
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let der = [head.as_slice(), &[number; 32]].concat();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
        let key = SigningKey::from_pem("device", &pem).unwrap_or_else(|error| panic!("{error}"));
        let keys = KeySet::new(key, vec![]).unwrap_or_else(|error| panic!("{error}")).jwks();
        let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": keys["keys"][0]["x"] });
        Self { pem, public }
    }

    /// An assertion that `peer` makes, under the id `jti`.
    pub fn assertion(&self, peer: &str, jti: &str) -> String {
        let claims = json!({ "sub": peer, "aud": "heliograph", "iat": now(), "exp": now() + 60, "jti": jti });
        let header = Header::new(Algorithm::EdDSA);
        jsonwebtoken::encode(&header, &claims, &self.private()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A signature of `text`, in base64url.
    pub fn sign(&self, text: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &self.private(), Algorithm::EdDSA);
        signature.unwrap_or_else(|error| panic!("{error}"))
    }

    fn private(&self) -> EncodingKey {
        EncodingKey::from_ed_pem(self.pem.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }
}
