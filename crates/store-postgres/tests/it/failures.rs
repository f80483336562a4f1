//! The database goes away and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_core::id::{MeshName, Version};
use heliograph_sandbox::Postgres;
use heliograph_store::{ApiKeys, AuditLog, Hint, Leases, Page, Pairings, Settings, StoreError};
use heliograph_store_postgres::{Options, PostgresStore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{BY, a_key, gateway, migrated, number, peer, store};
use crate::until::until;

/// How soon after the database is back calls have to succeed again.
const BACK: Duration = Duration::from_secs(5);
/// How long a hint may take; far beyond what it does take.
const SOON: Duration = Duration::from_secs(10);

/// A server of its own, and a store on it.
async fn own_server(options: Options) -> (Postgres, String, PostgresStore) {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    let store = PostgresStore::connect(&url, Options { auto_migrate: true, ..options }).await.unwrap();
    (postgres, url, store)
}

/// One call of each kind, so that each statement is prepared on some connection.
async fn everything(store: &PostgresStore, n: u32) -> Result<(), StoreError> {
    store.create_key(a_key(n), BY).await?;
    assert_eq!(store.key_of_secret(&a_key(n).secret).await?.id, format!("k{n}"));
    let version = store.version().await?;
    let renewal = store.renew(&gateway("g"), Version(version.0 - 1), Version(0)).await?;
    assert_eq!((renewal.version, renewal.changes.len()), (version, 1));
    let record = store.peer(&MeshName::default_mesh(), &peer(n)).await?;
    assert_eq!((record.peer, record.version), (peer(n), version));
    assert!(store.leases().await?.iter().any(|row| row.gateway == gateway("g")));
    assert_eq!(store.log(None, Page { cursor: None, limit: 1 }).await?.rows[0].version, version);
    assert_eq!(store.setting("name", b"value").await?, b"value");
    assert!(matches!(store.pairing("unknown").await, Err(StoreError::NotFound)));
    Ok(())
}

/// Opens as many connections as the store may have.
async fn fill_the_pool(store: &Arc<PostgresStore>) {
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (reader, leaser) = (Arc::clone(store), Arc::clone(store));
        calls.spawn(async move { reader.ping().await });
        calls.spawn(async move { leaser.leases().await.map(drop) });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_refused_while_the_database_is_away_and_succeed_when_it_is_back() {
    let bounds = Options { acquire_timeout: Duration::from_millis(500), ..Options::default() };
    let (mut postgres, url, store) = own_server(bounds).await;
    everything(&store, 1).await.unwrap();
    for n in 2..4 {
        let mut hints = store.hints(Hint::Change);
        postgres.stop_immediately().await.unwrap();
        for refused in [
            store.ping().await.unwrap_err(),
            store.create_key(a_key(100), BY).await.unwrap_err(),
            store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap_err(),
        ] {
            assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        }
        hints.mark_unchanged();
        postgres.start_again().await.unwrap();
        until(BACK, async || store.ping().await).await;
        everything(&store, n).await.unwrap();
        timeout(SOON, hints.changed()).await.expect("hints did not come back").unwrap();
    }
    assert_eq!(number(&url, "SELECT version FROM head").await, 3);
}

/// All connections that the pool has are dead, and no call notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_calls_is_not_noticed() {
    let (mut postgres, _url, store) = own_server(Options::default()).await;
    let store = Arc::new(store);
    for n in 1..4 {
        fill_the_pool(&store).await;
        postgres.restart().await.unwrap();
        everything(&store, n).await.unwrap();
    }
}

const KILL_ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_ended_are_not_noticed() {
    let url = migrated().await;
    let store = Arc::new(store(&url).await);
    for n in 1..4 {
        fill_the_pool(&store).await;
        let killed = number(&url, KILL_ALL).await;
        assert!(killed > 5, "only {killed} connections");
        everything(&store, n).await.unwrap();
    }
}

/// A server or a line that has gone silent ends nothing by itself: only a bound of ours does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_silent_holds_no_call_up_for_ever() {
    let bounds = Options {
        acquire_timeout: Duration::from_millis(600),
        call_timeout: Duration::from_millis(1_200),
        ..Options::default()
    };
    let (mut postgres, _url, store) = own_server(bounds).await;
    let store = Arc::new(store);
    everything(&store, 1).await.unwrap();
    fill_the_pool(&store).await;
    postgres.pause().unwrap();
    let mut calls = JoinSet::new();
    for n in 0..20 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            match n % 2 {
                0 => store.ping().await,
                _ => store.renew(&gateway(&format!("g{n}")), Version(0), Version(0)).await.map(drop),
            }
        });
    }
    let asked = Instant::now();
    while let Some(call) = timeout(SOON, calls.join_next()).await.expect("a call without an end") {
        let refused = call.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    }
    assert!(asked.elapsed() >= Duration::from_millis(600), "refused before the bound");
    postgres.resume().unwrap();
    until(BACK, async || everything(&store, 2).await).await;
}

const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name = 'heliograph'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_leaves_no_connection_behind() {
    let url = migrated().await;
    let left = async || match number(&url, CONNECTIONS).await {
        0 => Ok(()),
        left => Err(left),
    };
    let closed = Arc::new(store(&url).await);
    fill_the_pool(&closed).await;
    assert!(number(&url, CONNECTIONS).await > 5);
    closed.close().await;
    until(SOON, left).await;
    assert!(closed.ping().await.is_err(), "a closed store answers");
    assert!(closed.create_key(a_key(1), BY).await.is_err(), "a closed store writes");

    let dropped = Arc::new(store(&url).await);
    fill_the_pool(&dropped).await;
    drop(dropped);
    until(SOON, left).await;
}
