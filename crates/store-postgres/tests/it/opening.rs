//! What is told to the one who starts the program when the database does not open.

use heliograph_core::id::Version;
use heliograph_sandbox::Postgres;
use heliograph_store::{ApiKeys, AuditLog};
use heliograph_store_postgres::{OpenError, Options, PostgresStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{BY, a_key, empty, migrated, number, place, run, server, store};
use crate::until::until;

fn migrating() -> Options {
    Options { auto_migrate: true, ..Options::default() }
}

/// The URL with another user and password in it, or with another database.
fn with(url: &str, user: &str, database: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    let (place, _) = place.split_once('/').unwrap();
    format!("postgres://{user}:s3cret@{place}/{database}")
}

/// Why the database at `url` does not open. No word of it may be the password.
async fn refusal(url: &str) -> OpenError {
    let error = PostgresStore::connect(url, Options::default()).await.expect_err("it should not open");
    let words = format!("{error} {error:?}");
    assert!(!words.contains("s3cret"), "{words}");
    error
}

fn name(url: &str) -> &str {
    place(url).1
}

#[tokio::test]
async fn a_database_without_a_schema_is_refused_and_says_what_to_run() {
    let url = empty().await;
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::Older { found: 0, needed: 1.., .. }), "{error:?}");
    assert!(error.to_string().contains("heliograph migrate"), "{error}");
}

#[tokio::test]
async fn a_database_is_migrated_by_hand_or_at_the_start() {
    let url = empty().await;
    PostgresStore::migrate(&url).await.unwrap();
    store(&url).await.create_key(a_key(1), BY).await.unwrap();
    let url = empty().await;
    let store = PostgresStore::connect(&url, migrating()).await.unwrap();
    store.create_key(a_key(1), BY).await.unwrap();
    PostgresStore::migrate(&url).await.unwrap();
    assert_eq!(store.version().await.unwrap(), Version(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_migrate_at_once() {
    for _ in 0..3 {
        let url = empty().await;
        let hand = |_| {
            let url = url.to_owned();
            tokio::spawn(async move { PostgresStore::migrate(&url).await })
        };
        let start = |_| {
            let url = url.to_owned();
            tokio::spawn(async move { PostgresStore::connect(&url, migrating()).await.map(drop) })
        };
        let migrations: Vec<_> = (0..4).map(hand).chain((0..2).map(start)).collect();
        for migration in migrations {
            migration.await.unwrap().unwrap();
        }
        store(&url).await.create_key(a_key(1), BY).await.unwrap();
        let twice_or_never = "SELECT max(version) - count(*) FROM _sqlx_migrations WHERE success";
        assert_eq!(number(&url, twice_or_never).await, 0);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let url = migrated().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'from the future', TRUE, '\\x00', 0)";
    run(&url, newer).await;
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, known: 1.., .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
    let error = PostgresStore::migrate(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error:?}");
}

#[tokio::test]
async fn a_schema_that_was_made_differently_is_refused() {
    let url = migrated().await;
    run(&url, "UPDATE _sqlx_migrations SET checksum = '\\x00'").await;
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::ForeignSchema { .. }), "{error:?}");
    let error = PostgresStore::migrate(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::ForeignSchema { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let url = empty().await;
    run(&url, "CREATE TABLE invites (guest TEXT); INSERT INTO invites VALUES ('Ann')").await;
    let error = PostgresStore::migrate(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::ForeignSchema { .. }), "{error:?}");
    assert!(error.to_string().contains("a database of its own"), "{error}");
    assert_eq!(number(&url, "SELECT count(*) FROM invites").await, 1);
    assert_eq!(number(&url, "SELECT count(*) FROM pg_class WHERE relname = 'head'").await, 0);
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let error = refusal(&with(&empty().await, "postgres", "nowhere")).await;
    assert!(matches!(&error, OpenError::NoDatabase { database, .. } if database == "nowhere"), "{error:?}");
    assert!(error.to_string().contains("CREATE DATABASE \"nowhere\""), "{error}");
}

#[tokio::test]
async fn a_missing_role_is_named() {
    let url = empty().await;
    let error = refusal(&with(&url, "nobody_here", name(&url))).await;
    assert!(matches!(&error, OpenError::NotAdmitted { user, .. } if user == "nobody_here"), "{error:?}");
    assert!(error.to_string().contains("CREATE ROLE"), "{error}");
}

#[tokio::test]
async fn a_role_without_rights_is_named() {
    let url = empty().await;
    run(&url, "DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN").await;
    let error = PostgresStore::migrate(&with(&url, "guest", name(&url))).await.unwrap_err();
    assert!(matches!(&error, OpenError::NotAllowed { user, .. } if user == "guest"), "{error:?}");
    assert!(error.to_string().contains("owner"), "{error}");
}

#[tokio::test]
async fn a_place_where_nothing_answers_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = refusal(&format!("postgres://ann:s3cret@{address}/pairing")).await;
    assert!(matches!(&error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let error = refusal("postgres://ann:s3cret@no-such-host.invalid/pairing").await;
    assert!(matches!(&error, OpenError::Unreachable { .. }), "{error:?}");
}

/// Accepts connections and says nothing.
#[tokio::test]
async fn a_place_that_keeps_silent_is_named() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://ann:s3cret@{}/pairing", silent.local_addr().unwrap());
    let error = refusal(&url).await;
    assert!(
        matches!(&error, OpenError::Unreachable { reason, .. } if reason.contains("within")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    for url in ["", "sqlite://ann:s3cret@x", "postgres://ann:s3cret@db:port/x"] {
        let error = refusal(url).await;
        assert!(matches!(&error, OpenError::BadUrl { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_all_texts_is_refused() {
    let url = empty().await;
    let sql = format!(
        "CREATE DATABASE {}_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        name(&url)
    );
    run(&url, &sql).await;
    let error = PostgresStore::migrate(&format!("{}_ascii", &*url)).await.unwrap_err();
    assert!(matches!(&error, OpenError::Encoding { encoding, .. } if encoding == "SQL_ASCII"), "{error:?}");
}

/// From here on the server wants a password for connections over TCP.
async fn want_passwords(url: &str) {
    let sql = "DO $$ BEGIN
        EXECUTE format('COPY (SELECT ''host all all 127.0.0.1/32 scram-sha-256'') TO %L', current_setting('hba_file'));
        PERFORM pg_reload_conf();
    END $$";
    run(url, "ALTER ROLE postgres PASSWORD 's3cret'").await;
    run(url, sql).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_not_repeated() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    want_passwords(&url).await;
    let right = with(&url, "postgres", name(&url));
    let wrong = right.replace("s3cret", "n0tit");
    let error = until(std::time::Duration::from_secs(10), async || {
        match PostgresStore::connect(&wrong, Options::default()).await {
            Err(error @ OpenError::WrongPassword { .. }) => Ok(error),
            other => Err(other),
        }
    })
    .await;
    let words = format!("{error} {error:?}");
    assert!(words.contains("postgres") && !words.contains("n0tit"), "{words}");
    PostgresStore::connect(&right, migrating()).await.unwrap();
}

#[tokio::test]
async fn a_standby_is_told_apart() {
    let mut postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    PostgresStore::migrate(&url).await.unwrap();
    let sql = "DO $$ BEGIN
        EXECUTE format('COPY (SELECT 1) TO %L', current_setting('data_directory') || '/standby.signal');
    END $$";
    run(&url, sql).await;
    postgres.restart().await.unwrap();
    let error = refusal(&url).await;
    assert!(matches!(error, OpenError::Standby { .. }), "{error:?}");
    assert!(error.to_string().contains("primary"), "{error}");
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_told_apart() {
    let url = migrated().await;
    run(&url, "DROP ROLE IF EXISTS busy; CREATE ROLE busy LOGIN").await;
    run(&url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO busy").await;
    run(&url, &format!("ALTER DATABASE {} CONNECTION LIMIT 0", name(&url))).await;
    let error = refusal(&with(&url, "busy", name(&url))).await;
    assert!(matches!(error, OpenError::TooManyConnections { .. }), "{error:?}");
}

#[tokio::test]
async fn the_log_refuses_careless_hands() {
    let url = migrated().await;
    store(&url).await.create_key(a_key(1), BY).await.unwrap();
    let mut tool = PgConnection::connect(&url).await.unwrap();
    for sql in ["DELETE FROM log", "UPDATE log SET actor = 'nobody'", "TRUNCATE log"] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut tool).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

/// Programs that look after databases find our connections by their name.
#[tokio::test]
async fn connections_say_whose_they_are() {
    let url = migrated().await;
    let store = store(&url).await;
    store.version().await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'heliograph'";
    assert_eq!(number(&url, sql).await, 2, "one for calls, one that listens");
    assert!(server().await.address().ip().is_loopback());
}
