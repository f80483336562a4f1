//! Session tokens signed by hand: ten thousand exchanges before a run would only warm the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::peers::Peer;

/// Life of a token, in seconds: longer than any run.
const LIFE_SECONDS: u64 = 3600;

/// A token (JWT, HS256) for `peer`, signed with `secret`.
pub fn sign(peer: &Peer, secret: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    sign_at(peer, secret, now)
}

fn sign_at(peer: &Peer, secret: &str, now: u64) -> anyhow::Result<String> {
    let claims = serde_json::json!({
        "sub": peer.id, "role": "agent", "mesh": peer.mesh, "iat": now, "exp": now + LIFE_SECONDS,
    });
    let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut token);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_jwt() {
        let peer = Peer { id: "p1".into(), mesh: "m1".into() };
        let token = sign_at(&peer, "secret", 1_000).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let expected =
            serde_json::json!({"sub": "p1", "role": "agent", "mesh": "m1", "iat": 1_000, "exp": 4_600});
        assert_eq!(claims, expected);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 32);
        assert_ne!(token, sign_at(&peer, "other", 1_000).unwrap());
    }
}
