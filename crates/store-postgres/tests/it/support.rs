//! Databases for tests: each test has its own, copied from one that was migrated once.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use heliograph_core::id::{GatewayId, MeshName, PeerId};
use heliograph_sandbox::Postgres;
use heliograph_store::{By, NewKey};
use heliograph_store_postgres::{Options, PostgresStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

/// Whoever acts in these tests.
pub(crate) const BY: By<'static> = By { actor: "system", now: 1 };

/// The server that all tests share which do not break it.
pub(crate) async fn server() -> &'static Postgres {
    Postgres::shared().await.expect("PostgreSQL on this machine")
}

/// The URL of a database of the shared server, which goes when its test ends: each is some hundred files.
#[derive(Debug)]
pub(crate) struct Database(String);

/// Databases whose tests have ended. The next test that wants one drops them: `Drop` cannot wait for it.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Drop for Database {
    fn drop(&mut self) {
        ENDED.lock().expect("the list of databases").push(std::mem::take(&mut self.0));
    }
}

impl Deref for Database {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A fresh, empty database of the shared server.
pub(crate) async fn empty() -> Database {
    drop_ended().await;
    Database(server().await.database().await.expect("a new database"))
}

/// A fresh database of the shared server with this version's schema.
pub(crate) async fn migrated() -> Database {
    static TEMPLATE: OnceCell<Database> = OnceCell::const_new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let make = async || {
        let url = empty().await;
        PostgresStore::migrate(&url).await.expect("a migrated database");
        url
    };
    drop_ended().await;
    let (base, template) = place(TEMPLATE.get_or_init(make).await);
    let name = format!("{template}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    run(&format!("{base}/postgres"), &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    Database(format!("{base}/{name}"))
}

async fn drop_ended() {
    let ended = std::mem::take(&mut *ENDED.lock().expect("the list of databases"));
    for database in ended {
        let (base, name) = place(&database);
        run(&format!("{base}/postgres"), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

/// A URL up to its database, and the database.
pub(crate) fn place(url: &str) -> (&str, &str) {
    url.rsplit_once('/').expect("a database in the URL")
}

/// A store with what is set by default.
pub(crate) async fn store(url: &str) -> PostgresStore {
    PostgresStore::connect(url, Options::default()).await.expect("a store on a migrated database")
}

/// Runs statements past the store, as a foreign tool would.
pub(crate) async fn run(url: &str, sql: &str) {
    let mut tool = PgConnection::connect(url).await.expect("a connection for the tool");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut tool).await.expect("a statement of the tool");
    tool.close().await.expect("an end of the tool");
}

/// Asks past the store for one number.
pub(crate) async fn number(url: &str, sql: &str) -> i64 {
    let mut tool = PgConnection::connect(url).await.expect("a connection for the tool");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut tool).await.expect("a number for the tool")
}

/// A key `k<n>` for the peer `x<n>`, with a secret of its own.
pub(crate) fn a_key(n: u32) -> NewKey {
    let mut secret = [0; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    NewKey {
        id: format!("k{n}"),
        secret,
        mesh: MeshName::default_mesh(),
        peer: peer(n),
        role: "agent".to_owned(),
        name: format!("key {n}"),
    }
}

pub(crate) fn peer(n: u32) -> PeerId {
    PeerId::parse(&format!("x{n}")).expect("a peer")
}

pub(crate) fn gateway(name: &str) -> GatewayId {
    GatewayId::parse(name).expect("a gateway")
}
