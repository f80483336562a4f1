//! A pairing that is under way.

use std::borrow::Cow;
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use heliograph_auth::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{KeepError, file, not_json};
use crate::config::ServerUrl;

/// How often the file may vanish between opening and locking it, because others end just then.
const TRIES: usize = 10;

/// What a device needs to ask what became of its pairing.
#[derive(Debug)]
pub struct Pairing {
    /// The service.
    pub server: ServerUrl,
    /// The code that was redeemed: used up, and still nobody else's business.
    pub code: Secret,
    /// The pairing's id, which an administrator approves.
    pub id: String,
    /// The peer that the device will be.
    pub peer_id: String,
    /// `ct_…`, which is good for asking.
    pub claim_token: Secret,
}

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    server: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(borrow)]
    claim_token: Cow<'a, str>,
}

/// The file beside the device token's that keeps a pairing. This process alone has it, until it is dropped.
#[derive(Debug)]
pub struct PairingFile {
    path: PathBuf,
    file: File,
    pairing: Option<Pairing>,
}

impl PairingFile {
    /// Opens the one that belongs to the device token at `token`.
    pub fn open(token: &Path) -> Result<Self, KeepError> {
        let path = file::beside(token, ".pairing");
        let file = Self::lock(&path)?;
        let text = file::read_text(&file).map_err(KeepError::io(&path))?;
        let pairing = match text.expose() {
            // Made a moment ago, or by a process that ended before it had a pairing.
            "" => None,
            text => Some(Pairing::parse(text).map_err(|why| KeepError::damaged(&path, why))?),
        };
        Ok(Self { path, file, pairing })
    }

    fn lock(path: &Path) -> Result<File, KeepError> {
        for _ in 0..TRIES {
            let file = file::open(path).map_err(KeepError::io(path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(KeepError::io(path)(error)),
            }
            // One that has no name any more would be lost with this process.
            if file.metadata().map_err(KeepError::io(path))?.nlink() > 0 {
                return Ok(file);
            }
        }
        Err(KeepError::InUse { path: path.display().to_string() })
    }

    /// The pairing that is under way.
    pub fn pairing(&self) -> Option<&Pairing> {
        self.pairing.as_ref()
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a pairing. When this returns, it is on the disk.
    pub fn keep(&mut self, pairing: Pairing) -> Result<&Pairing, KeepError> {
        let written = pairing.to_text().and_then(|text| self.write(text.expose()));
        written.map_err(KeepError::io(&self.path))?;
        Ok(self.pairing.insert(pairing))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()
    }

    /// Removes the file: the pairing has come to its end.
    pub fn forget(self) -> Result<(), KeepError> {
        fs::remove_file(&self.path).map_err(KeepError::io(&self.path))
    }
}

impl Drop for PairingFile {
    fn drop(&mut self) {
        if self.pairing.is_none() {
            // Nothing is in it; if it stays, the next one takes it.
            _ = fs::remove_file(&self.path);
        }
    }
}

impl Pairing {
    fn parse(text: &str) -> Result<Self, String> {
        let form: Form<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        Ok(Self {
            server: ServerUrl::parse("its server", &form.server).map_err(|error| error.to_string())?,
            code: Secret::new(form.code),
            id: form.id.into_owned(),
            peer_id: form.peer_id.into_owned(),
            claim_token: Secret::new(form.claim_token),
        })
    }

    fn to_text(&self) -> io::Result<Secret> {
        let form = Form {
            server: self.server.as_str().into(),
            code: self.code.expose().into(),
            id: self.id.as_str().into(),
            peer_id: self.peer_id.as_str().into(),
            claim_token: self.claim_token.expose().into(),
        };
        Ok(Secret::new(serde_json::to_string(&form)?))
    }
}
