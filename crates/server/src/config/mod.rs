//! Configuration: defaults < TOML file < environment < flags, read into typed sections.
//!
//! Each section is a file with one table: a line of documentation, type and default per setting. The struct, its
//! reading, `heliograph config show` and `docs/configuration.md` all come from that table.
//!
//! - To add a setting: a line in its section's table, then `cargo xtask docs`.
//! - To add a section: a file like `session.rs`, a field of [`Config`], and its place in [`sections`].
//! - To add a type of value: an implementation of [`value::Scalar`].
//!
//! All problems are reported at once, each as a line that names the setting, where its value came from and what to
//! do. No secret's value is in any of them.

use heliograph_core::limits::Limits;

pub mod reference;
pub mod value;

mod ice;
mod limits;
mod listen;
mod logging;
mod problem;
mod session;
mod setting;
mod source;
mod storage;
mod tokens;
mod url;

use source::{Layers, Reader};

pub use heliograph_core::manners::{RoomPolicies, RoomPolicy};
pub use ice::IceConfig;
pub use listen::{ListenConfig, Origin};
pub use logging::{LogFilter, LogFormat, LoggingConfig};
pub use problem::{Problem, Problems};
pub use session::SessionConfig;
pub use setting::{Exposure, Preset, SectionTable, Setting, sections};
pub use source::{Effective, Flag, Provenance, Sources};
pub use storage::StorageConfig;
pub use tokens::{KeyConfig, SigningKeyFile, TokenConfig};
pub use url::{Backend, DatabaseUrl, RedisUrl};

/// How a node runs. Some defaults and requirements differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Embedded: one process, listening on this machine only, everything open to try.
    Dev,
    /// A node for others to use.
    Serve,
}

impl Mode {
    /// The subcommand that runs it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Serve => "serve",
        }
    }
}

/// The whole configuration of a node, checked.
#[derive(Debug)]
pub struct Config {
    /// Where it listens, and whom it believes.
    pub listen: ListenConfig,
    /// Where it keeps things.
    pub storage: StorageConfig,
    /// How session tokens are signed.
    pub tokens: TokenConfig,
    /// Keys that exist from the start.
    pub keys: KeyConfig,
    /// Leases, resumption, draining, rooms.
    pub session: SessionConfig,
    /// Sizes, rates and deadlines.
    pub limits: Limits,
    /// What clients are told about STUN and TURN.
    pub ice: IceConfig,
    /// Logs and traces.
    pub logging: LoggingConfig,
}

impl Config {
    /// Reads and checks everything that a node in this mode needs. On failure: every problem found.
    pub fn load(mode: Mode, sources: &Sources) -> Result<Self, Problems> {
        inspect(mode, sources).config
    }
}

/// What `heliograph migrate` needs of the configuration.
#[derive(Debug)]
pub struct MigrationConfig {
    /// The database.
    pub storage: StorageConfig,
    /// Logs.
    pub logging: LoggingConfig,
}

impl MigrationConfig {
    /// Reads everything, so that a misspelt setting shows, and requires only a database.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let (layers, problems) = Layers::collect(Mode::Serve, sources);
        let mut reader = Reader::new(&layers, problems);
        let config = read(&mut reader);
        if let Some(config) = &config {
            config.storage.check_database(Mode::Serve, &mut reader);
        }
        let Config { storage, logging, .. } = reader.finish(config)?;
        Ok(Self { storage, logging })
    }
}

/// A configuration with where each value came from, whether it is usable or not.
#[derive(Debug)]
pub struct Inspection {
    /// Every setting in the order of the reference, with secrets hidden.
    pub effective: Vec<Effective>,
    /// The result of reading it.
    pub config: Result<Config, Problems>,
}

/// Reads the configuration and says where each value came from.
pub fn inspect(mode: Mode, sources: &Sources) -> Inspection {
    let (layers, problems) = Layers::collect(mode, sources);
    let mut reader = Reader::new(&layers, problems);
    let config = read(&mut reader);
    if let Some(config) = &config {
        config.check(mode, &mut reader);
    }
    Inspection { effective: layers.effective(), config: reader.finish(config) }
}

/// Every section is read before the first missing one ends it, so that all problems are found.
fn read(reader: &mut Reader<'_>) -> Option<Config> {
    let listen = ListenConfig::read(reader);
    let storage = StorageConfig::read(reader);
    let tokens = TokenConfig::read(reader);
    let keys = KeyConfig::read(reader);
    let session = SessionConfig::read(reader);
    let limits = limits::read(reader);
    let ice = IceConfig::read(reader);
    let logging = LoggingConfig::read(reader);
    Some(Config {
        listen: listen?,
        storage: storage?,
        tokens: tokens?,
        keys: keys?,
        session: session?,
        limits: limits?,
        ice: ice?,
        logging: logging?,
    })
}

impl Config {
    fn check(&self, mode: Mode, reader: &mut Reader<'_>) {
        self.listen.check(reader);
        self.storage.check_database(mode, reader);
        self.storage.check_bus(mode, reader);
        self.tokens.check(mode, reader);
        self.keys.check(reader);
        self.session.check(reader);
        limits::check(&self.limits, reader);
        self.ice.check(reader);
    }
}

#[cfg(test)]
mod tests;
