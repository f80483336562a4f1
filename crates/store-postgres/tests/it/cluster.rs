//! Several nodes on one database: what one does, the others see, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heliograph_core::authority::Standing;
use heliograph_core::chain::Verifier;
use heliograph_core::id::{MeshName, Version};
use heliograph_core::pairing::PairingState::Approved;
use heliograph_core::pairing::Transition;
use heliograph_store::{
    ApiKeys, AuditLog, Hint, Leases, NewInvite, Pairing, Pairings, Redemption, StandingChange, StoreError,
};
use heliograph_store_postgres::PostgresStore;
use sqlx::{Connection, PgConnection};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{BY, Database, a_key, gateway, migrated, number, peer, run, store};

/// How long a hint may take; far beyond what it does take.
const SOON: Duration = Duration::from_secs(10);
/// How long nothing must happen for us to believe that nothing will.
const QUIET: Duration = Duration::from_millis(300);

/// So many nodes on one fresh database.
async fn nodes(count: usize) -> (Database, Vec<Arc<PostgresStore>>) {
    let url = migrated().await;
    let mut nodes = vec![];
    for _ in 0..count {
        nodes.push(Arc::new(store(&url).await));
    }
    (url, nodes)
}

/// A device that waits for approval.
async fn waiting(store: &PostgresStore, n: u32) -> Pairing {
    let mut code = [1; 32];
    code[..4].copy_from_slice(&n.to_be_bytes());
    let invite = NewInvite {
        id: format!("i{n}"),
        mesh: MeshName::default_mesh(),
        code,
        uses: 1,
        expires_at: i64::MAX,
        max_open: u32::MAX,
    };
    store.create_invite(invite, BY).await.unwrap();
    let redemption = Redemption {
        code,
        id: format!("r{n}"),
        peer: peer(n),
        name: String::new(),
        claim: code,
        public_key: None,
        address: None,
        max_pending: u32::MAX,
    };
    store.redeem(redemption, BY.now).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_four_nodes_leave_one_chain_without_gaps() {
    let (_url, nodes) = nodes(4).await;
    let writers: Vec<_> = (0..8_u32)
        .map(|writer| {
            let store = Arc::clone(&nodes[writer as usize % 4]);
            tokio::spawn(async move {
                for n in 0..10 {
                    let pairing = waiting(&store, writer * 100 + n).await;
                    store.transition(&pairing.id, Transition::Approve, BY).await.unwrap();
                    store.create_key(a_key(writer * 100 + n), BY).await.unwrap();
                    assert!(matches!(store.pairing("unknown").await, Err(StoreError::NotFound)));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut verifier = Verifier::default();
    for entry in nodes[0].log_after(Version(0), 1_000).await.unwrap() {
        verifier.check(&entry.link(), &entry.hash).unwrap();
    }
    assert_eq!(verifier.checked(), 8 * 10 * 4);
    for node in &nodes {
        assert_eq!(node.version().await.unwrap(), Version(8 * 10 * 4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_approve_one_wins() {
    let (_url, nodes) = nodes(2).await;
    for round in 0..20 {
        let id = waiting(&nodes[0], round).await.id;
        let start = Arc::new(Barrier::new(2));
        let approvals = nodes.iter().map(|node| {
            let (node, id, start) = (Arc::clone(node), id.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                node.transition(&id, Transition::Approve, BY).await
            })
        });
        let mut won = 0;
        for approval in approvals.collect::<Vec<_>>() {
            match approval.await.unwrap() {
                Ok(_) => won += 1,
                Err(refusal) => assert!(matches!(refusal, StoreError::Conflict(Approved)), "{refusal:?}"),
            }
        }
        assert_eq!(won, 1);
    }
}

/// A node that renews all the time and keeps what it was told, until it is told to stop.
fn follower(
    node: &Arc<PostgresStore>,
    name: String,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<Vec<StandingChange>> {
    let (node, stop) = (Arc::clone(node), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut told, mut applied) = (vec![], Version(0));
        while !stop.load(Ordering::Relaxed) {
            let renewal = node.renew(&gateway(&name), applied, applied).await.unwrap();
            told.extend(renewal.changes);
            applied = renewal.version;
        }
        told
    })
}

/// The first renewal of any node that begins after a revocation was answered tells it, and nobody is told twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_amid_renewals_is_told_by_the_next_one_of_each_node() {
    const ROUNDS: u32 = 25;
    let (_url, nodes) = nodes(4).await;
    let stop = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> =
        nodes.iter().enumerate().map(|(n, node)| follower(node, format!("g{n}"), &stop)).collect();
    let mut revoked = vec![];
    for round in 0..ROUNDS {
        let node = &nodes[round as usize % 4];
        node.create_key(a_key(round), BY).await.unwrap();
        let version = node.revoke_peer(&MeshName::default_mesh(), &peer(round), BY).await.unwrap();
        for (n, node) in nodes.iter().enumerate() {
            let before = Version(version.0 - 1);
            let renewal = node.renew(&gateway(&format!("h{n}")), before, before).await.unwrap();
            let told: Vec<_> =
                renewal.changes.iter().map(|change| (change.version, change.standing)).collect();
            assert_eq!((renewal.version, told), (version, vec![(version, Standing::Revoked)]));
        }
        revoked.push((peer(round), version));
    }
    // One more renewal of each follower begins after the last revocation.
    tokio::time::sleep(QUIET).await;
    stop.store(true, Ordering::Relaxed);
    for follower in followers {
        let told = follower.await.unwrap();
        let versions: Vec<_> = told.iter().map(|change| change.version.0).collect();
        assert_eq!(versions, (1..=u64::from(ROUNDS) * 2).collect::<Vec<_>>());
        let told = told.into_iter().filter(|change| change.standing == Standing::Revoked);
        assert_eq!(told.map(|change| (change.peer, change.version)).collect::<Vec<_>>(), revoked);
    }
}

/// Somebody else has the end of the log.
async fn hold_head(url: &str, how: &'static str) -> PgConnection {
    let mut other = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    let sql = match how {
        "shared" => "SELECT version FROM head FOR SHARE",
        _ => "SELECT version FROM head FOR UPDATE",
    };
    sqlx::raw_sql(sql).execute(&mut other).await.unwrap();
    other
}

/// Were they one after another, a slow renewal of one node would cost the others their leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_do_not_wait_for_each_other() {
    let (url, nodes) = nodes(2).await;
    let slow_renewal = hold_head(&url, "shared").await;
    for n in 0..20 {
        let name = gateway(&format!("g{}", n % 3));
        timeout(SOON, nodes[n % 2].renew(&name, Version(0), Version(0))).await.unwrap().unwrap();
    }
    let refused = nodes[0].create_key(a_key(1), BY).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "a change ran beside a renewal: {refused:?}");
    drop(slow_renewal);
    nodes[0].create_key(a_key(1), BY).await.unwrap();
}

/// Refused is better than late: the node tries again, or knows that its lease is running out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_does_not_wait_for_a_change_without_end() {
    let (url, nodes) = nodes(1).await;
    let endless_change = hold_head(&url, "alone").await;
    let renewal = timeout(SOON, nodes[0].renew(&gateway("g"), Version(0), Version(0))).await.unwrap();
    let why = renewal.unwrap_err().to_string();
    assert!(why.contains("other changes held the database up"), "{why}");
    assert_eq!(number(&url, "SELECT count(*) FROM leases").await, 0);
    drop(endless_change);
    nodes[0].renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
}

async fn assert_wakes(hints: &mut watch::Receiver<u64>) {
    timeout(SOON, hints.changed()).await.expect("nobody was woken up").unwrap();
    calm(hints).await;
}

/// Waits until everything that was on its way has come.
async fn calm(hints: &mut watch::Receiver<u64>) {
    while timeout(QUIET, hints.changed()).await.is_ok() {}
}

/// Makes all that wakes happen on `node`, and checks that `other` is woken by each: its gateway by changes alone.
async fn assert_wakes_across(node: &PostgresStore, other: &PostgresStore, n: u32) {
    let (mut changes, mut leases) = (other.hints(Hint::Change), other.hints(Hint::Lease));
    calm(&mut changes).await;
    node.create_key(a_key(n), BY).await.unwrap();
    assert_wakes(&mut changes).await;
    calm(&mut leases).await;
    let version = node.version().await.unwrap();
    node.renew(&gateway("g"), version, version).await.unwrap();
    assert_wakes(&mut leases).await;
    node.renew(&gateway("g"), version, version).await.unwrap();
    assert!(timeout(QUIET, leases.changed()).await.is_err(), "a plain renewal woke somebody");
    assert!(node.remove_lease(&gateway("g"), None).await.unwrap());
    assert_wakes(&mut leases).await;
    assert!(timeout(QUIET, changes.changed()).await.is_err(), "a lease woke a gateway");
    node.hint();
    assert_wakes(&mut changes).await;
    assert_wakes(&mut leases).await;
}

/// During an update nodes of the version before are there: what they say of anything wakes everybody here, and what is
/// said here reaches them, as they listen to the same channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_know_one_kind_of_hint_are_understood() {
    let (url, nodes) = nodes(1).await;
    let (mut changes, mut leases) = (nodes[0].hints(Hint::Change), nodes[0].hints(Hint::Lease));
    calm(&mut changes).await;
    run(&url, "NOTIFY heliograph").await;
    assert_wakes(&mut changes).await;
    assert_wakes(&mut leases).await;
    let mut older = sqlx::postgres::PgListener::connect(&url).await.unwrap();
    older.listen("heliograph").await.unwrap();
    nodes[0].create_key(a_key(1), BY).await.unwrap();
    timeout(SOON, older.recv()).await.expect("no word of a change").unwrap();
    nodes[0].renew(&gateway("g"), Version(1), Version(1)).await.unwrap();
    timeout(SOON, older.recv()).await.expect("no word of a lease").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_does_wakes_those_who_wait_on_another() {
    let (_url, nodes) = nodes(2).await;
    assert_wakes_across(&nodes[0], &nodes[1], 1).await;
    assert_wakes_across(&nodes[1], &nodes[0], 2).await;
}

const KILL_LISTENERS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query IN ('SELECT 1', 'NOTIFY heliograph'))";

/// And whoever waits is woken when it is back: something may have been missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_cut_off_listens_again() {
    let (url, nodes) = nodes(2).await;
    for n in 0..3 {
        let mut hints = nodes[1].hints(Hint::Change);
        calm(&mut hints).await;
        assert_eq!(number(&url, KILL_LISTENERS).await, 2, "each node has one listener");
        assert_wakes(&mut hints).await;
        calm(&mut nodes[0].hints(Hint::Change)).await;
        assert_wakes_across(&nodes[0], &nodes[1], n).await;
    }
}

/// An update of the schema that only adds is made while nodes run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_grows_does_not_disturb_a_running_node() {
    let (url, nodes) = nodes(1).await;
    nodes[0].create_key(a_key(1), BY).await.unwrap();
    let before = nodes[0].key("k1").await.unwrap();
    for table in ["head", "log", "invites", "peers", "pairings", "api_keys", "leases", "settings"] {
        run(&url, &format!("ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT ''")).await;
    }
    assert_eq!(nodes[0].key("k1").await.unwrap(), before);
    waiting(&nodes[0], 7).await;
    nodes[0].create_key(a_key(2), BY).await.unwrap();
    assert_eq!(nodes[0].renew(&gateway("g"), Version(0), Version(0)).await.unwrap().changes.len(), 3);
    assert_eq!(nodes[0].log_after(Version(0), 10).await.unwrap().len(), 4);
}
