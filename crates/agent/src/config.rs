//! What an agent is told: by flags, by `HELIOGRAPH_…` variables, or by those of the original sidecar; an earlier one wins.

use std::collections::HashMap;
use std::path::PathBuf;

use heliograph_auth::secret::Secret;
use heliograph_client::Credential;
use thiserror::Error;

pub use ice::{IceSource, OwnIce};
pub use server::ServerUrl;

use crate::enrol::{self, Kept};
use credential::Found;

mod credential;
mod ice;
mod server;

/// What the original sidecar asks when it is told of no server.
const ORIGINAL_SOCKET_URL: &str = "ws://localhost:8080/ws";
const ORIGINAL_TOKEN_URL: &str = "http://localhost:8080/api/token";

/// Everything that an agent needs to know.
#[derive(Debug)]
pub struct Config {
    /// The service's socket, `ws://…` or `wss://…`.
    pub socket_url: String,
    /// Where the credential is exchanged for session tokens, `http://…` or `https://…`.
    pub token_url: String,
    /// Who the agent is.
    pub credential: Credential,
    /// What named the credential, for people who wonder: a flag, a variable, a file.
    pub credential_source: String,
    /// Where local programs find the agent.
    pub bridge_socket: PathBuf,
    /// Whence STUN and TURN servers come.
    pub ice: IceSource,
    /// Whether connections go through TURN servers alone, so that counterparts learn no address of this machine.
    pub relay_only: bool,
}

/// What the command line says.
#[derive(Debug, Default)]
pub struct Flags {
    /// `--server`: the service's address, `http://…` or `https://…`.
    pub server: Option<String>,
    /// `--key`: an API key or device token.
    pub key: Option<Secret>,
    /// `--key-file`: a file with one.
    pub key_file: Option<PathBuf>,
    /// `--device-token-file`: a file with a device token, such as [`Kept`] is.
    pub device_token_file: Option<PathBuf>,
    /// `--socket`: where local programs find the agent.
    pub socket: Option<PathBuf>,
    /// `--relay-only`: connections go through TURN servers alone.
    pub relay_only: bool,
}

/// What an agent finds around it, handed in so that tests can feed it.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The environment. What is not UTF-8 has replacement characters in it.
    pub variables: HashMap<String, String>,
    /// The user's number.
    pub user: u32,
}

/// What is wrong with what was given, in one line that is fit to be shown.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { variables, user: rustix::process::geteuid().as_raw() }
    }

    /// A variable that is set to something.
    pub fn variable(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let value = self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        if value.is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(ConfigError(format!("{name}: the value is not UTF-8")));
        }
        Ok(value)
    }

    /// Where local programs find an agent that was told of no place. Private: in the user's runtime directory, or else in
    /// a folder of the temporary directory that is the user's alone. The original's place, a file in the temporary
    /// directory itself, can be taken by anybody first.
    pub fn default_socket(&self) -> Result<PathBuf, ConfigError> {
        if let Some(directory) = self.variable("XDG_RUNTIME_DIR")? {
            return Ok(PathBuf::from(directory).join("heliograph/agent.sock"));
        }
        let temporary = PathBuf::from(self.variable("TMPDIR")?.unwrap_or("/tmp"));
        Ok(temporary.join(format!("heliograph-{}", self.user)).join("agent.sock"))
    }

    /// The socket of the agent: as the flag says, as the original's variable says, or the default.
    pub fn socket(&self, flag: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        match (flag, self.variable("IPC_SOCKET")?) {
            (Some(path), _) => Ok(path),
            (None, Some(path)) => Ok(path.into()),
            (None, None) => self.default_socket(),
        }
    }

    /// The server that `--server` or `HELIOGRAPH_SERVER` names.
    pub fn server(&self, flag: Option<&str>) -> Result<Option<ServerUrl>, ConfigError> {
        match (flag, self.variable("HELIOGRAPH_SERVER")?) {
            (Some(text), _) => ServerUrl::parse("--server", text).map(Some),
            (None, Some(text)) => ServerUrl::parse("HELIOGRAPH_SERVER", text).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Where a pairing leaves its device token: where the flag says, or in its usual place.
    pub fn token_file(&self, flag: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let nowhere = "neither HOME nor XDG_STATE_HOME is set; say where to keep the token with --token-file";
        match flag {
            Some(path) => Ok(path),
            None => enrol::default_path(self)?.ok_or_else(|| ConfigError(nowhere.into())),
        }
    }
}

impl Config {
    /// Puts everything together. Reads the files that hold credentials, and nothing else.
    pub fn load(flags: Flags, around: &Surroundings) -> Result<Self, ConfigError> {
        let named = named_server(flags.server.as_deref(), around)?;
        let found = credential::find(&flags, named.is_some(), around)?;
        let (socket_url, token_url) = match (named, &found.kept_for) {
            (Some(named), None) => named,
            (Some(named), Some(kept)) => same_server(named, kept, &found)?,
            (None, Some(kept)) => (kept.socket_url(), kept.token_url()),
            (None, None) => (ORIGINAL_SOCKET_URL.into(), ORIGINAL_TOKEN_URL.into()),
        };
        let relay_only = flags.relay_only || ice::original_policy(around)?;
        Ok(Self {
            socket_url,
            token_url,
            credential: found.credential,
            credential_source: found.source,
            bridge_socket: around.socket(flags.socket)?,
            ice: ice::source(around)?,
            relay_only,
        })
    }

    /// The device that a pairing has made, at its own server, whatever the environment says of others.
    pub fn of_device(
        kept: Kept,
        socket: Option<PathBuf>,
        relay_only: bool,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            socket_url: kept.server.socket_url(),
            token_url: kept.server.token_url(),
            credential: Credential::device_token(kept.device_token),
            credential_source: "the pairing".into(),
            bridge_socket: around.socket(socket)?,
            ice: ice::source(around)?,
            relay_only: relay_only || ice::original_policy(around)?,
        })
    }
}

/// The service's addresses, for sockets and for tokens, if anything names them.
fn named_server(flag: Option<&str>, around: &Surroundings) -> Result<Option<(String, String)>, ConfigError> {
    if let Some(server) = around.server(flag)? {
        return Ok(Some((server.socket_url(), server.token_url())));
    }
    let (socket, token) = (around.variable("SIGNALING_URL")?, around.variable("TOKEN_URL")?);
    if socket.is_none() && token.is_none() {
        return Ok(None);
    }
    let socket = server::check("SIGNALING_URL", socket.unwrap_or(ORIGINAL_SOCKET_URL), &["ws://", "wss://"])?;
    let token = server::check("TOKEN_URL", token.unwrap_or(ORIGINAL_TOKEN_URL), &["http://", "https://"])?;
    Ok(Some((socket, token)))
}

/// A kept token goes to the server that gave it and nowhere else, unless somebody names its file.
fn same_server(
    named: (String, String),
    kept: &ServerUrl,
    found: &Found,
) -> Result<(String, String), ConfigError> {
    if found.named || named == (kept.socket_url(), kept.token_url()) {
        return Ok(named);
    }
    let source = &found.source;
    Err(ConfigError(format!(
        "{source} holds a token of {kept}, which is not for {}; give that server's key, or join it with `heliograph \
         agent join`; if it is the same service, say so with --device-token-file",
        named.1
    )))
}

#[cfg(test)]
mod tests;
