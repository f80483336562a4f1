//! What [`TestServer`](crate::TestServer) is with one node in this process, with three nodes as processes: the same
//! tests hold for both.

use std::ops::Deref;
use std::time::Duration;

use super::{Cluster, Node, Plan};
use crate::access::Access;
use crate::server::Settings;

/// As many as make a difference between "the other node" and "some other node".
const NODES: usize = 3;
/// More than the drain window of test nodes, and what they do afterwards.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// Three nodes, and what a test needs to speak to them: each new socket goes to the next node.
#[derive(Debug)]
pub struct ClusterServer {
    cluster: Cluster,
    access: Access,
}

impl Deref for ClusterServer {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl ClusterServer {
    /// Nodes with default settings.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Nodes with settings.
    pub async fn start_with(settings: Settings<'_>) -> Self {
        Self::of(Plan::nodes(NODES).settings(settings)).await
    }

    /// Nodes that know so many peers from the start: `peer-0` with the key `ak_test_peer-0`…
    pub async fn start_with_peers(count: usize, settings: Settings<'_>) -> Self {
        Self::of(Plan::nodes(NODES).peers(count).settings(settings)).await
    }

    async fn of(plan: Plan) -> Self {
        let cluster = plan.start().await;
        let access = cluster.access();
        Self { cluster, access }
    }

    /// The names of all nodes.
    pub fn gateways(&self) -> Vec<String> {
        self.cluster.nodes().iter().map(|node| node.gateway().to_owned()).collect()
    }

    /// Stops all nodes as SIGTERM does.
    pub async fn stop(&mut self) {
        self.cluster.nodes().iter().for_each(Node::terminate);
        for node in self.cluster.nodes() {
            node.ended(STOPPED_WITHIN).await;
        }
    }
}
