//! From an invite code to a device token: what a pairing leaves on this machine.
//!
//! Two files. While the device waits for its approval, `….pairing` holds what it needs to go on after any interruption, since
//! a code is used up by the first try. Afterwards the device token takes its own file, before anything else happens: the
//! service gives it out once. Both are for the user alone.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use heliograph_auth::secret::Secret;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use pairing::{Pairing, PairingFile};

use crate::config::{ConfigError, ServerUrl, Surroundings};

mod file;
mod pairing;

/// Where the device token is kept, below the user's state directory (XDG Base Directory Specification).
const TOKEN_FILE: &str = "heliograph/agent.token";

/// A device token and whose it is.
#[derive(Debug)]
pub struct Kept {
    /// The service that gave it.
    pub server: ServerUrl,
    /// The peer that it stands for.
    pub peer_id: String,
    /// The token, `dt_…`.
    pub device_token: Secret,
}

/// Why a file of a pairing cannot be used.
#[derive(Debug, Error)]
pub enum KeepError {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// It does not hold what it should.
    #[error("{path} is no file of a pairing: {why}; remove it and join again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another process is about to join with the same file.
    #[error("{path} is in use: another `heliograph agent join` waits for the same token")]
    InUse {
        /// The file.
        path: String,
    },
}

impl KeepError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::Io { path, error }
    }

    fn damaged(path: &Path, why: String) -> Self {
        Self::Damaged { path: path.display().to_string(), why }
    }
}

/// Where the token is kept unless somebody names another place; `None` without a home directory.
pub fn default_path(around: &Surroundings) -> Result<Option<PathBuf>, ConfigError> {
    let state = around.variable("XDG_STATE_HOME")?.map(PathBuf::from);
    let home = around.variable("HOME")?.map(|home| PathBuf::from(home).join(".local/state"));
    Ok(state.or(home).map(|directory| directory.join(TOKEN_FILE)))
}

#[derive(Serialize, Deserialize)]
struct KeptForm<'a> {
    #[serde(borrow)]
    server: Cow<'a, str>,
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(borrow)]
    device_token: Cow<'a, str>,
}

impl Kept {
    /// What the file holds; `None` if it is not there.
    pub fn read(path: &Path) -> Result<Option<Self>, KeepError> {
        let Some(text) = file::read(path).map_err(KeepError::io(path))? else { return Ok(None) };
        Self::parse(text.expose()).map(Some).map_err(|why| KeepError::damaged(path, why))
    }

    /// Reads the file's text. An error quotes none of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form: KeptForm<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        if !form.device_token.starts_with("dt_") || !form.device_token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it holds no device token".into());
        }
        Ok(Self {
            server: ServerUrl::parse("its server", &form.server).map_err(|error| error.to_string())?,
            peer_id: form.peer_id.into_owned(),
            device_token: Secret::new(form.device_token),
        })
    }

    /// Writes the file, for this user alone. When this returns, it is on the disk, whole; before, the older one is.
    pub fn write(&self, path: &Path) -> Result<(), KeepError> {
        let form = KeptForm {
            server: self.server.as_str().into(),
            peer_id: self.peer_id.as_str().into(),
            device_token: self.device_token.expose().into(),
        };
        let text = serde_json::to_string(&form).map(Secret::new).map_err(io::Error::from);
        text.and_then(|text| file::replace(path, text.expose())).map_err(KeepError::io(path))
    }
}

/// What is wrong with a JSON text, and where, without quoting it: there is a secret in it.
fn not_json(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a member is missing or of another kind",
        _ => "it is not JSON",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests;
