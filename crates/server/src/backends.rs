//! The only place that names a backend: SQLite and Postgres behind the store, one process and Redis behind the bus.

use std::path::Path;
use std::sync::{Arc, Weak};

use anyhow::{Context, Result, bail};
use heliograph_bus::local::{self, Hub};
use heliograph_bus::{Inbox, Link, redis};
use heliograph_core::id::GatewayId;
use heliograph_store::Store;
use heliograph_store_postgres::{Options, PostgresStore};
use heliograph_store_sqlite::SqliteStore;
use prometheus::Registry;

use crate::config::{DatabaseUrl, RedisUrl, StorageConfig};

/// Opens the database that the configuration names.
pub(crate) async fn open_store(storage: &StorageConfig) -> Result<Arc<dyn Store>> {
    match (&storage.database_url, storage.sqlite_file()) {
        (_, Some(path)) => Ok(Arc::new(SqliteStore::open(path).await?)),
        (Some(url), None) => {
            let options = Options { auto_migrate: storage.auto_migrate, ..Options::default() };
            Ok(Arc::new(PostgresStore::connect(url.expose(), options).await?))
        }
        (None, None) => bail!("database_url is not set"),
    }
}

/// Brings the database that the configuration names to this version.
pub(crate) async fn migrate(storage: &StorageConfig) -> Result<()> {
    match (&storage.database_url, storage.sqlite_file()) {
        (_, Some(path)) => migrate_file(&path).await,
        (Some(url), None) => Ok(PostgresStore::migrate(url.expose()).await?),
        (None, None) => bail!("database_url is not set"),
    }
}

/// Opening it brings it to this version.
async fn migrate_file(path: &Path) -> Result<()> {
    SqliteStore::open(path).await?.close().await;
    Ok(())
}

/// Looks at the shared database as a start would; changes nothing. What was found, for people. Blocks, with a runtime of
/// its own.
pub fn check_database(url: &DatabaseUrl) -> Result<String> {
    block_on(async {
        PostgresStore::connect(url.expose(), Options::default()).await?.close().await;
        Ok(format!("{url} answers, and its schema is this version's"))
    })
}

/// Looks at Redis as a start would; leaves nothing behind. What was found, for people. Blocks, with a runtime of its own.
pub fn check_bus(url: &RedisUrl) -> Result<String> {
    let options = redis::Options::parse(url.expose())?;
    let found = block_on(async { Ok(redis::check(options).await?) })?;
    if !found.complete {
        bail!("{} answers, but not all of its Cluster's slots are served", found.servers.join(", "));
    }
    let how = if found.sharded { "sharded pub/sub" } else { "plain pub/sub: older than Redis 7" };
    Ok(format!("{} ({how})", found.servers.join(", ")))
}

fn block_on<T>(look: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(look)
}

/// The way to the other nodes.
pub(crate) enum Neighbours {
    /// There are none: one process.
    None(Arc<local::Node>),
    /// Those on one Redis.
    Redis(Arc<redis::Node>),
}

impl Neighbours {
    /// Joins them. Comes back without waiting for Redis: a node that starts while Redis is away is not ready, and gets
    /// ready by itself.
    pub(crate) fn join(url: Option<&RedisUrl>, id: &GatewayId, registry: &Registry) -> Result<Self> {
        let Some(url) = url else { return Ok(Self::None(Hub::new().join(id.clone()))) };
        let options = redis::Options::parse(url.expose()).context("cannot use redis_url")?;
        let node = redis::connect(options, id.clone(), registry).context("cannot use redis_url")?;
        Ok(Self::Redis(node))
    }

    /// The seams.
    pub(crate) fn link(&self) -> Link {
        match self {
            Self::None(node) => node.link(),
            Self::Redis(node) => node.link(),
        }
    }

    /// Names who takes what arrives.
    pub(crate) fn attach(&self, inbox: Weak<dyn Inbox>) {
        match self {
            Self::None(node) => node.attach(inbox),
            Self::Redis(node) => node.attach(inbox),
        }
    }

    /// Says goodbye, so that nobody has to find out.
    pub(crate) async fn leave(&self) {
        match self {
            Self::None(_) => {}
            Self::Redis(node) => node.shutdown().await,
        }
    }
}
