//! The conformance suite of [`Bus`](crate::Bus) and [`Presence`](crate::Presence).
//!
//! Use: `heliograph_bus::conformance!(factory)` in a test file, where `factory` is an
//! `async fn(nodes: usize) -> Vec<TestNode>`; it makes one test per rule.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite for tests: a panic is how it fails")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use heliograph_core::id::{Epoch, MeshName, PeerId, Version};
use heliograph_core::message::Kind;

use crate::{Destination, Inbox, Link, Parcel, RemoteSignal, Visit};

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

/// Remembers what arrived, in order.
#[derive(Default)]
pub struct Log(Mutex<Vec<(Destination, Parcel)>>);

impl Inbox for Log {
    fn arrived(&self, destination: &Destination, parcel: Parcel) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((destination.clone(), parcel));
    }
}

impl Log {
    /// All that arrived so far.
    pub fn all(&self) -> Vec<(Destination, Parcel)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `count` parcels arrived; panics after ten seconds.
    pub async fn wait_for(&self, count: usize) -> Vec<(Destination, Parcel)> {
        for _ in 0..2_000 {
            let all = self.all();
            if all.len() >= count {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} parcels expected, {} arrived", self.all().len());
    }
}

/// The mesh of the tests.
pub fn mesh() -> MeshName {
    MeshName::default_mesh()
}

/// A peer of the tests.
pub fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the sessions of the tests say of themselves.
pub fn visit() -> Visit {
    Visit { since_unix_ms: 1_700_000_000_000, dialect: "mesh".into() }
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
        trace: None,
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
            the_newer_claim_wins_and_the_older_node_is_told,
            a_late_release_never_removes_the_newer_session,
            of_two_placed_exactly_one_lists_the_other,
            a_second_look_returns_everyone,
            unplaced_sessions_are_not_listed,
            hundreds_registering_at_once_are_introduced_once,
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
