//! Failures at a chosen place, by triggers in the database that end the connection or ask for another try.

use heliograph_core::id::Version;
use heliograph_store::{ApiKeys, AuditLog, StoreError};

use crate::support::{BY, a_key, migrated, number, run, store};

/// Counts the tries, also those that are taken back, and lets the first `failing` of them fail with `what` at the
/// insertion of a key, or (deferred) at its commit.
async fn disturb(url: &str, failing: u32, what: &str, when: &str) {
    let sql = format!(
        "CREATE SEQUENCE tries;
        CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') <= {failing} THEN {what} END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER disturb AFTER INSERT ON api_keys {when}
            FOR EACH ROW EXECUTE FUNCTION disturb();"
    );
    run(url, &sql).await;
}

const END: &str = "PERFORM pg_terminate_backend(pg_backend_pid());";
const CLASH: &str = "RAISE EXCEPTION 'try again' USING ERRCODE = 'serialization_failure';";
const DEADLOCK: &str = "RAISE EXCEPTION 'try again' USING ERRCODE = 'deadlock_detected';";
const AT_ONCE: &str = "NOT DEFERRABLE";
const AT_COMMIT: &str = "DEFERRABLE INITIALLY DEFERRED";

const TRIES: &str = "SELECT last_value FROM tries";

/// What was not committed is tried again, and once it succeeds it was done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_came_to_nothing_is_tried_again() {
    for (failing, what, when) in [
        (1, END, AT_ONCE),
        (2, END, AT_ONCE),
        (1, CLASH, AT_ONCE),
        (2, DEADLOCK, AT_ONCE),
        (2, CLASH, AT_COMMIT),
    ] {
        let url = migrated().await;
        disturb(&url, failing, what, when).await;
        let store = store(&url).await;
        store.create_key(a_key(1), BY).await.unwrap();
        assert_eq!(store.version().await.unwrap(), Version(1), "{what} {when}");
        assert_eq!(number(&url, TRIES).await, i64::from(failing) + 1, "{what} {when}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_tried_a_few_times_only() {
    for what in [END, CLASH] {
        let url = migrated().await;
        disturb(&url, 1_000, what, AT_ONCE).await;
        let store = store(&url).await;
        let refused = store.create_key(a_key(1), BY).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(number(&url, TRIES).await, 3, "{what}");
        assert_eq!(store.version().await.unwrap(), Version(0));
    }
}

/// A connection that ends during the commit leaves open whether it happened: nobody may do it a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_not_tried_again() {
    let url = migrated().await;
    disturb(&url, 1, END, AT_COMMIT).await;
    let store = store(&url).await;
    let refused = store.create_key(a_key(1), BY).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("not known")), "{refused:?}");
    assert_eq!(number(&url, TRIES).await, 1);
    store.create_key(a_key(1), BY).await.unwrap();
    assert_eq!(store.version().await.unwrap(), Version(1));
}

/// Postgres repeats rows and statements in its messages; callers pass ours on to logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_repeats_values_or_statements() {
    for code in ["22023", "23514", "42P01", "53100", "54000", "57014", "P0001", "XX001"] {
        let url = migrated().await;
        let what =
            format!("RAISE EXCEPTION 'INSERT INTO api_keys x1 %', NEW.secret USING ERRCODE = '{code}';");
        disturb(&url, 1_000, &what, AT_ONCE).await;
        let store = store(&url).await;
        let refused = store.create_key(a_key(1), BY).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_) | StoreError::Inconsistent(_)), "{refused:?}");
        let words = format!("{refused} {refused:?}");
        assert!(!words.contains("INSERT") && !words.contains("x1") && !words.contains("\\x"), "{words}");
        assert_eq!(store.version().await.unwrap(), Version(0));
    }
}

/// No text in Postgres has a zero byte, so nothing is called that; what else a caller sends is looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zero_byte_is_not_found() {
    let url = migrated().await;
    let store = store(&url).await;
    for id in ["\0", "k1\0", "k\u{10ffff}", "k'; DROP TABLE head; --"] {
        assert!(matches!(store.key(id).await, Err(StoreError::NotFound)), "{id:?}");
    }
    store.create_key(a_key(1), BY).await.unwrap();
}
