//! What clients are told about STUN and TURN servers.

use std::net::Ipv6Addr;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use heliograph_auth::turn;

use super::setting::Preset::{Is, Unset};
use super::setting::{same, section};
use super::source::Reader;
use super::value::Scalar;

/// A client has to be able to use a credential before it ends.
const SHORTEST_TTL: Duration = Duration::from_secs(30);
/// The TURN server does not hear of revocations.
const LONGEST_TTL: Duration = Duration::from_hours(24);

section! {
    "STUN and TURN";
    /// What clients are told about STUN and TURN servers. None by default: no third party learns of anybody.
    pub struct IceConfig {
        /// `stun:` URLs, given to whoever asks.
        ice_urls: Vec<StunUrl> = Unset;
        /// `turn:` and `turns:` URLs, given to authorized peers with a credential of their own. `TURN_URL` is accepted.
        turn_urls: Vec<TurnUrl> = Unset, also "TURN_URL" via same;
        /// The secret shared with the TURN servers (coturn's `static-auth-secret`). `TURN_SECRET` is accepted.
        turn_secret: Option<Secret> = Unset, also "TURN_SECRET" via same;
        /// Life of a TURN credential. Short, because TURN servers do not hear of revocations.
        turn_ttl: Duration = Is("10m");
    }
}

impl IceConfig {
    /// The servers in the form that handlers use.
    pub fn build(self) -> turn::IceConfig {
        turn::IceConfig {
            stun_urls: self.ice_urls.into_iter().map(|url| url.0).collect(),
            turn_urls: self.turn_urls.into_iter().map(|url| url.0).collect(),
            turn_secret: self.turn_secret,
            ttl: self.turn_ttl,
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if !self.turn_urls.is_empty() && self.turn_secret.is_none() {
            reader.object(
                "turn_urls",
                "TURN needs a secret shared with the servers; set HELIOGRAPH_TURN_SECRET",
            );
        }
        if !(SHORTEST_TTL..=LONGEST_TTL).contains(&self.turn_ttl) {
            reader.object("turn_ttl", "must be from 30s to 24h");
        }
    }
}

/// A `stun:` or `stuns:` URL (RFC 7064).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunUrl(String);

impl Scalar for StunUrl {
    const KIND: &'static str = "`stun:` URL";

    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("turn:") || text.starts_with("turns:") {
            return Err("is a TURN server; it belongs in turn_urls".into());
        }
        if !is_ice_url(text, ["stun:", "stuns:"], &[]) {
            return Err("is not a STUN URL; write it like stun:stun.example:3478".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// A `turn:` or `turns:` URL (RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUrl(String);

impl Scalar for TurnUrl {
    const KIND: &'static str = "`turn:` URL";

    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("stun:") || text.starts_with("stuns:") {
            return Err("is a STUN server; it belongs in ice_urls".into());
        }
        if !is_ice_url(text, ["turn:", "turns:"], &["transport=udp", "transport=tcp"]) {
            return Err("is not a TURN URL; write it like turn:turn.example:3478 or turns:turn.example:5349?transport=tcp".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Scheme, host, perhaps a port, perhaps one of `queries`. Browsers throw on anything else, and then nothing connects.
fn is_ice_url(text: &str, schemes: [&str; 2], queries: &[&str]) -> bool {
    let Some(rest) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) else { return false };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let is_v6 = place.starts_with('[');
    let (host, port) = if is_v6 {
        let Some((host, rest)) = place[1..].split_once(']') else { return false };
        (host, (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or("not a port")))
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    let host_is_right = if is_v6 {
        host.parse::<Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    let port_is_right = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    host_is_right && port_is_right && query.is_none_or(|query| queries.contains(&query))
}
