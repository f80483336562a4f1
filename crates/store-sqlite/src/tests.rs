//! What can only be tried from inside: a disk that fills up, callers that go away, statements that would scan.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_store::{ApiKeys, AuditLog, By, NewKey, Pairings, StoreError};
use tempfile::TempDir;

use crate::SqliteStore;
use crate::error::OpenError;

const BY: By<'static> = By { actor: "system", now: 1 };

async fn fresh() -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("store.db")).await.unwrap();
    (directory, store)
}

fn a_key(n: u8) -> NewKey {
    NewKey {
        id: format!("k{n}"),
        secret: [n; 32],
        mesh: MeshName::default_mesh(),
        peer: PeerId::parse(&format!("x{n}")).unwrap(),
        role: "agent".to_owned(),
        name: "n".repeat(100),
    }
}

/// Lets the file grow to so many pages, or without bound.
async fn allow_pages(store: &SqliteStore, pages: &'static str) -> sqlx::Result<i64> {
    let mut writer = store.writer.write().await;
    sqlx::query_scalar(pages).fetch_one(writer.idle().await.unwrap()).await
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_loses_nothing() {
    let (_directory, store) = fresh().await;
    // Less than there is already: no page may be added.
    allow_pages(&store, "PRAGMA max_page_count = 1").await.unwrap();
    let mut made = 0;
    let refusal = loop {
        match store.create_key(a_key(made), BY).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refusal, StoreError::Unavailable(why) if why.contains("no room")), "{refusal:?}");
    assert_eq!(store.version().await.unwrap(), Version(u64::from(made)));

    allow_pages(&store, "PRAGMA max_page_count = 4294967294").await.unwrap();
    store.create_key(a_key(made), BY).await.unwrap();
    assert_eq!(store.version().await.unwrap(), Version(u64::from(made) + 1));
}

#[tokio::test]
async fn a_full_disk_is_named_to_who_opens_the_file() {
    let (directory, store) = fresh().await;
    allow_pages(&store, "PRAGMA max_page_count = 1").await.unwrap();
    let mut writer = store.writer.write().await;
    let error = sqlx::query("INSERT INTO settings (name, value) VALUES ('big', zeroblob(1000000))")
        .execute(writer.idle().await.unwrap())
        .await
        .unwrap_err();
    let error = OpenError::sql(directory.path(), &error);
    assert!(matches!(error, OpenError::DiskFull(_)), "{error:?}");
}

/// A caller that goes away after any number of steps (its client hung up) leaves all of its change or nothing, and
/// the next change goes through.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_half_of_its_change() {
    let (_directory, store) = fresh().await;
    let mut changes = 0;
    for steps in 0..40 {
        abandon(store.create_key(a_key(steps), BY), steps).await;
        store.create_key(a_key(100 + steps), BY).await.unwrap();
        let (key, peer) =
            (store.key(&format!("k{steps}")).await, PeerId::parse(&format!("x{steps}")).unwrap());
        let peer = store.peer(&MeshName::default_mesh(), &peer).await;
        assert_eq!(key.is_ok(), peer.is_ok());
        changes += 1 + u64::from(key.is_ok());
        assert_eq!(store.version().await.unwrap(), Version(changes));
    }
    assert!(changes > 40, "no caller stayed long enough: the steps are too few");
    assert!(changes < 80, "no caller went away");
}

/// Polls a future so many times, with a pause after each, and drops it.
async fn abandon(future: impl Future, steps: u8) {
    let mut future = pin!(future);
    for _ in 0..steps {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Nothing per token exchange, join or redemption may grow with the number of rows.
#[tokio::test]
async fn frequent_lookups_go_by_an_index() {
    let (_directory, store) = fresh().await;
    for sql in [
        "EXPLAIN QUERY PLAN SELECT id FROM api_keys WHERE secret = ?",
        "EXPLAIN QUERY PLAN SELECT name FROM peers WHERE mesh = ? AND peer = ?",
        "EXPLAIN QUERY PLAN SELECT name FROM peers \
         WHERE (mesh, peer) = (SELECT mesh, peer FROM pairings WHERE device_token = ?)",
        "EXPLAIN QUERY PLAN UPDATE invites SET uses_left = uses_left - 1 \
         WHERE code = ? AND revoked = 0 AND uses_left > 0 AND expires_at > ?",
        "EXPLAIN QUERY PLAN SELECT 1 FROM pairings WHERE mesh = ? AND state = ? LIMIT ?",
        "EXPLAIN QUERY PLAN SELECT 1 FROM invites \
         WHERE mesh = ? AND revoked = 0 AND uses_left > 0 AND expires_at > ? LIMIT ?",
        "EXPLAIN QUERY PLAN DELETE FROM invites \
         WHERE code = ? AND revoked = 0 AND uses_left > 0 AND expires_at <= ?",
        "EXPLAIN QUERY PLAN SELECT id FROM invites WHERE expires_at <= ? ORDER BY expires_at, id LIMIT ?",
        "EXPLAIN QUERY PLAN UPDATE api_keys SET revoked_at = ? WHERE mesh = ? AND peer = ? AND revoked_at IS NULL",
        "EXPLAIN QUERY PLAN SELECT version FROM log \
         WHERE peer IS NOT NULL AND version > ? AND version <= ? ORDER BY version",
        "EXPLAIN QUERY PLAN SELECT id FROM pairings WHERE since < ? AND mesh = ? AND state = ? ORDER BY since DESC",
        "EXPLAIN QUERY PLAN SELECT name FROM peers WHERE (mesh, peer) > (?, ?) AND mesh = ? ORDER BY mesh, peer",
    ] {
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sql).fetch_all(&store.readers).await.unwrap();
        assert!(!plan.is_empty());
        for (.., step) in plan {
            let by_index = step.starts_with("SEARCH") || step.contains("SUBQUERY");
            assert!(by_index && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
}
