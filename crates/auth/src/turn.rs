//! ICE servers, and credentials for TURN that expire by themselves (draft-uberti-behave-turn-rest-00).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use heliograph_core::id::PeerId;
use heliograph_core::message::IceServer;

use crate::secret::Secret;

/// How long a TURN credential may open new allocations, if nothing else is configured. Short, because the TURN
/// server does not hear of revocations.
pub const DEFAULT_TTL: Duration = Duration::from_mins(10);

/// The ICE servers of the installation.
#[derive(Debug)]
pub struct IceConfig {
    /// `stun:` URLs, given to whoever asks.
    pub stun_urls: Vec<String>,
    /// `turn:` and `turns:` URLs, given to authorized peers.
    pub turn_urls: Vec<String>,
    /// The secret shared with the TURN servers (coturn's `static-auth-secret`); without it there is no TURN.
    pub turn_secret: Option<Secret>,
    /// Life of a credential, in whole seconds.
    pub ttl: Duration,
}

impl Default for IceConfig {
    fn default() -> Self {
        Self { stun_urls: Vec::new(), turn_urls: Vec::new(), turn_secret: None, ttl: DEFAULT_TTL }
    }
}

impl IceConfig {
    /// The servers for a peer at `now_unix` (seconds since the Unix epoch); without a peer only STUN. The caller
    /// has made sure that the peer is authorized.
    pub fn servers_for(&self, peer: Option<&PeerId>, now_unix: u64) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun_urls.is_empty() {
            servers.push(IceServer { urls: self.stun_urls.clone(), username: None, credential: None });
        }
        servers.extend(peer.and_then(|peer| self.turn(peer, now_unix)));
        servers
    }

    /// Whether peers get TURN, and with it credentials that have to be refreshed every [`IceConfig::ttl`].
    pub fn has_turn(&self) -> bool {
        self.turn_secret.is_some() && !self.turn_urls.is_empty()
    }

    fn turn(&self, peer: &PeerId, now_unix: u64) -> Option<IceServer> {
        let secret = self.turn_secret.as_ref().filter(|_| self.has_turn())?;
        let expiry = now_unix.saturating_add(self.ttl.as_secs());
        let username = format!("{expiry}:{peer}");
        let credential = credential(secret, &username);
        Some(IceServer {
            urls: self.turn_urls.clone(),
            username: Some(username),
            credential: Some(credential),
        })
    }
}

/// `base64(HMAC-SHA1(secret, username))`; SHA-1 because the draft and every TURN server say so.
fn credential(secret: &Secret, username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new((&*block(secret.expose().as_bytes())).into());
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// A key of any length as a block of SHA-1, as RFC 2104 does it; keying with a block cannot fail.
fn block(key: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut block = Zeroizing::new([0; 64]);
    if key.len() <= block.len() {
        block[..key.len()].copy_from_slice(key);
    } else {
        block[..20].copy_from_slice(&Sha1::digest(key));
    }
    block
}

#[cfg(test)]
mod tests;
