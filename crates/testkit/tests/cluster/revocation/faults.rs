//! Something else is wrong while peers are revoked.

use std::time::Duration;

use heliograph_sandbox::{Direction, Program, Proxy};
use heliograph_testkit::{Node, Plan, RedisKind, eventually};

use super::fire::{Fire, HOT, Victim};
use crate::scene::{NODES, addresses};

const PAIRS: usize = 12;
const REVOCATIONS: usize = 12;
/// The promise is the term of a lease (3 s) and a second; a busy machine may take longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

async fn fire(make: impl FnOnce(Plan) -> Plan) -> Fire {
    Fire::start(make, PAIRS, REVOCATIONS).await
}

/// It has no lease: it says so, relays nothing, and lives.
async fn has_failed_closed(node: &Node) {
    eventually("the lease runs out", async || {
        (node.metric("heliograph_authorization_fail_closed").await == 1).then_some(())
    })
    .await;
    assert!(!node.is_ready().await, "without a lease it is not ready");
    assert_eq!(node.ops().get("/livez").await.status, 200);
    let relayed = node.relayed().await;
    eventually("senders are told", async || {
        let denied = r#"heliograph_authorization_denied_total{reason="no_lease",side="sender"}"#;
        (node.metric(denied).await > 5).then_some(())
    })
    .await;
    assert_eq!(node.relayed().await, relayed, "nothing is relayed meanwhile");
}

/// Some of those whose sessions are on node 0.
async fn victims(fire: &Fire) -> [Victim; 3] {
    let victims = fire.victims_on(0).await;
    *victims.first_chunk().unwrap_or_else(|| panic!("hardly anybody is on node 0: {victims:?}"))
}

/// Revokes them through node 1, while node 0 cannot hear of it: the first waits until the lease of node 0 has run out, the
/// next ones do not.
async fn revoke_behind_its_back(fire: &mut Fire, victims: [Victim; 3]) {
    for (round, victim) in victims.into_iter().enumerate() {
        let report = fire.revoke_only(victim, 1).await;
        println!("revocation {round}: {report:?}");
        let expired = if round == 0 { fire.names([0]) } else { vec![] };
        report.expect(&fire.names([1, 2]), &expired);
        assert!(report.took <= ANSWERED_WITHIN, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_is_waited_for_and_delivers_nothing_stale() {
    let mut fire = fire(|plan| plan).await;
    let victims = victims(&fire).await;
    fire.scene.cluster.node(0).pause();
    revoke_behind_its_back(&mut fire, victims).await;
    fire.scene.cluster.node(0).resume();
    fire.scene.cluster.node(0).wait_until_ready().await;
    fire.replace_all(victims).await;
    fire.is_as_before(4).await;
    fire.finish(|_| {}).await;
}

/// A node cannot reach Postgres for a while, and comes back by itself.
async fn cut_off(break_it: impl FnOnce(&Proxy)) {
    let mut fire = fire(Plan::ways_that_fail).await;
    let (victims, other) = (victims(&fire).await, fire.victims_on(1).await[0]);
    break_it(fire.scene.cluster.node(0).way_to_database());
    revoke_behind_its_back(&mut fire, victims).await;
    has_failed_closed(fire.scene.cluster.node(0)).await;
    let report = fire.ask(other, &fire.scene.cluster.node(0).admin()).await;
    assert!(report.status >= 500, "the node cannot revoke anybody: {report:?}");
    fire.scene.cluster.node(0).way_to_database().heal();
    fire.scene.cluster.node(0).wait_until_ready().await;
    fire.replace_all(victims).await;
    fire.is_as_before(4).await;
    let summary = fire.finish(|expected| expected.codes = true).await;
    assert!(summary.undeliverable.contains_key("authorization_unavailable"), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_cut_off_from_postgres() {
    cut_off(Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_nothing_from_postgres_and_postgres_nothing_from_it() {
    cut_off(|way| way.half_open(Direction::Both)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_reaches_postgres_and_no_answer_comes_back() {
    cut_off(|way| way.half_open(Direction::ToClient)).await;
}

/// Stops the processes of Postgres that tell nodes of changes, or lets them go on. They say nothing meanwhile, and nobody
/// can see that from outside before he asks them something.
async fn signal(processes: &[String], signal: &str) {
    let command = format!("kill -{signal} {}", processes.join(" "));
    Program::new("/bin/sh").args(["-c", &command]).run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_lost() {
    const LISTENERS: &str = "SELECT pid FROM pg_stat_activity \
        WHERE datname = current_database() AND query ~* '^(LISTEN|NOTIFY|SELECT 1$)'";
    let mut fire = fire(Plan::own_postgres).await;
    let mut stopped: Vec<String> = vec![];
    for number in 0..3 {
        // One of those that were stopped before may be found to be silent and replaced.
        let listeners = fire.scene.cluster.query(LISTENERS).await;
        let new: Vec<_> =
            listeners.lines().map(str::to_owned).filter(|process| !stopped.contains(process)).collect();
        assert!(number > 0 || new.len() == NODES, "each node listens by itself: {listeners}");
        if !new.is_empty() {
            signal(&new, "STOP").await;
        }
        stopped.extend(new);
        let victim = fire.victim(number);
        let report = fire.revoke(victim, number).await;
        println!("without notifications: {report:?}");
        report.expect(&fire.names(0..NODES), &[]);
        assert!(report.took <= ANSWERED_WITHIN, "{report:?}");
    }
    signal(&stopped, "CONT").await;
    fire.is_as_before(4).await;
    let summary = fire.finish(|expected| expected.codes = true).await;
    assert_eq!(summary.ends.len(), 1, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed() {
    let mut fire = fire(|plan| plan.own_redis(RedisKind::Standalone)).await;
    let victims = victims(&fire).await;
    fire.scene.cluster.redis().kill().unwrap();
    for (node, victim) in victims.into_iter().enumerate() {
        let report = fire.revoke_only(victim, node).await;
        report.expect(&fire.names(0..NODES), &[]);
    }
    for node in fire.scene.cluster.nodes() {
        eventually("it notices", async || (!node.is_ready().await).then_some(())).await;
        assert_eq!(node.metric("heliograph_authorization_fail_closed").await, 0, "rights need no Redis");
    }
    fire.scene.cluster.redis().start_empty().await.unwrap();
    fire.scene.cluster.access().wait_until_ready().await;
    fire.replace_all(victims).await;
    fire.is_as_before(4).await;
    fire.finish(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_restarted_in_the_middle() {
    let mut fire = fire(Plan::own_postgres).await;
    for number in 0..3 {
        let victim = fire.victim(number);
        fire.set_rate(victim, HOT).await;
        let admin = fire.scene.cluster.node(number).admin();
        // While it is down nobody can be revoked; nobody says that it was done either.
        fire.scene.cluster.postgres().stop_immediately().await.unwrap();
        let refused = fire.ask(victim, &admin).await;
        assert!(!refused.enforced && refused.status >= 500, "{refused:?}");
        fire.scene.cluster.postgres().start_again().await.unwrap();
        let report = eventually("it is revoked", async || {
            let report = fire.ask(victim, &admin).await;
            (report.status < 500).then_some(report)
        })
        .await;
        fire.note(victim, &report).await;
        assert!(report.enforced, "{report:?}");
    }
    fire.is_as_before(4).await;
    let summary = fire.finish(|expected| expected.codes = true).await;
    assert_eq!(summary.ends.len(), 1, "nobody lost its socket: {summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_started_in_the_middle_of_a_revocation() {
    let mut fire = fire(|plan| plan).await;
    let victims = victims(&fire).await;
    fire.set_rate(victims[0], HOT).await;
    fire.scene.cluster.node(0).pause();
    // It waits for the node that stands still, and meanwhile another one comes, to which some of the clients go.
    let admin = fire.scene.cluster.node(1).admin();
    let answer = fire.ask_beside(victims[0], &admin);
    let new = fire.scene.cluster.start_node().await;
    fire.scene.swarm.set_nodes(fire.scene.cluster.node(new).addresses());
    fire.reset(victims[0]).await;
    let report = answer.await.unwrap();
    fire.note(victims[0], &report).await;
    println!("with a node more: {report:?}");
    report.expect(&fire.names([1, 2]), &fire.names([0]));
    fire.replace(victims[0]).await;
    fire.scene.cluster.node(0).resume();
    fire.scene.swarm.set_nodes(&addresses(fire.scene.cluster.nodes()));
    fire.is_as_before(4).await;
    fire.finish(|_| {}).await;
}
