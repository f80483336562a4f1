//! What a message costs the servers behind the nodes: nothing on one node, one publish between two.

use std::time::{Duration, Instant};

use heliograph_testkit::{Cluster, MeshClient, RedisKind};
use serde_json::json;

use crate::ghosts::join;
use crate::scene::{alone, name, plan};

const SENDER: usize = 0;
const NEAR: usize = 1;
const FAR: usize = 2;
const THIRD: usize = 3;
const MESSAGES: u64 = 1_000;

/// All statements in the nodes' database, this one aside. Counted as they end: what `pg_stat_database` has may be
/// seconds old.
const STATEMENTS: &str =
    "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database ON dbid = oid
    WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%'";

/// What the servers did since they were started.
#[derive(Debug, Clone, Copy)]
struct Work {
    publishes: u64,
    commands: u64,
    statements: u64,
}

impl Work {
    async fn so_far(cluster: &mut Cluster) -> Self {
        let info = cluster.redis().command(0, &["INFO", "commandstats"]).await.unwrap();
        let calls = |wanted: &dyn Fn(&str) -> bool| {
            let lines = info.text().lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
            let calls = lines.filter(|(command, _)| wanted(command)).filter_map(|(_, stats)| {
                stats.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
            });
            calls.sum::<u64>()
        };
        let publishes = calls(&|command| matches!(command, "publish" | "spublish"));
        let commands = calls(&|command| command != "info");
        let statements = cluster.query(STATEMENTS).await.parse().unwrap();
        Self { publishes, commands, statements }
    }

    fn since(self, before: Self) -> Self {
        Self {
            publishes: self.publishes - before.publishes,
            commands: self.commands - before.commands,
            statements: self.statements - before.statements,
        }
    }

    /// What is done in `time` at this rate per `measured`, at most: twice as much, and that of a second, since it comes in
    /// bursts. Far less than one per message.
    fn at_most(self, measured: Duration, time: Duration) -> Self {
        let times = 2.0 * (time.as_secs_f64() + 1.0) / measured.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let scaled = |count: u64| (count as f64 * times) as u64 + 20;
        Self {
            publishes: scaled(self.publishes),
            commands: scaled(self.commands),
            statements: scaled(self.statements),
        }
    }
}

/// Sends many messages and waits until all have arrived, and are answered if they have an id; what that took.
async fn send(
    cluster: &mut Cluster,
    from: &mut MeshClient,
    to: &mut MeshClient,
    with_id: bool,
) -> (Work, Duration) {
    let (before, begun) = (Work::so_far(cluster).await, Instant::now());
    for number in 0..MESSAGES {
        if with_id {
            from.send_with_id("offer", &to.id, json!(number), &number.to_string()).await;
        } else {
            from.send("offer", Some(&to.id), json!(number)).await;
        }
    }
    for number in 0..MESSAGES {
        assert_eq!(to.wait_for("offer").await["payload"], number);
    }
    for _ in 0..if with_id { MESSAGES } else { 0 } {
        from.wait_for("delivered").await;
    }
    (Work::so_far(cluster).await.since(before), begun.elapsed())
}

/// Makes the cluster's Postgres count statements.
async fn count_statements(cluster: &mut Cluster) {
    cluster.query("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'").await;
    cluster.postgres().restart().await.unwrap();
    cluster.query("CREATE EXTENSION pg_stat_statements").await;
    cluster.access().wait_until_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_costs_no_more_than_it_must() {
    const IDLE: Duration = Duration::from_secs(4);
    let _alone = alone().await;
    let mut cluster = plan(THIRD + 1).own_redis(RedisKind::Standalone).own_postgres().start().await;
    count_statements(&mut cluster).await;
    let mut clients = vec![];
    for (node, client) in [(0, SENDER), (0, NEAR), (1, FAR), (2, THIRD)] {
        clients.push(join(cluster.node(node), client).await.0);
    }
    assert_eq!(clients[NEAR].id, name(NEAR));

    let before = Work::so_far(&mut cluster).await;
    tokio::time::sleep(IDLE).await;
    let idle = Work::so_far(&mut cluster).await.since(before);
    println!("idle for {IDLE:?}: {idle:?}");
    assert!(idle.statements > 0 && idle.commands > 0, "renewals and heartbeats are not counted: {idle:?}");

    // Within a node, and then so that each node sends or receives.
    for (from, to, with_id, publishes) in [
        (SENDER, NEAR, true, 0),
        (SENDER, FAR, false, MESSAGES),
        (SENDER, FAR, true, 2 * MESSAGES),
        (THIRD, NEAR, true, 2 * MESSAGES),
        (FAR, THIRD, false, MESSAGES),
    ] {
        let [from, to] = clients.get_disjoint_mut([from, to]).unwrap();
        let (work, taken) = send(&mut cluster, from, to, with_id).await;
        println!("{} to {}, id: {with_id}, {taken:?}: {work:?}", from.id, to.id);
        let noise = idle.at_most(IDLE, taken);
        let allowed = publishes..=publishes + noise.publishes;
        assert!(allowed.contains(&work.publishes), "{work:?}, expected {allowed:?} publishes");
        assert!(
            work.commands <= publishes + noise.commands,
            "{work:?}, more than {noise:?} beside publishes"
        );
        assert!(work.statements <= noise.statements, "{work:?}, more than {noise:?}");
    }
}
