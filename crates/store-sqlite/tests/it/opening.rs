//! What is told to the one who starts the program when the database does not open.

use std::fs;
use std::path::{Path, PathBuf};

use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_store::{ApiKeys, AuditLog, By, NewKey, Settings};
use heliograph_store_sqlite::{OpenError, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    (directory, path)
}

async fn refusal(path: &Path) -> OpenError {
    SqliteStore::open(path).await.expect_err("it should not open")
}

/// A connection past the store, as a foreign tool would have it.
async fn by_hand(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

async fn run(path: &Path, sql: &'static str) {
    sqlx::query(sql).execute(&mut by_hand(path).await).await.unwrap();
}

fn a_key() -> NewKey {
    NewKey {
        id: "k".to_owned(),
        secret: [7; 32],
        mesh: MeshName::default_mesh(),
        peer: PeerId::parse("x").unwrap(),
        role: "agent".to_owned(),
        name: "x".to_owned(),
    }
}

#[tokio::test]
async fn a_store_that_was_closed_opens_with_everything_in_one_file() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).await.unwrap();
    let made = store.create_key(a_key(), By { actor: "system", now: 1 }).await.unwrap();
    store.close().await;
    assert!(store.ping().await.is_err(), "a closed store answers");
    assert!(store.setting("name", b"value").await.is_err(), "a closed store writes");
    drop(store);
    let files = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["store.db", "store.db.lock"]);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.key("k").await.unwrap(), made);
    assert_eq!(store.version().await.unwrap(), Version(1));
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let (directory, _) = place();
    let missing = directory.path().join("missing");
    let error = refusal(&missing.join("store.db")).await;
    assert!(matches!(&error, OpenError::NoDirectory(named) if *named == missing), "{error:?}");
    assert!(error.to_string().contains("create it"), "{error}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_named() {
    let (_directory, path) = place();
    fs::write(&path, "a file").unwrap();
    let error = refusal(&path.join("store.db")).await;
    assert!(matches!(&error, OpenError::NotWritable { path: named, .. } if *named == path), "{error:?}");
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_is_named() {
    let (_directory, path) = place();
    fs::create_dir(&path).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(&error, OpenError::NotWritable { path: named, .. } if *named == path), "{error:?}");
}

/// `/proc` takes no new files, from nobody: unlike the mode of a directory, that binds root too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_place_that_takes_no_files_is_named() {
    let error = refusal(Path::new("/proc/store.db")).await;
    assert!(matches!(error, OpenError::NotWritable { .. } | OpenError::NoDirectory(_)), "{error:?}");
    assert!(error.to_string().contains("/proc"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let (_directory, path) = place();
    let garbage = "not a database, but something that somebody may need. ".repeat(100);
    fs::write(&path, &garbage).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let (_directory, path) = place();
    run(&path, "CREATE TABLE recipes (name TEXT)").await;
    let before = fs::read(&path).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (_directory, path) = place();
    SqliteStore::open(&path).await.unwrap().close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'from the future', TRUE, x'00', 0)";
    run(&path, newer).await;
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, known: 1.., .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_schema_that_was_made_differently_is_refused() {
    let (_directory, path) = place();
    SqliteStore::open(&path).await.unwrap().close().await;
    run(&path, "UPDATE _sqlx_migrations SET checksum = x'00'").await;
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::ForeignSchema { .. }), "{error:?}");
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused_until_the_first_is_gone() {
    let (_directory, path) = place();
    let first = SqliteStore::open(&path).await.unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    first.ping().await.unwrap();
    drop(first);
    SqliteStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_tool_that_holds_the_file_is_told_of() {
    let (_directory, path) = place();
    SqliteStore::open(&path).await.unwrap().close().await;
    let mut tool = by_hand(&path).await;
    sqlx::query("PRAGMA locking_mode = EXCLUSIVE").execute(&mut tool).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut tool).await.unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
}

#[tokio::test]
async fn the_log_refuses_careless_hands() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).await.unwrap();
    store.create_key(a_key(), By { actor: "system", now: 1 }).await.unwrap();
    store.close().await;
    let mut tool = by_hand(&path).await;
    for sql in ["DELETE FROM log", "UPDATE log SET actor = 'nobody'"] {
        let error = sqlx::query(sql).execute(&mut tool).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}
