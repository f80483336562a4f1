//! What a message costs the servers behind the nodes: nothing on one node, one publish between two.

use std::time::{Duration, Instant};

use heliograph_testkit::{Cluster, MeshClient, RedisKind};
use serde_json::json;

use crate::ghosts::join;
use crate::scene::{alone, name, plan};

const SENDER: usize = 0;
const NEAR: usize = 1;
const FAR: usize = 2;
const MESSAGES: u64 = 1_000;

/// What the servers did since they were started.
#[derive(Debug, Clone, Copy)]
struct Work {
    publishes: u64,
    commands: u64,
    transactions: u64,
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
        let sql =
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        let transactions = cluster.query(sql).await.parse().unwrap();
        Self { publishes, commands, transactions }
    }

    fn since(self, before: Self) -> Self {
        Self {
            publishes: self.publishes - before.publishes,
            commands: self.commands - before.commands,
            transactions: self.transactions - before.transactions,
        }
    }

    /// What is done in `time` at this rate per `measured`, at most: twice as much, and a little.
    fn at_most(self, measured: Duration, time: Duration) -> Self {
        let times = 2.0 * time.as_secs_f64() / measured.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let scaled = |count: u64| (count as f64 * times) as u64 + 20;
        Self {
            publishes: scaled(self.publishes),
            commands: scaled(self.commands),
            transactions: scaled(self.transactions),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_costs_no_more_than_it_must() {
    const IDLE: Duration = Duration::from_secs(4);
    let _alone = alone().await;
    let mut cluster = plan(3).own_redis(RedisKind::Standalone).start().await;
    let (mut sender, _) = join(cluster.node(0), SENDER).await;
    let (mut near, _) = join(cluster.node(0), NEAR).await;
    let (mut far, _) = join(cluster.node(1), FAR).await;
    assert_eq!(near.id, name(NEAR));

    let before = Work::so_far(&mut cluster).await;
    tokio::time::sleep(IDLE).await;
    let idle = Work::so_far(&mut cluster).await.since(before);
    println!("idle for {IDLE:?}: {idle:?}");

    for (is_far, with_id, publishes) in
        [(false, true, 0), (true, false, MESSAGES), (true, true, 2 * MESSAGES)]
    {
        let target = if is_far { &mut far } else { &mut near };
        let (work, taken) = send(&mut cluster, &mut sender, target, with_id).await;
        println!("to {}, id: {with_id}, {taken:?}: {work:?}", target.id);
        let noise = idle.at_most(IDLE, taken);
        let allowed = publishes..=publishes + noise.publishes;
        assert!(allowed.contains(&work.publishes), "{work:?}, expected {allowed:?} publishes");
        assert!(
            work.commands <= publishes + noise.commands,
            "{work:?}, more than {noise:?} beside publishes"
        );
        assert!(work.transactions <= noise.transactions, "{work:?}, more than {noise:?}");
    }
}
