//! The line to the database is cut, or goes silent in one direction.

use std::time::Duration;

use heliograph_core::id::Version;
use heliograph_sandbox::{Direction, Proxy};
use heliograph_store::{ApiKeys, AuditLog, Hint, Leases, Settings, StoreError};
use heliograph_store_postgres::{Options, PostgresStore};
use tokio::time::timeout;

use crate::support::{BY, Database, a_key, gateway, migrated, server, store};
use crate::until::until;

/// How soon after the line is back calls have to succeed again.
const BACK: Duration = Duration::from_secs(5);
/// How long a bounded call or a hint may take; far beyond what it does take.
const SOON: Duration = Duration::from_secs(15);

/// A database, a line to it that fails on demand, and a store at its end.
async fn far_away() -> (Database, Proxy, PostgresStore) {
    let database = migrated().await;
    let line = Proxy::to(server().await.address()).await.unwrap();
    let bounds = Options {
        acquire_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_millis(1_500),
        ..Options::default()
    };
    let store = PostgresStore::connect(&line.through(&database), bounds).await.unwrap();
    (database, line, store)
}

async fn assert_refused(store: &PostgresStore) {
    for n in 0..4 {
        let refused =
            timeout(SOON, store.create_key(a_key(100 + n), BY)).await.expect("a call without an end");
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
}

/// Whether the store is woken by what another does.
async fn assert_woken(store: &PostgresStore, other: &PostgresStore) {
    let mut hints = store.hints(Hint::Change);
    until(SOON, async || {
        other.hint();
        timeout(Duration::from_millis(100), hints.changed()).await
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_was_cut_is_replaced() {
    let (database, line, store) = far_away().await;
    let near = crate::support::store(&database).await;
    store.create_key(a_key(1), BY).await.unwrap();
    line.cut();
    assert_refused(&store).await;
    line.heal();
    until(BACK, async || store.ping().await).await;
    store.create_key(a_key(2), BY).await.unwrap();
    assert_woken(&store, &near).await;
}

/// Neither end is told. Whoever waits is answered all the same, and the other nodes go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_silent_in_one_direction_holds_nobody_up() {
    let (database, line, far) = far_away().await;
    let near = store(&database).await;
    for (n, silent) in [Direction::ToServer, Direction::ToClient].into_iter().enumerate() {
        let n = 10 * u32::try_from(n).unwrap();
        far.create_key(a_key(n), BY).await.unwrap();
        line.half_open(silent);
        assert_refused(&far).await;
        timeout(SOON, near.create_key(a_key(n + 1), BY)).await.unwrap().unwrap();
        timeout(SOON, near.renew(&gateway("near"), Version(0), Version(0))).await.unwrap().unwrap();
        line.heal();
        until(BACK, async || far.ping().await).await;
        far.create_key(a_key(n + 2), BY).await.unwrap();
        assert_eq!(far.version().await.unwrap(), near.version().await.unwrap());
        assert_woken(&far, &near).await;
    }
}

/// Nothing arrives for the listener at the best of times, so it has to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_on_a_dead_line_looks_for_another() {
    let (database, line, far) = far_away().await;
    let near = store(&database).await;
    let lines = line.accepted();
    line.half_open(Direction::ToClient);
    until(SOON, async || match line.accepted() {
        now if now > lines => Ok(()),
        now => Err(now),
    })
    .await;
    line.heal();
    assert_woken(&far, &near).await;
}
