//! Who the agent is: the credential that counts, and what named it.

use std::path::Path;

use heliograph_auth::secret::Secret;
use heliograph_client::Credential;

use super::{ConfigError, Flags, ServerUrl, Surroundings};
use crate::enrol::{self, Kept};

/// The key that the original sidecar shows when it is told of none.
const ORIGINAL_KEY: &str = "ak_dev_001";
/// Longest file with a credential, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A credential.
pub(super) struct Found {
    pub(super) credential: Credential,
    /// What named it.
    pub(super) source: String,
    /// For a token that a pairing has made: the server that it is for.
    pub(super) kept_for: Option<ServerUrl>,
    /// Whether somebody named it, rather than that it lay in its usual place.
    pub(super) named: bool,
}

/// The first that there is: flags, `HELIOGRAPH_…` variables, the original's variable, what a pairing has left, and the
/// original's default, which is for its default server alone.
pub(super) fn find(
    flags: &Flags,
    server_is_named: bool,
    around: &Surroundings,
) -> Result<Found, ConfigError> {
    if let Some(key) = &flags.key {
        return of_text("--key", key.expose());
    }
    if let Some(path) = &flags.key_file {
        return of_file("--key-file", path);
    }
    if let Some(path) = &flags.device_token_file {
        return device_token_file(path);
    }
    match (around.variable("HELIOGRAPH_KEY")?, around.variable("HELIOGRAPH_KEY_FILE")?) {
        (Some(_), Some(_)) => {
            return Err(ConfigError(
                "HELIOGRAPH_KEY and HELIOGRAPH_KEY_FILE are both set; keep one of them".into(),
            ));
        }
        (Some(key), None) => return of_text("HELIOGRAPH_KEY", key),
        (None, Some(path)) => return of_file("HELIOGRAPH_KEY_FILE", Path::new(path)),
        (None, None) => {}
    }
    if let Some(key) = around.variable("API_KEY")? {
        return of_text("API_KEY", key);
    }
    if let Some(kept) = left_by_a_pairing(around)? {
        return Ok(kept);
    }
    if server_is_named {
        return Err(ConfigError(
            "there is no credential: set HELIOGRAPH_KEY or HELIOGRAPH_KEY_FILE, or pair this machine with `heliograph \
             agent join CODE`"
                .into(),
        ));
    }
    of_text("the default", ORIGINAL_KEY)
}

fn left_by_a_pairing(around: &Surroundings) -> Result<Option<Found>, ConfigError> {
    let Some(path) = enrol::default_path(around)? else { return Ok(None) };
    let kept = Kept::read(&path).map_err(|error| ConfigError(error.to_string()))?;
    Ok(kept.map(|kept| Found { named: false, ..of_kept(kept, path.display().to_string()) }))
}

fn of_kept(kept: Kept, source: String) -> Found {
    Found {
        credential: Credential::device_token(kept.device_token),
        source,
        kept_for: Some(kept.server),
        named: true,
    }
}

fn device_token_file(path: &Path) -> Result<Found, ConfigError> {
    let found = of_file("--device-token-file", path)?;
    match found.credential {
        Credential::DeviceToken(_) => Ok(found),
        Credential::ApiKey(_) => Err(ConfigError(format!(
            "{} holds no device token (`dt_…`); for an API key there is --key-file",
            path.display()
        ))),
    }
}

/// A credential as text, or as a pairing has kept it.
fn of_file(source: &str, path: &Path) -> Result<Found, ConfigError> {
    let cannot = |why: String| ConfigError(format!("{source}: cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(cannot(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    let text = Secret::new(text);
    let source = format!("{source} {}", path.display());
    if !text.expose().trim_start().starts_with('{') {
        return of_text(&source, text.expose());
    }
    Kept::parse(text.expose()).map(|kept| of_kept(kept, source)).map_err(cannot)
}

fn of_text(source: &str, text: &str) -> Result<Found, ConfigError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError(format!("{source} holds no key: a key is one word, such as ak_…")));
    }
    let secret = Secret::new(text);
    let credential =
        if text.starts_with("dt_") { Credential::device_token(secret) } else { Credential::api_key(secret) };
    Ok(Found { credential, source: source.to_owned(), kept_for: None, named: true })
}
