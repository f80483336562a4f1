//! The conformance suite of [`Bus`](crate::Bus) and [`Presence`](crate::Presence).
//!
//! Use: `heliograph_bus::conformance!(factory)` in a test file, where `factory` is an
//! `async fn(nodes: usize) -> Vec<TestNode>`; it makes one test per rule.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite for tests: a panic is how it fails")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use heliograph_core::id::{Epoch, MeshName, PeerId, SpaceName, Version};
use heliograph_core::message::Kind;

use crate::{Destination, Heir, Inbox, Link, Lost, Parcel, RemoteSignal, Sent, Visit, Witness};

pub mod budget_rules;
pub mod rules;

/// A node under test and what arrived at it.
pub struct TestNode {
    /// Its seams.
    pub link: Link,
    /// What arrived.
    pub log: Arc<Log>,
    /// Whatever keeps the node alive.
    pub keep: Arc<dyn std::any::Any + Send + Sync>,
}

/// Remembers what arrived and what came back, in order.
#[derive(Default)]
pub struct Log {
    arrived: Mutex<Vec<(Destination, Parcel)>>,
    returned: Mutex<Vec<(Destination, Witness, Lost)>>,
    deserted: Mutex<Vec<Heir>>,
}

impl Inbox for Log {
    fn arrived(&self, destination: &Destination, parcel: Parcel) {
        lock(&self.arrived).push((destination.clone(), parcel));
    }

    fn returned(&self, destination: &Destination, witness: Witness, why: Lost) {
        lock(&self.returned).push((destination.clone(), witness, why));
    }

    fn nobody_hands_over(&self, to: &Heir) {
        lock(&self.deserted).push(to.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// All that arrived so far.
    pub fn all(&self) -> Vec<(Destination, Parcel)> {
        lock(&self.arrived).clone()
    }

    /// All that came back so far.
    pub fn came_back(&self) -> Vec<(Destination, Witness, Lost)> {
        lock(&self.returned).clone()
    }

    /// All that nobody hands anything over to.
    pub fn deserted(&self) -> Vec<Heir> {
        lock(&self.deserted).clone()
    }

    /// Waits until `count` parcels arrived; panics after ten seconds.
    pub async fn wait_for(&self, count: usize) -> Vec<(Destination, Parcel)> {
        self.wait_until(|log| lock(&log.arrived).len() >= count).await;
        self.all()
    }

    /// Waits until something holds; panics after ten seconds with what arrived.
    pub async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it did not come to that; arrived so far: {:?}", self.all());
    }
}

impl TestNode {
    /// Sends a message that nobody receives, and waits until the node says so: at once or later.
    pub async fn send_to_nobody(&self, destination: Destination, parcel: Parcel) {
        let before = self.log.came_back().len();
        match self.link.bus.send(destination.clone(), parcel) {
            Sent::Offline => return,
            Sent::Queued => {}
            other => panic!("offline expected, not {other:?}"),
        }
        self.log.wait_until(|log| log.came_back().len() > before).await;
        let (to, _, why) = &self.log.came_back()[before];
        assert_eq!((to, why), (&destination, &Lost::Offline));
    }
}

/// The mesh of the tests.
pub fn mesh() -> SpaceName {
    MeshName::default_mesh().into()
}

/// A peer of the tests.
pub fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the sessions of the tests say of themselves.
pub fn visit() -> Visit {
    Visit { since_unix_ms: 1_700_000_000_000, dialect: "mesh".into(), profile: None }
}

/// A message whose payload is `text`.
pub fn signal(from: &str, text: &str) -> Parcel {
    Parcel::Signal(RemoteSignal {
        from: peer(from),
        from_epoch: Epoch(1),
        from_version: Version(1),
        kind: Kind::Offer,
        id: None,
        payload: Bytes::copy_from_slice(text.as_bytes()),
        receipt: false,
        accepted_unix_us: 0,
        trace: None,
        behind: None,
    })
}

/// One test per rule for the nodes that `$factory` makes.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::conformance!(@rules $factory,
            parcels_of_one_sender_arrive_in_order_and_once,
            nobody_subscribed_is_offline_at_once,
            a_node_does_not_hear_itself,
            unsubscribed_means_no_more_parcels,
            a_mesh_parcel_reaches_every_other_node,
            rooms_are_apart_and_show_profiles,
            a_room_has_no_more_members_than_it_may,
            a_member_that_comes_back_was_there_all_the_time,
            the_newer_claim_wins_and_names_the_older_session,
            a_fence_stands_in_one_place_for_both_nodes,
            a_parcel_for_a_node_reaches_that_node_alone,
            who_asks_a_node_that_is_gone_is_told,
            a_late_release_never_removes_the_newer_session,
            a_place_is_inherited_until_a_new_one_is_taken,
            a_hidden_session_is_not_listed_until_it_is_back,
            news_come_to_all_nodes_in_the_order_in_which_they_happened,
            of_two_placed_exactly_one_lists_the_other,
            a_second_look_returns_everyone,
            unplaced_sessions_are_not_listed,
            hundreds_registering_at_once_are_introduced_once,
            what_is_said_again_is_kept_or_superseded,
        );
    };
    (@rules $factory:expr, $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::testing::rules::$rule($factory(3).await).await;
            }
        )*
    };
}
