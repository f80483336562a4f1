//! Agents that may only be relayed: through coturn, past the end of their credentials, and after the end of coturn itself.

use std::time::Duration;

use heliograph_sandbox::{Folder, Port};
use heliograph_testkit::{Access, Agent, Cluster, LocalProgram, Plan, TestServer, eventually, jwt};
use serde_json::{Value, json};

use super::{SECRET, expiry, join};
use crate::coturn::{Coturn, settings};

/// How long a message may take whose way has to be found anew. An agent notices after fifteen seconds that a way is gone.
const RECOVERY: Duration = Duration::from_mins(2);
/// Between two messages, so that a test that talks for long leaves the machine to others.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn agents_that_may_only_be_relayed_reach_each_other_through_coturn() {
    let coturn = Coturn::start(&[SECRET]).await;
    let server = TestServer::start_with(&settings(&coturn.url(), SECRET)).await;
    let mut pair = Pair::start(&server).await;
    for _ in 0..100 {
        pair.exchange().await;
    }
    pair.is_relayed().await;
}

/// Credentials of thirty seconds, the shortest that may be set, and an allocation that the library renews for the first
/// time when those are over.
#[tokio::test]
async fn a_relayed_channel_outlives_the_credentials_that_it_began_with() {
    let coturn = Coturn::start_with(&[SECRET], &["--verbose", "--max-allocate-lifetime=68"]).await;
    let url = coturn.url();
    let mut settings = settings(&url, SECRET).to_vec();
    settings.push(("TURN_TTL", "30s"));
    let cluster = Plan::nodes(1).settings(&settings).start().await;
    let access = cluster.access();
    let mut pair = Pair::start(&access).await;
    // Came after the agents: each of its credentials ends after theirs.
    let (mut witness, first) = join(&access, "witness").await;

    pair.exchange_until(async || after(expiry(&first))).await;
    let renewed_before = ["a", "b"].map(|name| renewals(&coturn, name));
    let second = witness.expect("ice_servers").await["payload"]["ice_servers"].clone();
    assert!(expiry(&second) > expiry(&first), "{second}");
    pair.exchange_until(async || after(expiry(&second))).await;
    pair.exchange_until(async || {
        let renewed = ["a", "b"].map(|name| renewals(&coturn, name));
        renewed.iter().zip(&renewed_before).all(|(now, before)| now > before)
    })
    .await;
    pair.is_relayed().await;
    assert!(!coturn.log().contains("Wrong credentials"), "{}", coturn.log());
}

#[tokio::test]
async fn a_relayed_channel_comes_back_when_the_server_does_with_another_secret() {
    let folder = Folder::new("secret").unwrap();
    let file = folder.path().join("turn");
    let tell = |secret: &str| std::fs::write(&file, secret).unwrap();
    tell("the old secret of both");
    let mut coturn = Coturn::start(&["the old secret of both"]).await;
    let (url, path, port) = (coturn.url(), file.display().to_string(), Port::reserve().unwrap());
    let listen = port.address().to_string();
    let settings = [("LISTEN", &*listen), ("TURN_URLS", &*url), ("TURN_SECRET_FILE", &*path)];
    let mut cluster = Plan::nodes(1).settings(&settings).start().await;
    let mut pair = Pair::start(&cluster.access()).await;
    pair.exchange().await;

    tell("the new secret of both");
    cluster.node(0).kill();
    cluster.node(0).ended(RECOVERY).await;
    cluster.replace(0).await;
    both_are_online(&cluster).await;
    pair.exchange().await;

    // All that it relayed is over, and it takes no credential that came with the old secret.
    coturn.start_again(&["the new secret of both"]).await;
    for _ in 0..100 {
        pair.exchange().await;
    }
    pair.is_relayed().await;
}

/// Two agents with a channel between them, and a program at each.
struct Pair {
    _agents: [Agent; 2],
    a: LocalProgram,
    b: LocalProgram,
    exchanged: u64,
}

impl Pair {
    /// Waits until there is the channel.
    async fn start(access: &Access) -> Self {
        let ((an_agent, mut a), (another, mut b)) = tokio::join!(agent(access, "a"), agent(access, "b"));
        tokio::join!(a.connected("b"), b.connected("a"));
        Self { _agents: [an_agent, another], a, b, exchanged: 0 }
    }

    /// One message each way.
    async fn exchange(&mut self) {
        let message = json!({"type": "ping", "request_id": self.exchanged, "payload": "x".repeat(1_000)});
        self.exchanged += 1;
        self.a.send("b", &message).await;
        self.b.send("a", &message).await;
        let (heard_by_b, heard_by_a) = tokio::join!(heard(&mut self.b), heard(&mut self.a));
        assert_eq!((&heard_by_b, &heard_by_a), (&message, &message));
    }

    /// Messages each way until it is so.
    async fn exchange_until(&mut self, mut so: impl AsyncFnMut() -> bool) {
        let exchange = async {
            while !so().await {
                self.exchange().await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        let done = tokio::time::timeout(RECOVERY, exchange).await;
        done.unwrap_or_else(|_| panic!("not within {RECOVERY:?}"));
    }

    /// Each side of the channel is an address of the TURN server.
    async fn is_relayed(&mut self) {
        for (program, other) in [(&mut self.a, "b"), (&mut self.b, "a")] {
            program.say(r#"{"type":"status"}"#).await;
            let relay = json!("relay");
            // What was told before the channel was open may still wait to be read.
            loop {
                let status = program.expect("status").await;
                let peers = status["peers"].as_array().unwrap();
                let Some(peer) = peers.iter().find(|peer| peer["peer_id"] == other) else { continue };
                if peer["channel"] == "open" {
                    assert_eq!((&peer["local"], &peer["remote"]), (&relay, &relay), "{peer}");
                    break;
                }
            }
        }
    }
}

/// An agent of the peer `name`, and a program that attached to it.
async fn agent(access: &Access, name: &str) -> (Agent, LocalProgram) {
    let key = access.key(name, "default").await;
    let address = format!("http://{}", access.address());
    let agent = Agent::start_with(name, &address, &key, &["--relay-only"]).await;
    let program = agent.attach().await;
    (agent, program)
}

/// The next message. The state of the signaling may change meanwhile; a channel that ends would be told.
async fn heard(program: &mut LocalProgram) -> Value {
    loop {
        let (kind, mut payload) =
            program.next_within(RECOVERY).await.unwrap_or_else(|| panic!("no message within {RECOVERY:?}"));
        match kind.as_str() {
            "message" => return payload["message"].take(),
            "status" => {}
            other => panic!("{other}: {payload}"),
        }
    }
}

/// Whether that second, since the Unix epoch, is over.
fn after(second: u64) -> bool {
    jwt::now() > second
}

/// How often coturn has renewed an allocation for the peer.
fn renewals(coturn: &Coturn, peer: &str) -> usize {
    let user = format!(":{peer}>");
    let renewed = |line: &&str| line.contains("REFRESH processed, success") && line.contains(&user);
    coturn.log().lines().filter(renewed).count()
}

async fn both_are_online(cluster: &Cluster) {
    eventually("both agents are on the new node", async || {
        (cluster.access().metric("heliograph_sessions{dialect=\"mesh\"}").await == 2).then_some(())
    })
    .await;
}
