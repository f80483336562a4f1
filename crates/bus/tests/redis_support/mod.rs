//! Nodes over a real Redis, for the tests of the bus.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use heliograph_bus::Inbox;
use heliograph_bus::redis::{Node, Options, connect};
use heliograph_bus::testing::{Log, TestNode};
use heliograph_core::id::GatewayId;
use prometheus::Registry;
use tokio::time::{sleep, timeout};

/// Longer than anything takes here that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The URL with a prefix that no other test has, so that tests can share a server.
pub(crate) fn of_its_own(url: &str) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let with = if url.contains('?') { '&' } else { '?' };
    format!("{url}{with}prefix=test-{number}")
}

/// Nodes that are up.
pub(crate) async fn nodes(options: &Options, count: usize) -> Vec<TestNode> {
    let nodes: Vec<_> = (0..count).map(|i| node(options, &format!("gw-{i}"))).collect();
    for node in &nodes {
        until("the node is up", || node.link.bus.is_up()).await;
    }
    nodes
}

/// A node, not up yet.
pub(crate) fn node(options: &Options, name: &str) -> TestNode {
    let node = connect(options.clone(), GatewayId::parse(name).unwrap(), &Registry::new()).unwrap();
    let log = Arc::new(Log::default());
    let inbox: Weak<dyn Inbox> = Arc::downgrade(&(Arc::clone(&log) as Arc<dyn Inbox>));
    node.attach(inbox);
    tokio::spawn(say_nobody(Arc::downgrade(&node)));
    TestNode { link: node.link(), log, keep: node }
}

/// As a gateway without sessions does: presence answers once all have said whom they have.
async fn say_nobody(node: Weak<Node>) {
    let Some(link) = node.upgrade().map(|node| node.link()) else { return };
    let mut upheavals = link.presence.upheavals();
    drop(link);
    upheavals.mark_changed();
    while upheavals.changed().await.is_ok() {
        upheavals.mark_unchanged();
        let said = async {
            let presence = node.upgrade()?.link().presence;
            Some(presence.reseat(&[]).await)
        };
        match said.await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                sleep(Duration::from_millis(100)).await;
                upheavals.mark_changed();
            }
        }
    }
}

/// Waits until something holds; panics when it takes too long.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"));
}
