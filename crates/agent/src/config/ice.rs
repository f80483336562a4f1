//! Whence STUN and TURN servers come: from the service, or, as with the original sidecar, from `TURN_…` variables.

use std::sync::Arc;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use heliograph_auth::turn;
use heliograph_client::IceServer;
use heliograph_core::id::PeerId;
use heliograph_core::message;

use super::{ConfigError, Surroundings};

/// Life of a credential that the agent makes for itself: the original's. It can be long, since whoever has the secret can
/// always make another.
const OWN_TTL: Duration = Duration::from_hours(24);

/// Whence STUN and TURN servers come.
#[derive(Debug)]
pub enum IceSource {
    /// From the service, which renews their credentials in time.
    Service,
    /// From this machine's own settings; those of the service do not count.
    Own(OwnIce),
}

/// TURN servers that this machine was told of.
#[derive(Debug)]
pub struct OwnIce(Account);

#[derive(Debug)]
enum Account {
    /// Credentials are made from a secret that the servers share.
    Secret(turn::IceConfig),
    /// A user with a password.
    Password { stun: Vec<String>, turn: Vec<String>, user: String, password: Arc<Secret> },
}

impl OwnIce {
    /// The servers, for `peer` at `now_unix` (seconds since the Unix epoch).
    pub fn servers(&self, peer: &PeerId, now_unix: u64) -> Vec<IceServer> {
        match &self.0 {
            Account::Secret(config) => {
                let servers = config.servers_for(Some(peer), now_unix).into_iter();
                let with_secret = |server: message::IceServer| IceServer {
                    urls: server.urls,
                    username: server.username,
                    credential: server.credential.map(|text| Arc::new(Secret::new(text))),
                };
                servers.map(with_secret).collect()
            }
            Account::Password { stun, turn, user, password } => {
                let mut servers = vec![];
                if !stun.is_empty() {
                    servers.push(IceServer { urls: stun.clone(), username: None, credential: None });
                }
                servers.push(IceServer {
                    urls: turn.clone(),
                    username: Some(user.clone()),
                    credential: Some(Arc::clone(password)),
                });
                servers
            }
        }
    }

    /// How long after [`Self::servers`] they should be made anew; `None` if they are good for ever.
    pub fn renew_after(&self) -> Option<Duration> {
        match &self.0 {
            Account::Secret(config) => Some(config.ttl / 2),
            Account::Password { .. } => None,
        }
    }
}

/// As the original's variables say: `TURN_URL` with `TURN_SECRET`, or with `TURN_USERNAME` and `TURN_PASSWORD`.
pub(super) fn source(around: &Surroundings) -> Result<IceSource, ConfigError> {
    let Some(urls) = around.variable("TURN_URL")? else { return Ok(IceSource::Service) };
    let turn = urls.split(',').map(|url| turn_url(url.trim())).collect::<Result<Vec<_>, _>>()?;
    let stun = turn.iter().filter_map(|url| stun_url(url)).collect();
    let (secret, user, password) = (
        around.variable("TURN_SECRET")?,
        around.variable("TURN_USERNAME")?,
        around.variable("TURN_PASSWORD")?,
    );
    let account = match (secret, user, password) {
        (Some(secret), _, _) => Account::Secret(turn::IceConfig {
            stun_urls: stun,
            turn_urls: turn,
            turn_secret: Some(Secret::new(secret)),
            ttl: OWN_TTL,
        }),
        (None, Some(user), Some(password)) => {
            Account::Password { stun, turn, user: user.to_owned(), password: Arc::new(Secret::new(password)) }
        }
        (None, _, _) => {
            return Err(ConfigError(
                "TURN_URL is set without an account: set TURN_SECRET, or TURN_USERNAME and TURN_PASSWORD"
                    .into(),
            ));
        }
    };
    Ok(IceSource::Own(OwnIce(account)))
}

fn turn_url(url: &str) -> Result<String, ConfigError> {
    let host = url.strip_prefix("turn:").or_else(|| url.strip_prefix("turns:")).unwrap_or_default();
    let good = host.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
        && host.bytes().all(|byte| byte.is_ascii_graphic())
        && !host.contains('@');
    if good {
        return Ok(url.to_owned());
    }
    Err(ConfigError("TURN_URL is not the URL of a TURN server; write it like turn:turn.example:3478".into()))
}

/// A TURN server over UDP also tells an agent its public address (RFC 8656 section 3), so that many connections need no relay.
fn stun_url(turn: &str) -> Option<String> {
    let (host, transport) = match turn.strip_prefix("turn:")?.split_once('?') {
        Some((host, query)) => (host, query.strip_prefix("transport=").unwrap_or("udp")),
        None => (turn.strip_prefix("turn:")?, "udp"),
    };
    (transport == "udp").then(|| format!("stun:{host}"))
}

/// Whether `ICE_TRANSPORT_POLICY` wants relays alone.
pub(super) fn original_policy(around: &Surroundings) -> Result<bool, ConfigError> {
    match around.variable("ICE_TRANSPORT_POLICY")? {
        Some("relay") => Ok(true),
        Some("all") | None => Ok(false),
        Some(other) => {
            Err(ConfigError(format!("ICE_TRANSPORT_POLICY {other:?} is not known; write relay or all")))
        }
    }
}
