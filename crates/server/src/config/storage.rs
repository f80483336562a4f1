//! Where the node keeps things.

use std::path::PathBuf;

use super::Mode;
use super::setting::Preset::{Is, Unset};
use super::setting::section;
use super::source::Reader;
use super::url::{Backend, DatabaseUrl, RedisUrl};

/// The database below the data directory, where no URL says otherwise.
const SQLITE_FILE: &str = "heliograph.db";

section! {
    "Storage";
    /// Where the node keeps things.
    pub struct StorageConfig {
        /// What a node keeps for itself: in `dev` the database and the generated signing secret.
        data_dir: PathBuf = Is("./heliograph-data");
        /// Database: `postgres://…`, or `sqlite://…` for a single node. Required by `serve` and `migrate`; `dev`
        /// keeps a file in `data_dir`.
        database_url: Option<DatabaseUrl> = Unset;
        /// Redis: `redis://…`, `rediss://…`, `redis+cluster://h1,h2`, `redis+sentinel://h1,h2/service`. Required by
        /// `serve` with Postgres.
        redis_url: Option<RedisUrl> = Unset;
        /// Whether `serve` brings an older database to its own version by itself. Otherwise it refuses to start,
        /// and `heliograph migrate` does it.
        auto_migrate: bool = Is("false");
    }
}

impl StorageConfig {
    /// The SQLite file: what the URL names, or the one in the data directory. `None` with another database.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        match &self.database_url {
            Some(url) => match url.backend() {
                Backend::Sqlite(path) => Some(path.clone()),
                Backend::Postgres => None,
            },
            None => Some(self.data_dir.join(SQLITE_FILE)),
        }
    }

    pub(super) fn check_database(&self, mode: Mode, reader: &mut Reader<'_>) {
        match (mode, self.database_url.as_ref().map(DatabaseUrl::backend)) {
            (Mode::Serve, None) => reader.object(
                "database_url",
                "serve and migrate need a database; set HELIOGRAPH_DATABASE_URL to postgres://… or sqlite://PATH",
            ),
            (Mode::Dev, Some(&Backend::Postgres)) => {
                reader.object("database_url", "dev keeps its data in a file; unset it, or use `heliograph serve`");
            }
            _ => {}
        }
    }

    pub(super) fn check_bus(&self, mode: Mode, reader: &mut Reader<'_>) {
        let shared = self.database_url.as_ref().is_some_and(|url| *url.backend() == Backend::Postgres);
        match (mode, &self.redis_url) {
            (Mode::Dev, Some(_)) => {
                reader.object("redis_url", "dev is one process without Redis; unset it, or use `heliograph serve`");
            }
            (Mode::Serve, None) if shared => reader.object(
                "redis_url",
                "nodes on Postgres meet through Redis; set HELIOGRAPH_REDIS_URL, or use a sqlite:// database for one node",
            ),
            _ => {}
        }
    }
}
