//! Everybody comes back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use heliograph_testkit::jwt::{SECRET, claims, signed};
use heliograph_testkit::{Access, MeshClient, Node, Plan, eventually};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::scene::{SETTINGS, alone, name};

const CLIENTS: usize = 5_000;
/// So that lists are of a usual length.
const MESHES: usize = 50;
const STORMS: usize = 2;
/// The bound of sessions that open at once on a node.
const MAX_OPENING: i64 = 500;
/// What a node may take in memory: several times what it takes in such a storm, far below what queues without a bound
/// would grow to.
const MAX_RESIDENT: i64 = 512 * 1024 * 1024;
/// How long a client waits at least before it tries again: as long as the service asks for at least.
const PAUSE: Duration = Duration::from_secs(1);
/// For the first to the last client of a storm.
const PATIENCE: Duration = Duration::from_mins(2);

/// A client that has a session.
struct Member {
    client: MeshClient,
    resume_token: String,
}

fn token(number: usize) -> String {
    let mut claims = claims(&name(number), 3_600);
    claims["mesh"] = json!(format!("mesh-{}", number % MESHES));
    signed(&claims, SECRET, Algorithm::HS256)
}

fn capabilities() -> Value {
    json!({ "version": 1, "capabilities": ["feedback", "resume", "goaway"] })
}

/// A socket, however often the node says that it takes none now.
async fn knock(access: &Access, number: usize, refused: &AtomicUsize) -> MeshClient {
    let token = token(number);
    for attempt in 0_u32.. {
        match access.dial(&token).reset_on_drop().open(&name(number)).await {
            Ok(client) => return client,
            Err(status) => assert_eq!(status, 503, "{number}"),
        }
        refused.fetch_add(1, Ordering::Relaxed);
        // Spread over two more; no dice are needed for that.
        let spread = (u32::try_from(number).unwrap() + attempt * 7) % 16;
        tokio::time::sleep(PAUSE + PAUSE * spread / 8).await;
    }
    unreachable!("it knocks for ever");
}

/// Comes, or comes back: until it has its list.
async fn come(access: &Access, number: usize, former: Option<&str>, refused: &AtomicUsize) -> (Member, bool) {
    loop {
        let mut client = knock(access, number, refused).await;
        if let Some(token) = former {
            client.send("resume", None, json!({ "resume_token": token, "received": 0 })).await;
        }
        client.send("register", None, capabilities()).await;
        match first_list(&mut client).await {
            Some((list, resumed)) => {
                let resume_token = list["payload"]["session"]["resume_token"].as_str().unwrap().to_owned();
                return (Member { client, resume_token }, resumed);
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The list and whether the session goes on; nothing if the node asks to come back later.
async fn first_list(client: &mut MeshClient) -> Option<(Value, bool)> {
    let mut resumed = false;
    loop {
        match client.next().await {
            Ok(message) if message["type"] == "peer_list" => return Some((message, resumed)),
            Ok(message) if message["type"] == "resumed" => resumed = message["payload"]["fresh"] != true,
            // It goes on, and a list cannot be had now.
            Ok(message) if message["payload"]["code"] == "bus_unavailable" => {
                tokio::time::sleep(PAUSE).await;
                client.send("register", None, capabilities()).await;
            }
            Ok(message) => panic!("{}: {message}", client.id),
            Err(closed) => {
                assert_eq!(closed, Some(4503), "{}", client.id);
                return None;
            }
        }
    }
}

/// What nodes showed at most.
#[derive(Default)]
struct Peaks {
    opening: AtomicI64,
    resident: AtomicI64,
}

impl Peaks {
    async fn watch(&self, nodes: &[Node]) {
        loop {
            for node in nodes {
                let opening = node.metric("heliograph_opening_sessions").await;
                self.opening.fetch_max(opening, Ordering::Relaxed);
                self.resident.fetch_max(node.resident_bytes().await, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Everybody comes (back) at the same moment; everybody's session.
async fn storm(access: &Access, former: Vec<Option<String>>) -> Vec<Member> {
    let (begun, refused) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let start = Arc::new(Barrier::new(former.len()));
    let mut coming = JoinSet::new();
    for (number, former) in former.into_iter().enumerate() {
        let (access, start, refused) = (access.clone(), Arc::clone(&start), Arc::clone(&refused));
        coming.spawn(async move {
            start.wait().await;
            (number, come(&access, number, former.as_deref(), &refused).await)
        });
    }
    let mut members: Vec<Option<Member>> = (0..CLIENTS).map(|_| None).collect();
    let mut resumed = 0;
    while let Some(came) = tokio::time::timeout(PATIENCE, coming.join_next()).await.unwrap() {
        let (number, (member, goes_on)) = came.unwrap();
        members[number] = Some(member);
        resumed += usize::from(goes_on);
    }
    println!("{:?}: {resumed} sessions go on, {refused:?} times asked to come back later", begun.elapsed());
    members.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_come_back_at_once_to_two_nodes_and_all_have_a_session_again() {
    let _alone = alone().await;
    // Most clients do not read between storms, so they are not asked for signs of life.
    let settings = [&SETTINGS[..], &[("RESUME_WINDOW", "60s"), ("PING_INTERVAL", "10m")]].concat();
    let cluster = Plan::nodes(2).settings(&settings).peers(CLIENTS).meshes(MESHES).start().await;
    let access = cluster.access();
    let peaks = Peaks::default();
    let storms = async {
        let mut members = storm(&access, vec![None; CLIENTS]).await;
        for _ in 0..STORMS {
            let tokens = members.into_iter().map(|Member { client, resume_token }| {
                drop(client); // its connection is reset
                Some(resume_token)
            });
            members = storm(&access, tokens.collect()).await;
            assert_eq!(members.len(), CLIENTS);
            let mut last = None;
            eventually("each has one session, and nothing is left of former ones", async || {
                let sessions = access.metric(r#"heliograph_sessions{dialect="mesh"}"#).await;
                let parked = access.metric("heliograph_parked_sessions").await;
                if last.replace((sessions, parked)) != Some((sessions, parked)) {
                    println!("{sessions} sessions, {parked} parked");
                }
                (usize::try_from(sessions) == Ok(CLIENTS) && parked == 0).then_some(())
            })
            .await;
        }
        for member in members.iter_mut().step_by(97) {
            member.client.expect_silence().await;
        }
    };
    tokio::select! {
        () = storms => {}
        () = peaks.watch(cluster.nodes()) => {}
    }
    let (opening, resident) = (peaks.opening.into_inner(), peaks.resident.into_inner());
    println!("at most {opening} opening, {} MiB on a node", resident / 1024 / 1024);
    assert!(opening <= MAX_OPENING, "{opening}");
    assert!(resident <= MAX_RESIDENT, "{resident}");
}
