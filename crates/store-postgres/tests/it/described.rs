//! The committed descriptions of the checked queries are those of this schema and these sources, and none of the
//! queries reads a whole table.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};

use crate::support::migrated;

struct Query {
    sql: String,
    description: Value,
}

/// All that is in `.sqlx`.
fn queries() -> Vec<Query> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let queries = files.map(|text| {
        let mut data: Value = serde_json::from_str(&text).unwrap();
        Query { sql: data["query"].as_str().unwrap().to_owned(), description: data["describe"].take() }
    });
    let queries: Vec<_> = queries.collect();
    assert!(queries.len() > 20, "only {} queries are described", queries.len());
    queries
}

/// What the database says must be what the sources were compiled with.
#[tokio::test]
async fn descriptions_are_those_of_the_schema() {
    let url = migrated().await;
    let mut database = PgConnection::connect(&url).await.unwrap();
    for Query { sql, description } in queries() {
        let described = database.describe(AssertSqlSafe(sql.clone()).into_sql_str()).await.unwrap();
        let described = serde_json::to_value(described).unwrap();
        assert_eq!(described, description, "run prepare.sh: {sql}");
    }
}

#[test]
fn descriptions_are_those_of_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let sources: String = files.collect();
    for Query { sql, .. } in queries() {
        assert!(sources.contains(&sql), "run prepare.sh, nobody asks this any more: {sql}");
    }
}

/// Nothing per token exchange, join or redemption may grow with the number of rows.
#[tokio::test]
async fn no_query_reads_a_whole_table_or_sorts_it() {
    let url = migrated().await;
    let mut database = PgConnection::connect(&url).await.unwrap();
    database.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").await.unwrap();
    let by_hand = [
        "SELECT version FROM log WHERE peer IS NOT NULL AND version > $1 AND version <= $2 ORDER BY version",
        "SELECT id FROM pairings WHERE since < $1 AND mesh = $2 AND state = $3 ORDER BY since DESC LIMIT $4",
        "SELECT id FROM pairings WHERE since < $1 AND state = $2 ORDER BY since DESC LIMIT $3",
        "SELECT id FROM invites WHERE since < $1 AND mesh = $2 ORDER BY since DESC LIMIT $3",
        "SELECT id FROM api_keys WHERE since < $1 ORDER BY since DESC LIMIT $2",
        "SELECT version FROM log WHERE version < $1 AND mesh = $2 ORDER BY version DESC LIMIT $3",
        "SELECT name FROM peers WHERE (mesh, peer) > ($1, $2) AND mesh = $3 ORDER BY mesh, peer LIMIT $4",
    ];
    let checked = queries().into_iter().map(|query| query.sql);
    for (n, sql) in checked.chain(by_hand.map(str::to_owned)).enumerate() {
        let lists_leases = sql.contains("FROM leases ORDER BY"); // all of them, on purpose
        let plan = plan(&mut database, n, &sql).await;
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{sql}\n{plan}");
        assert!(lists_leases || !plan.contains("Index Scan") || plan.contains("Index Cond"), "{sql}\n{plan}");
    }
}

/// How Postgres would run a statement without knowing its values.
async fn plan(database: &mut PgConnection, n: usize, sql: &str) -> String {
    let parameters = (1..=20).take_while(|n| sql.contains(&format!("${n}"))).count();
    let values = vec!["NULL"; parameters].join(", ");
    let values = if parameters == 0 { String::new() } else { format!("({values})") };
    database.execute(AssertSqlSafe(format!("PREPARE s{n} AS {sql}"))).await.unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN EXECUTE s{n}{values}"));
    let lines: Vec<String> = sqlx::query_scalar(explain).fetch_all(database).await.unwrap();
    lines.join("\n")
}
