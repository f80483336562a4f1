//! Who receives, who counts, and what becomes of too much.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use heliograph_bus::redis::{Options, connect};
use heliograph_bus::testing::{mesh, peer, signal};
use heliograph_bus::{Destination, Heir, Inbox, Lost, Parcel, Sent, Witness};
use heliograph_core::id::GatewayId;
use heliograph_core::message::Undeliverable;
use heliograph_sandbox::Redis;
use prometheus::Registry;

use crate::redis_support::{nodes, of_its_own, until};
use crate::traffic::to;

/// Redis counts the sender's own subscription among the receivers; but the sender takes nothing of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_the_only_receiver_is_nobody() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    nodes[0].link.bus.subscribe(to(0)).await.unwrap();
    nodes[0].send_to_nobody(to(0), signal("a", "1")).await;
    nodes[1].link.bus.subscribe(to(0)).await.unwrap();
    nodes[0].link.bus.send(to(0), signal("a", "2"));
    nodes[1].log.wait_for(1).await;
    assert_eq!(nodes[0].log.came_back().len(), 1);
    assert_eq!(nodes[0].log.all(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_call_wins_between_subscribing_and_unsubscribing() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    let (bus, b) = (&nodes[1].link.bus, to(0));
    for round in 0..200 {
        // Both begin before either is confirmed, in this order.
        let (subscribed, ()) = tokio::join!(biased; bus.subscribe(to(0)), bus.unsubscribe(&b));
        drop(subscribed);
        nodes[0].send_to_nobody(to(0), signal("a", "x")).await;
        let ((), subscribed) = tokio::join!(biased; bus.unsubscribe(&b), bus.subscribe(to(0)));
        subscribed.unwrap();
        assert_eq!(nodes[0].link.bus.send(to(0), signal("a", "x")), Sent::Queued);
        nodes[1].log.wait_for(round + 1).await;
    }
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Takes nothing in until it is let.
#[derive(Default)]
struct Stuck {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Stuck {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Inbox for Stuck {
    fn arrived(&self, _: &Destination, _: Parcel) {
        // In place: whatever else this thread of the runtime had to do, the sender's work among it, goes to another one.
        tokio::task::block_in_place(|| {
            drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        });
    }

    fn returned(&self, _: &Destination, _: Witness, _: Lost) {}

    fn nobody_hands_over(&self, _: &Heir) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn who_sends_more_than_a_node_takes_in_is_told() {
    let redis = Redis::standalone().await.unwrap();
    let options = Options::parse(&of_its_own(&redis.url())).unwrap();
    let stuck = Arc::new(Stuck::default());
    let slow = connect(options.clone(), GatewayId::parse("slow").unwrap(), &Registry::new()).unwrap();
    let inbox: Weak<dyn Inbox> = Arc::downgrade(&(Arc::clone(&stuck) as Arc<dyn Inbox>));
    slow.attach(inbox);
    slow.link().bus.subscribe(to(0)).await.unwrap();
    let sender = nodes(&options, 1).await.remove(0);
    sender.link.bus.subscribe(Destination::Peer(mesh(), peer("a"))).await.unwrap();

    let told = || {
        let is_receipt = |parcel: &Parcel| matches!(parcel, Parcel::Receipt { receipt, .. } if receipt.failure == Some(Undeliverable::QueueFull));
        sender.log.all().iter().any(|(_, parcel)| is_receipt(parcel))
    };
    for i in 0..200_000_u32 {
        if i % 100 == 0 && told() {
            break;
        }
        let queued = async {
            while sender.link.bus.send(to(0), signal("a", "x")) != Sent::Queued {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, queued).await.expect("there is room again");
    }
    until("the sender is told", told).await;
    stuck.open();
}
