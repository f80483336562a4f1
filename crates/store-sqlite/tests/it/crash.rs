//! Killed in the middle of its work, the store has kept whatever it answered, and nothing by halves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use heliograph_core::chain::Verifier;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::{AuditLog, By, LogEntry, NewInvite, Page, Pairing, Pairings, Redemption};
use heliograph_store_sqlite::{OpenError, SqliteStore};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

/// Tells the child that it is one, and on which file it works.
const FILE: &str = "HELIOGRAPH_TEST_CRASH_FILE";
const ROUNDS: u32 = 6;
const BY: By<'static> = By { actor: "ak_1", now: 1 };

#[tokio::test]
async fn a_killed_process_leaves_what_it_answered_and_nothing_by_halves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let mut answered = vec![];
    for round in 0..ROUNDS {
        let worked = Duration::from_millis(150 + 37 * u64::from(round));
        let before = answered.len();
        answered.extend(work_and_die(&path, worked).await);
        assert!(answered.len() > before, "round {round}: the child did nothing");
        check(&path, &answered).await;
    }
}

/// Starts a child, lets it work for a while after its first answer, kills it: what it answered.
async fn work_and_die(path: &Path, worked: Duration) -> Vec<String> {
    let mut child = start(path);
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("answered ").map(str::to_owned)).collect::<Vec<_>>()
    });
    wait_until_taken(path).await;
    tokio::time::sleep(worked).await;
    assert!(
        matches!(SqliteStore::open(path).await, Err(OpenError::Locked(_))),
        "the child does not hold the file"
    );
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let mut lines = lines.join().unwrap();
    lines.retain(|line| line.ends_with(';')); // the last one may be cut off
    lines
}

fn start(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::works_until_it_is_killed", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn wait_until_taken(path: &Path) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !matches!(SqliteStore::open(path).await, Err(OpenError::Locked(_))) {
        assert!(Instant::now() < patience, "the child did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The child. Does nothing when it is run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_until_it_is_killed() {
    let Some(path) = env::var_os(FILE) else { return };
    let store = loop {
        // The parent looks whether the file is taken, and for that moment has it.
        match SqliteStore::open(&path).await {
            Err(OpenError::Locked(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            opened => break Arc::new(opened.unwrap()),
        }
    };
    let next = Arc::new(AtomicU64::new(store.version().await.unwrap().0));
    let workers = (0..3).map(|_| tokio::spawn(pair_for_ever(store.clone(), next.clone())));
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

async fn pair_for_ever(store: Arc<SqliteStore>, next: Arc<AtomicU64>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let pairing = redeem(&store, n).await;
        answered(&pairing);
        let way: &[Transition] =
            [&[Transition::Reject][..], &[Transition::Approve], &[Transition::Approve, Transition::Revoke]]
                [usize::try_from(n % 3).unwrap()];
        for &transition in way {
            answered(&store.transition(&pairing.id, transition, BY).await.unwrap());
        }
    }
}

async fn redeem(store: &SqliteStore, n: u64) -> Pairing {
    let mut code = [0; 32];
    code[..8].copy_from_slice(&n.to_be_bytes());
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
        peer: PeerId::parse(&format!("p{n}")).unwrap(),
        name: String::new(),
        claim: code,
        public_key: None,
        address: None,
        max_pending: u32::MAX,
    };
    store.redeem(redemption, BY.now).await.unwrap()
}

fn answered(pairing: &Pairing) {
    let line = format!("\nanswered {} {} {};\n", pairing.version, pairing.peer, pairing.state.as_str());
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The file is sound, the log fits together, everything answered is in it, and the rows are what the log says.
async fn check(path: &Path, answered: &[String]) {
    let options = SqliteConnectOptions::new().filename(path);
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut options.connect().await.unwrap())
        .await
        .unwrap();
    assert_eq!(sound, "ok");

    let store = SqliteStore::open(path).await.unwrap();
    let log = store.log_after(Version(0), u32::MAX).await.unwrap();
    let mut verifier = Verifier::default();
    for entry in &log {
        verifier.check(&entry.link(), &entry.hash).unwrap();
    }
    assert_eq!(store.version().await.unwrap(), Version(verifier.checked()));
    for line in answered {
        assert!(log.iter().any(|entry| as_answered(entry).as_ref() == Some(line)), "lost: {line}");
    }
    assert_rows_are_what_the_log_says(&store, &log).await;
    store.close().await;
}

fn state_after(action: &str) -> Option<PairingState> {
    match action {
        "pair" => Some(PairingState::PendingApproval),
        "approve" => Some(PairingState::Approved),
        "reject" => Some(PairingState::Rejected),
        "revoke" => Some(PairingState::Revoked),
        _ => None,
    }
}

fn as_answered(entry: &LogEntry) -> Option<String> {
    state_after(&entry.action).map(|state| format!("{} {} {};", entry.version, entry.subject, state.as_str()))
}

async fn assert_rows_are_what_the_log_says(store: &SqliteStore, log: &[LogEntry]) {
    let mut expected = BTreeMap::new();
    for entry in log {
        if let Some(state) = state_after(&entry.action) {
            expected.insert(entry.subject.clone(), (state, entry.version));
        }
    }
    let (mut pairings, mut peers) = (BTreeMap::new(), BTreeMap::new());
    let mut page = Page::default();
    loop {
        let rows = store.pairings(None, None, page).await.unwrap();
        pairings.extend(rows.rows.into_iter().map(|row| (row.peer.to_string(), (row.state, row.version))));
        let Some(cursor) = rows.next else { break };
        page = Page { cursor: Some(cursor), limit: 500 };
    }
    let mut page = Page::default();
    loop {
        let rows = store.peers(None, page).await.unwrap();
        peers.extend(rows.rows.into_iter().map(|row| (row.peer.to_string(), (row.state, row.version))));
        let Some(cursor) = rows.next else { break };
        page = Page { cursor: Some(cursor), limit: 500 };
    }
    assert_eq!(pairings, expected);
    assert_eq!(peers, expected);
    assert_uses_agree(store, log).await;
}

/// Each invite has one use less exactly if the log has its redemption.
async fn assert_uses_agree(store: &SqliteStore, log: &[LogEntry]) {
    let created = log.iter().filter(|entry| entry.action == "invite.create").count();
    let redeemed = log.iter().filter(|entry| entry.action == "pair").count();
    let (mut rows, mut unused, mut page) = (0, 0, Page::default());
    loop {
        let invites = store.invites(None, page).await.unwrap();
        rows += invites.rows.len();
        unused += invites.rows.iter().filter(|invite| invite.uses_left == 1).count();
        let Some(cursor) = invites.next else { break };
        page = Page { cursor: Some(cursor), limit: 500 };
    }
    assert_eq!((rows, unused), (created, created - redeemed));
}
