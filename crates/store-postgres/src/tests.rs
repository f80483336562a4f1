//! What can only be tried from inside: callers that go away, a full pool, what is set on connections.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use heliograph_core::id::{MeshName, Version};
use heliograph_store::{ApiKeys, AuditLog, Leases, Pairings, Settings, StoreError};
use sqlx::{Connection, PgConnection};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::calls::call;
use crate::change::change;
use crate::{Options, PostgresStore, schema};

#[path = "../tests/it/support.rs"]
mod support;

use support::{BY, a_key, gateway, migrated, number, peer, place, run, store};

/// Far beyond what anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// A caller that goes away after any number of steps (its client hung up) leaves all of its change or nothing, and
/// the next change goes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_half_of_its_change() {
    let url = migrated().await;
    let store = store(&url).await;
    let mut changes = 0;
    for steps in 0..40 {
        abandon(store.create_key(a_key(steps), BY), steps).await;
        store.create_key(a_key(100 + steps), BY).await.unwrap();
        let key = store.key(&format!("k{steps}")).await;
        let peer = store.peer(&MeshName::default_mesh(), &peer(steps)).await;
        assert_eq!(key.is_ok(), peer.is_ok());
        changes += 1 + u64::from(key.is_ok());
        assert_eq!(store.version().await.unwrap(), Version(changes));
    }
    assert!(changes > 40, "no caller stayed long enough: the steps are too few");
    assert!(changes < 80, "no caller went away");
}

/// Polls a future so many times, with a pause after each, and drops it.
async fn abandon(future: impl Future, steps: u32) {
    let mut future = pin!(future);
    for _ in 0..steps {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// A node that is frozen while it has the end of the log costs the others no lease: Postgres takes its change back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_stands_still_is_taken_back() {
    let url = migrated().await;
    let (frozen, other) = (Arc::new(store(&url).await), store(&url).await);
    let has_begun = Arc::new(Notify::new());
    let begun = Arc::clone(&has_begun);
    let change = tokio::spawn(async move {
        change!(frozen, |change| async {
            begun.notify_one();
            sleep(Duration::from_secs(3)).await;
            change.create_invite(&an_invite(), &BY).await
        })
    });
    has_begun.notified().await;
    timeout(SOON, other.renew(&gateway("g"), Version(0), Version(0))).await.unwrap().unwrap();
    timeout(SOON, other.create_key(a_key(1), BY)).await.unwrap().unwrap();
    let refused = timeout(SOON * 3, change).await.unwrap().unwrap();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(other.version().await.unwrap(), Version(1));
}

fn an_invite() -> heliograph_store::NewInvite {
    heliograph_store::NewInvite {
        id: "i".to_owned(),
        mesh: MeshName::default_mesh(),
        code: [1; 32],
        uses: 1,
        expires_at: i64::MAX,
        max_open: 10,
    }
}

/// Those that wait for one wait for a bounded time, and leases do not wait with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_are_made_than_allowed() {
    let url = migrated().await;
    let bounds =
        Options { max_connections: 2, acquire_timeout: Duration::from_millis(200), ..Options::default() };
    let store = Arc::new(PostgresStore::connect(&url, bounds).await.unwrap());
    let (taken, free) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let takers: Vec<_> = (0..2)
        .map(|_| {
            let (store, taken, free) = (Arc::clone(&store), Arc::clone(&taken), Arc::clone(&free));
            tokio::spawn(async move {
                call!(store.calls, |_connection| {
                    taken.notify_one();
                    free.notified().await;
                    Ok(())
                })
            })
        })
        .collect();
    taken.notified().await;
    taken.notified().await;
    let refused = store.ping().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("no connection")), "{refused:?}");
    timeout(SOON, store.renew(&gateway("g"), Version(0), Version(0))).await.unwrap().unwrap();
    let connections = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'heliograph'";
    assert_eq!(number(&url, connections).await, 4, "two for calls, one for leases, one that listens");
    free.notify_waiters();
    for taker in takers {
        taker.await.unwrap().unwrap();
    }
    store.ping().await.unwrap();
}

/// A call that its caller gave up, again and again, takes no place in the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_were_given_up_take_no_place() {
    let url = migrated().await;
    let bounds = Options { max_connections: 2, ..Options::default() };
    let store = PostgresStore::connect(&url, bounds).await.unwrap();
    for _ in 0..10 {
        let asleep = async {
            call!(store.calls, |connection| {
                sqlx::query("SELECT pg_sleep(60)").execute(connection).await?;
                Ok(())
            })
        };
        assert!(timeout(Duration::from_millis(20), asleep).await.is_err());
    }
    timeout(SOON, store.ping()).await.unwrap().unwrap();
}

async fn set(store: &PostgresStore, name: &str) -> String {
    let value = call!(store.calls, |connection| {
        Ok(sqlx::query_scalar::<_, String>("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(connection)
            .await?)
    });
    value.unwrap()
}

#[tokio::test]
async fn connections_are_set_up_as_the_store_needs_them() {
    let url = migrated().await;
    let database = place(&url).1;
    run(&url, &format!("ALTER DATABASE {database} SET synchronous_commit = off")).await;
    run(&url, &format!("ALTER DATABASE {database} SET default_transaction_isolation = serializable")).await;
    let store = store(&url).await;
    for (name, value) in [
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "1s"),
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
    ] {
        assert_eq!(set(&store, name).await, value, "{name}");
    }
    store.create_key(a_key(1), BY).await.unwrap();
}

#[tokio::test]
async fn how_durable_commits_are_stays_as_the_operator_set_it() {
    let url = migrated().await;
    let database = place(&url).1;
    run(&url, &format!("ALTER DATABASE {database} SET synchronous_commit = remote_apply")).await;
    assert_eq!(set(&store(&url).await, "synchronous_commit").await, "remote_apply");
}

/// Else it would wait for those who wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_concurrently_while_others_wait_to_migrate() {
    let url = migrated().await;
    let mut first = PgConnection::connect(&url).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(schema::LOCK).execute(&mut first).await.unwrap();
    let database = url.to_owned();
    let other = tokio::spawn(async move { PostgresStore::migrate(&database).await });
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid()";
    timeout(SOON, async { while number(&url, waits).await == 0 {} }).await.expect("nobody waits");
    let build = sqlx::raw_sql("CREATE INDEX CONCURRENTLY log_by_actor ON log (actor)");
    timeout(SOON, build.execute(&mut first)).await.expect("the index waits").unwrap();
    assert!(!other.is_finished(), "migrated beside another");
    first.close().await.unwrap();
    timeout(SOON, other).await.expect("the lock was not given back").unwrap().unwrap();
}
