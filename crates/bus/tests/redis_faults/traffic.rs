//! A node that sends without pause, and what must be true of what arrives.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heliograph_bus::testing::{Log, TestNode, mesh, peer, signal};
use heliograph_bus::{Destination, Parcel};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::redis_support::until;

/// Delivery is back so soon after Redis is.
const BACK: Duration = Duration::from_secs(5);
/// Enough that every node of a Cluster serves some.
const PEERS: usize = 24;

/// Where the peer with that number is.
pub(crate) fn to(number: usize) -> Destination {
    Destination::Peer(mesh(), peer(&format!("p{number}")))
}

/// Numbered messages from one node to peers that another one holds.
pub(crate) struct Traffic {
    round: Arc<AtomicU64>,
    sending: JoinHandle<()>,
    log: Arc<Log>,
}

impl Traffic {
    /// Starts; `to` receives.
    pub(crate) async fn start(from: &TestNode, receiver: &TestNode) -> Self {
        for number in 0..PEERS {
            receiver.link.bus.subscribe(to(number)).await.unwrap();
        }
        let round = Arc::new(AtomicU64::new(0));
        let (bus, sent) = (Arc::clone(&from.link.bus), Arc::clone(&round));
        let sending = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(4));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let round = sent.fetch_add(1, Ordering::Relaxed);
                for number in 0..PEERS {
                    // What the bus does not take now is refused at once; the next round comes soon.
                    let _refused_or_queued = bus.send(to(number), signal("a", &round.to_string()));
                }
            }
        });
        Self { round, sending, log: Arc::clone(&receiver.log) }
    }

    /// The rounds that arrived at each peer, in the order of their arrival.
    fn arrived(&self) -> HashMap<Destination, Vec<u64>> {
        let mut rounds: HashMap<_, Vec<u64>> = HashMap::new();
        for (destination, parcel) in self.log.all() {
            let Parcel::Signal(signal) = parcel else { panic!("a signal expected, not {parcel:?}") };
            let round = String::from_utf8(signal.payload.to_vec()).unwrap().parse().unwrap();
            rounds.entry(destination).or_default().push(round);
        }
        rounds
    }

    /// Waits until something that is sent from now on has arrived at every peer.
    pub(crate) async fn flows(&self) {
        let now = self.round.load(Ordering::Relaxed);
        until("messages flow to every peer", || {
            let arrived = self.arrived();
            (0..PEERS)
                .all(|number| arrived.get(&to(number)).is_some_and(|rounds| rounds.iter().any(|r| *r >= now)))
        })
        .await;
    }

    /// [`Self::flows`], as soon after Redis is back as is promised.
    pub(crate) async fn is_back(&self) {
        let redis_is_back = Instant::now();
        self.flows().await;
        assert!(redis_is_back.elapsed() < BACK, "{:?}", redis_is_back.elapsed());
    }

    /// Stops, and looks at everything that arrived: nothing twice, nothing out of order.
    pub(crate) fn check(self) {
        self.sending.abort();
        for (destination, rounds) in self.arrived() {
            let sorted = rounds.is_sorted_by(|a, b| a < b);
            assert!(sorted, "{destination:?}: {rounds:?}");
        }
    }
}
