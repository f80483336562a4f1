//! A cluster with clients that send to one another, to break something in.

use std::net::SocketAddr;
use std::time::Duration;

use heliograph_testkit::history::{Credential, Expectations, History, Options, Summary, Swarm, check};
use heliograph_testkit::jwt::{SECRET, claims, signed};
use heliograph_testkit::{Access, Cluster, Node, Plan, eventually};
use jsonwebtoken::Algorithm;
use tokio::sync::{Mutex, MutexGuard};

/// As many nodes as it takes to have one that is hurt, one that is not, and one more.
pub(crate) const NODES: usize = 3;
/// Clients of a scene.
pub(crate) const CLIENTS: usize = 30;
/// After this a sender has its answer: the resume window, what the service adds to it, and some for a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// So many messages after what a test did show that all is well.
const ENOUGH: u64 = 150;
/// How long a token lives: longer than any test.
const TOKEN_SECONDS: i64 = 3_600;

/// Settings of all clusters here: one address is all clients', and a session waits for its client long enough for this
/// one to come back, and no longer than a test can wait for its end.
pub(crate) const SETTINGS: [(&str, &str); 6] = [
    ("SIGNING_SECRET", SECRET),
    ("RESUME_WINDOW", "8s"),
    ("MAX_UPGRADES_PER_SECOND", "0"),
    ("MAX_SOCKETS_PER_ADDRESS", "0"),
    ("MAX_MESSAGES_PER_SECOND", "0"),
    ("REGISTER_DEADLINE", "60s"),
];

/// A plan for a cluster that knows `peers` peers.
pub(crate) fn plan(peers: usize) -> Plan {
    Plan::nodes(NODES).settings(&SETTINGS).peers(peers)
}

/// Waits until no other test of this program runs.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A session token of `peer-{number}`, good for the whole test.
pub(crate) fn token(number: usize) -> String {
    signed(&claims(&name(number), TOKEN_SECONDS), SECRET, Algorithm::HS256)
}

fn options() -> Options {
    Options { answer_within: ANSWER_WITHIN, ..Options::default() }
}

pub(crate) fn credential(number: usize) -> Credential {
    Credential { peer: name(number), token: token(number) }
}

pub(crate) fn name(number: usize) -> String {
    format!("peer-{number}")
}

/// Where clients connect to each of these nodes.
pub(crate) fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<SocketAddr> {
    nodes.into_iter().flat_map(|node| node.addresses()).copied().collect()
}

/// To these nodes in turn.
pub(crate) fn access<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Access {
    Access::to_all(nodes.into_iter().map(|node| &**node))
}

/// A cluster, and clients on all of its nodes.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) swarm: Swarm,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    /// Starts the cluster and the clients; they stand and send.
    pub(crate) async fn start(plan: Plan) -> Self {
        let alone = alone().await;
        let cluster = plan.start().await;
        let nodes = addresses(cluster.nodes());
        Self::at(&nodes, cluster, alone).await
    }

    /// Starts the clients at addresses that lead to a cluster, such as that of a load balancer; they stand and send.
    pub(crate) async fn at(
        addresses: &[SocketAddr],
        cluster: Cluster,
        alone: MutexGuard<'static, ()>,
    ) -> Self {
        let peers: Vec<_> = (0..CLIENTS).map(credential).collect();
        let swarm = Swarm::start(addresses, &peers, options()).await;
        Self::of(cluster, swarm, alone).await
    }

    /// As [`Self::start`], with so many pairs of clients that send to each other only.
    pub(crate) async fn start_in_pairs(plan: Plan, pairs: usize) -> Self {
        let alone = alone().await;
        let cluster = plan.start().await;
        let peers: Vec<_> = (0..2 * pairs).map(credential).collect();
        let swarm = Swarm::start_in_pairs(&addresses(cluster.nodes()), &peers, options()).await;
        Self::of(cluster, swarm, alone).await
    }

    async fn of(cluster: Cluster, swarm: Swarm, alone: MutexGuard<'static, ()>) -> Self {
        swarm.start_traffic();
        let scene = Self { cluster, swarm, _alone: alone };
        flows(scene.cluster.nodes()).await;
        scene
    }

    /// Clients go to these nodes from now on.
    pub(crate) fn go_to<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) {
        self.swarm.set_nodes(&addresses(nodes));
    }

    /// Ends the traffic and has the history checked.
    pub(crate) async fn finish(self, expect: impl FnOnce(&mut Expectations)) -> Summary {
        let Self { cluster, swarm, _alone } = self;
        swarm.more_traffic(ENOUGH).await; // what was broken may be whole again at once
        let mut expected = swarm.expectations();
        expect(&mut expected);
        let recorder = swarm.end().await;
        for node in cluster.nodes() {
            recorder.add_writes(&node.gateway().into(), &node.log());
        }
        let summary = judge(&recorder.take(), &expected);
        drop(cluster);
        summary
    }
}

/// Waits until messages are written on each of these nodes that has clients, and they came by the bus: from another node.
pub(crate) async fn flows<'a>(nodes: impl IntoIterator<Item = &'a Node>) {
    const SESSIONS: &str = r#"heliograph_sessions{dialect="mesh"}"#;
    const BY_BUS: &str = r#"heliograph_relay_seconds_count{path="bus"}"#;
    let access = access(nodes);
    let start = access.metric_of_each(BY_BUS).await;
    eventually("messages flow", async || {
        let (sessions, now) = (access.metric_of_each(SESSIONS).await, access.metric_of_each(BY_BUS).await);
        let mut nodes = sessions.iter().zip(now.iter().zip(&start));
        nodes.all(|(sessions, (now, start))| *sessions == 0 || *now >= start + 5).then_some(())
    })
    .await;
}

/// What the checker says of a history; a test fails with its first findings.
pub(crate) fn judge(history: &History, expected: &Expectations) -> Summary {
    match check(history, expected) {
        Ok(summary) => {
            println!("{summary:?}");
            assert!(summary.received > 100, "too little happened: {summary:?}");
            summary
        }
        Err(violations) => {
            let shown: Vec<_> = violations.iter().take(10).map(ToString::to_string).collect();
            panic!("{} broken promises, such as\n{}", violations.len(), shown.join("\n"));
        }
    }
}
