//! The in-process twin keeps the promises.
#![expect(
    clippy::unwrap_used,
    clippy::unused_async,
    reason = "a factory for tests, with the signature of all such"
)]

use std::sync::{Arc, Weak};

use heliograph_bus::Inbox;
use heliograph_bus::local::Hub;
use heliograph_bus::testing::{Log, TestNode};
use heliograph_core::id::GatewayId;

async fn nodes(count: usize) -> Vec<TestNode> {
    let hub = Hub::new();
    (0..count)
        .map(|i| {
            let node = hub.join(GatewayId::parse(&format!("gw-{i}")).unwrap());
            let log = Arc::new(Log::default());
            let inbox: Weak<dyn Inbox> = Arc::downgrade(&(Arc::clone(&log) as Arc<dyn Inbox>));
            node.attach(inbox);
            TestNode { link: node.link(), log, keep: node }
        })
        .collect()
}

heliograph_bus::conformance!(nodes);
