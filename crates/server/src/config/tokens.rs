//! How session tokens are signed, and which keys exist from the start.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use heliograph_auth::secret::Secret;
use heliograph_auth::token::{KeySet, SecretRule, SigningKey};
use heliograph_core::limits::MAX_CREDENTIAL_BYTES;

use super::Mode;
use super::setting::Preset::{Is, Unset};
use super::setting::{same, section};
use super::source::Reader;
use super::value::Scalar;

section! {
    "Tokens";
    /// How session tokens are signed.
    pub struct TokenConfig {
        /// Shared secret (HS256), at least 32 bytes, the same on all nodes. `serve` needs it or `signing_key_files`;
        /// `dev` makes one and keeps it in `data_dir`. `SIGNALING_SECRET` is accepted.
        signing_secret: Option<Secret> = Unset, also "SIGNALING_SECRET" via same;
        /// Accept a `signing_secret` that is shorter, for an installation that moves over with its old one.
        allow_short_signing_secret: bool = Is("false");
        /// Private keys (Ed25519 or P-256, PKCS#8 PEM) as `KID=PATH`. Several at once for rotation; all verify, and
        /// `/.well-known/jwks.json` publishes their public halves.
        signing_key_files: Vec<SigningKeyFile> = Unset;
        /// Which of `signing_key_files` signs. Not set: the shared secret if there is one, else the only key.
        signing_kid: Option<Kid> = Unset;
    }
}

section! {
    "Keys";
    /// Keys that exist from the start.
    pub struct KeyConfig {
        /// An API key with role `admin` that exists from the first start.
        bootstrap_admin_key: Option<Secret> = Unset;
        /// The original's `api_keys.json`, imported at start and stored hashed. `API_KEYS_FILE` is accepted.
        api_keys_file: Option<PathBuf> = Unset, also "API_KEYS_FILE" via same;
    }
}

/// A key file and the id under which tokens name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyFile {
    /// The id.
    pub kid: String,
    /// The PEM file.
    pub path: PathBuf,
}

impl Scalar for SigningKeyFile {
    const KIND: &'static str = "`KID=PATH`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((kid, path)) if !kid.trim().is_empty() && !path.trim().is_empty() => {
                Ok(Self { kid: kid.trim().to_owned(), path: path.trim().into() })
            }
            _ => Err("is not a key id and a path; write it like 2026-11=/etc/heliograph/2026-11.pem".into()),
        }
    }
}

/// The id of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kid(String);

impl Scalar for Kid {
    const KIND: &'static str = "key id";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is not a key id".into()) } else { Ok(Self(text.to_owned())) }
    }
}

/// Which key signs.
enum Signer<'a> {
    Secret(&'a Secret),
    File(&'a SigningKeyFile),
}

impl TokenConfig {
    /// Reads the key files and makes the key set. Where nothing is configured, `own` has the secret that a node in
    /// [`Mode::Dev`] makes for itself.
    pub fn build(&self, mode: Mode, own: impl FnOnce() -> anyhow::Result<Secret>) -> anyhow::Result<KeySet> {
        if self.is_empty() {
            return Ok(KeySet::new(SigningKey::from_secret(&own()?, SecretRule::Strong)?, vec![])?);
        }
        let signer = match self.signer().map_err(|(key, why)| anyhow!("{key}: {why}"))? {
            Signer::Secret(secret) => self.shared(secret, mode)?,
            Signer::File(file) => load(file)?,
        };
        let mut others = vec![];
        for file in self.signing_key_files.iter().filter(|file| signer.kid() != Some(&file.kid)) {
            others.push(load(file)?);
        }
        if let Some(secret) = self.signing_secret.as_ref().filter(|_| signer.kid().is_some()) {
            others.push(self.shared(secret, mode)?);
        }
        Ok(KeySet::new(signer, others)?)
    }

    fn is_empty(&self) -> bool {
        self.signing_secret.is_none() && self.signing_key_files.is_empty()
    }

    /// Which key signs; or the setting at fault, and why.
    fn signer(&self) -> Result<Signer<'_>, (&'static str, String)> {
        match (&self.signing_kid, &self.signing_secret, self.signing_key_files.as_slice()) {
            (Some(Kid(kid)), _, files) => match files.iter().find(|file| file.kid == *kid) {
                Some(file) => Ok(Signer::File(file)),
                None => Err(("signing_kid", format!("no entry of signing_key_files has the id {kid:?}"))),
            },
            (None, Some(secret), _) => Ok(Signer::Secret(secret)),
            (None, None, [only]) => Ok(Signer::File(only)),
            (None, None, []) => Err(("signing_secret", NEEDED.into())),
            (None, None, _) => {
                Err(("signing_kid", "several keys are configured; say which of them signs".into()))
            }
        }
    }

    fn shared(&self, secret: &Secret, mode: Mode) -> anyhow::Result<SigningKey> {
        // On one's own machine the secret of the original's examples will do.
        let short = mode == Mode::Dev || self.allow_short_signing_secret;
        let rule = if short { SecretRule::AllowShort } else { SecretRule::Strong };
        Ok(SigningKey::from_secret(secret, rule)?)
    }

    pub(super) fn check(&self, mode: Mode, reader: &mut Reader<'_>) {
        if let Some(Err(error)) = self.signing_secret.as_ref().map(|secret| self.shared(secret, mode)) {
            reader.object("signing_secret", &format!("{error}; make one with `openssl rand -base64 48`"));
        }
        let dev_makes_one = mode == Mode::Dev && self.is_empty() && self.signing_kid.is_none();
        if let (false, Err((key, why))) = (dev_makes_one, self.signer()) {
            reader.object(key, &why);
        }
        for (index, file) in self.signing_key_files.iter().enumerate() {
            if let Err(error) = load(file) {
                reader.object("signing_key_files", &format!("{error:#}"));
            }
            if self.signing_key_files[..index].iter().any(|earlier| earlier.kid == file.kid) {
                reader.object("signing_key_files", &format!("the id {:?} is there twice", file.kid));
            }
        }
    }
}

const NEEDED: &str = "serve signs tokens; set HELIOGRAPH_SIGNING_SECRET (at least 32 bytes, the same on all nodes) or \
                      HELIOGRAPH_SIGNING_KEY_FILES";

fn load(file: &SigningKeyFile) -> anyhow::Result<SigningKey> {
    let path = file.path.display();
    let pem = std::fs::read_to_string(&file.path).with_context(|| format!("cannot read {path}"))?;
    SigningKey::from_pem(&file.kid, &pem).with_context(|| format!("cannot use {path}"))
}

impl KeyConfig {
    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        let usable = |key: &Secret| {
            let text = key.expose();
            text.len() <= MAX_CREDENTIAL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if self.bootstrap_admin_key.as_ref().is_some_and(|key| !usable(key)) {
            reader.object("bootstrap_admin_key", "must be visible ASCII characters: it travels in a header");
        }
    }
}
