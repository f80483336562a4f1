//! Postgres as a test has it.

use std::time::Duration;

use heliograph_sandbox::Postgres;

#[tokio::test]
async fn each_database_is_new_and_empty() {
    let postgres = Postgres::shared().await.unwrap();
    let (one, other) = tokio::try_join!(postgres.database(), postgres.database()).unwrap();
    assert_ne!(one, other);
    assert!(one.starts_with(&format!("postgres://postgres@{}/", postgres.address())), "{one}");
    postgres.query(&one, "CREATE TABLE only_here (id int)").await.unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'";
    assert_eq!(postgres.query(&one, tables).await.unwrap(), "1");
    assert_eq!(postgres.query(&other, tables).await.unwrap(), "0");
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_told() {
    let postgres = Postgres::shared().await.unwrap();
    let error = postgres.query("postgres", "SELECT no_such_column").await.unwrap_err().to_string();
    assert!(error.contains("no_such_column"), "{error}");
}

#[tokio::test]
async fn a_crashed_server_comes_back_at_its_address_with_its_data() {
    let mut postgres = Postgres::start().await.unwrap();
    let database = postgres.database().await.unwrap();
    postgres.query(&database, "CREATE TABLE kept AS SELECT 7 AS seven").await.unwrap();
    let address = postgres.address();
    postgres.stop_immediately().await.unwrap();
    let refused = postgres.query(&database, "SELECT 1").await.unwrap_err().to_string();
    assert!(refused.contains("onnection refused"), "{refused}");
    postgres.start_again().await.unwrap();
    assert_eq!(postgres.address(), address);
    assert_eq!(postgres.query(&database, "SELECT seven FROM kept").await.unwrap(), "7");
    postgres.restart().await.unwrap();
    assert_eq!(postgres.query(&database, "SELECT seven FROM kept").await.unwrap(), "7");
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let mut postgres = Postgres::start().await.unwrap();
    postgres.pause().unwrap();
    {
        let query = postgres.query("postgres", "SELECT 1");
        let mut query = std::pin::pin!(query);
        let waited = tokio::time::timeout(Duration::from_millis(500), &mut query).await;
        assert!(waited.is_err(), "a paused server answered: {waited:?}");
    }
    postgres.resume().unwrap();
    assert_eq!(postgres.query("postgres", "SELECT 1").await.unwrap(), "1");
    // And one that is paused can be stopped.
    postgres.pause().unwrap();
    postgres.stop_immediately().await.unwrap();
}
