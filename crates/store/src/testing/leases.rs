//! Rules of leases, the feed of changes and the hints.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heliograph_core::authority::Standing;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::{Hint, LeaseRow, StandingChange};

/// How long a hint may take; far beyond what it does take.
const SOON: Duration = Duration::from_secs(10);
/// How long nothing must happen for us to believe that nothing will.
const QUIET: Duration = Duration::from_millis(300);

async fn lease(store: &dyn Store, name: &str) -> Option<LeaseRow> {
    store.leases().await.unwrap().into_iter().find(|row| row.gateway == gateway(name))
}

/// What the log says of standings.
async fn logged_changes(store: &dyn Store) -> Vec<StandingChange> {
    let log = whole_log(store).await;
    log.iter().filter_map(|entry| entry.standing_change().unwrap()).collect()
}

/// Exactly those, in order; what changes no standing is counted and not listed.
pub async fn a_renewal_answers_the_changes_of_standing_after_the_named_version(store: Fresh) {
    approved(&*store, "x").await;
    store.create_key(key("k", "y"), by_admin()).await.unwrap();
    store.create_invite(invite("unused"), by_admin()).await.unwrap();
    store.revoke_peer(&home(), &peer("x"), by_admin()).await.unwrap();
    store.revoke_invite("unused", by_admin()).await.unwrap();
    let change = |version, name, standing| StandingChange {
        version: Version(version),
        mesh: home(),
        peer: peer(name),
        standing,
    };
    let all = [
        change(2, "x", Standing::Pending),
        change(3, "x", Standing::Approved),
        change(4, "y", Standing::Approved),
        change(6, "x", Standing::Revoked),
    ];
    for (applied, first) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
        let renewal = store.renew(&gateway("g"), Version(applied), Version(0)).await.unwrap();
        assert_eq!(renewal.version, Version(7));
        assert_eq!(renewal.changes, all[first..], "after {applied}");
    }
}

/// After an old backup was restored, the holder can see that it knows more than the storage.
pub async fn a_storage_that_went_back_shows(store: Fresh) {
    approved(&*store, "x").await;
    let renewal = store.renew(&gateway("g"), Version(99), Version(0)).await.unwrap();
    assert_eq!((renewal.version, renewal.changes), (Version(3), vec![]));
}

/// The waiter sees by the beat that the holder is alive, and by the acknowledgement how far it is.
pub async fn each_renewal_moves_the_row(store: Fresh) {
    approved(&*store, "x").await;
    assert_eq!(store.leases().await.unwrap(), []);
    store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    store.renew(&gateway("h"), Version(0), Version(0)).await.unwrap();
    let mut beat = 0;
    for acknowledged in [0, 0, 1, 3] {
        store.renew(&gateway("g"), Version(3), Version(acknowledged)).await.unwrap();
        let row = lease(&*store, "g").await.unwrap();
        assert_eq!(row.acknowledged, Version(acknowledged));
        assert!(row.beat > beat, "the row stood still");
        beat = row.beat;
    }
    assert_eq!(lease(&*store, "h").await.unwrap().acknowledged, Version(0));
    assert_eq!(store.leases().await.unwrap().len(), 2);
}

/// A late renewal of the same holder must not take back what it has said.
pub async fn an_acknowledgement_never_goes_back(store: Fresh) {
    approved(&*store, "x").await;
    store.renew(&gateway("g"), Version(3), Version(3)).await.unwrap();
    store.renew(&gateway("g"), Version(3), Version(1)).await.unwrap();
    assert_eq!(lease(&*store, "g").await.unwrap().acknowledged, Version(3));
}

/// Who saw a row stand still removes that row, not the one that moved in between.
pub async fn a_lease_is_removed_only_while_its_beat_stands(store: Fresh) {
    store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    store.renew(&gateway("h"), Version(0), Version(0)).await.unwrap();
    let seen = lease(&*store, "g").await.unwrap().beat;
    store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    assert!(!store.remove_lease(&gateway("g"), Some(seen)).await.unwrap());
    let seen = lease(&*store, "g").await.unwrap().beat;
    assert!(store.remove_lease(&gateway("g"), Some(seen)).await.unwrap());
    assert!(!store.remove_lease(&gateway("g"), Some(seen)).await.unwrap());
    assert!(!store.remove_lease(&gateway("g"), None).await.unwrap());
    assert!(store.remove_lease(&gateway("h"), None).await.unwrap());
    assert_eq!(store.leases().await.unwrap(), []);
}

/// Else a waiter that was slow would remove a lease that it never saw.
pub async fn a_lease_that_comes_back_uses_no_beat_twice(store: Fresh) {
    for _ in 0..3 {
        store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    }
    let seen = lease(&*store, "g").await.unwrap().beat;
    assert!(store.remove_lease(&gateway("g"), None).await.unwrap());
    for _ in 0..4 {
        store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
        assert!(lease(&*store, "g").await.unwrap().beat > seen);
    }
}

/// Of a change and a renewal at the same moment: either the renewal tells the change, or who made the change
/// finds the lease and waits for it. Neither would be a gateway that goes on delivering after "enforced".
///
/// New gateways renew all the while, so that some renewal meets the very moment of the change.
pub async fn a_renewal_and_a_change_never_miss_each_other(store: Fresh) {
    for round in 0..60 {
        let done = Arc::new(AtomicBool::new(false));
        let holders: Vec<_> = (0..6)
            .map(|n| tokio::spawn(renew_until(done.clone(), store.shared(), format!("g{round}-{n}"))))
            .collect();
        let changer = store.shared();
        let change = tokio::spawn(async move {
            let new = key(&format!("k{round}"), &format!("x{round}"));
            changer.create_key(new, by_admin()).await.unwrap();
            changer.leases().await.unwrap()
        });
        let waited_for: BTreeSet<_> = change.await.unwrap().into_iter().map(|row| row.gateway).collect();
        done.store(true, Ordering::Relaxed);
        for holder in holders {
            for (gateway, told) in holder.await.unwrap() {
                // This is the only writer: its change of this round is number `round` + 1.
                assert!(
                    told.0 > round || waited_for.contains(&gateway),
                    "{gateway} and change {round} missed"
                );
                store.remove_lease(&gateway, None).await.unwrap();
            }
        }
    }
}

/// Grants lease after lease, and answers up to which version each was told.
async fn renew_until(
    done: Arc<AtomicBool>,
    store: Arc<dyn Store>,
    name: String,
) -> Vec<(GatewayId, Version)> {
    let mut told = vec![];
    while !done.load(Ordering::Relaxed) {
        let id = gateway(&format!("{name}-{}", told.len()));
        let renewal = store.renew(&id, Version(0), Version(0)).await.unwrap();
        assert_eq!(renewal.changes.len() as u64, renewal.version.0, "a renewal tells all up to its version");
        told.push((id, renewal.version));
        tokio::task::yield_now().await;
    }
    told
}

/// A feed that goes on from the version it was told ends up with the log, nothing twice.
pub async fn renewals_beside_changes_see_each_change_once_and_in_order(store: Fresh) {
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let store = store.shared();
            tokio::spawn(async move {
                for n in 0..8 {
                    approved(&*store, &format!("w{writer}-{n}")).await;
                }
            })
        })
        .collect();
    let (mut feed, mut applied) = (vec![], Version(0));
    loop {
        let done = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let renewal = store.renew(&gateway("g"), applied, applied).await.unwrap();
        assert!(renewal.changes.iter().all(|change| change.version <= renewal.version));
        feed.extend(renewal.changes);
        applied = renewal.version;
        if done {
            break;
        }
    }
    assert_eq!(applied, Version(3 * 8 * 3));
    assert_eq!(feed, logged_changes(&*store).await);
}

async fn assert_wakes(hints: &mut watch::Receiver<u64>) {
    timeout(SOON, hints.changed()).await.expect("nobody was woken up").unwrap();
    hints.mark_unchanged();
}

/// Waits until everything that was on its way has come.
async fn calm(hints: &mut watch::Receiver<u64>) {
    while timeout(QUIET, hints.changed()).await.is_ok() {}
}

/// Nothing wakes the receiver for a while.
async fn assert_calm(hints: &mut watch::Receiver<u64>) {
    assert!(timeout(QUIET, hints.changed()).await.is_err(), "somebody was woken for nothing");
}

/// Gateways need not wait for their next renewal.
pub async fn a_change_wakes_those_who_wait_for_changes(store: Fresh) {
    let (mut hints, mut others) = (store.hints(Hint::Change), store.hints(Hint::Change));
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    assert_wakes(&mut hints).await;
    assert_wakes(&mut others).await;
    calm(&mut hints).await;
    store.revoke_peer(&home(), &peer("x"), by_admin()).await.unwrap();
    assert_wakes(&mut hints).await;
}

/// The one who waits for "enforced" is woken, and no gateway.
pub async fn an_acknowledgement_that_goes_further_wakes_those_who_wait_for_leases(store: Fresh) {
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    let (mut leases, mut changes) = (store.hints(Hint::Lease), store.hints(Hint::Change));
    calm(&mut leases).await;
    calm(&mut changes).await;
    store.renew(&gateway("g"), Version(1), Version(1)).await.unwrap();
    assert_wakes(&mut leases).await;
    assert_calm(&mut changes).await;
}

/// A lease that is gone need not be waited for. No gateway is woken.
pub async fn a_removed_lease_wakes_those_who_wait_for_leases(store: Fresh) {
    store.renew(&gateway("g"), Version(0), Version(0)).await.unwrap();
    let (mut leases, mut changes) = (store.hints(Hint::Lease), store.hints(Hint::Change));
    calm(&mut leases).await;
    calm(&mut changes).await;
    assert!(store.remove_lease(&gateway("g"), None).await.unwrap());
    assert_wakes(&mut leases).await;
    assert_calm(&mut changes).await;
}

/// On demand.
pub async fn a_hint_wakes_everybody(store: Fresh) {
    let (mut leases, mut changes) = (store.hints(Hint::Lease), store.hints(Hint::Change));
    calm(&mut leases).await;
    calm(&mut changes).await;
    store.hint();
    assert_wakes(&mut leases).await;
    assert_wakes(&mut changes).await;
}

/// A plain renewal is nobody's business.
pub async fn a_plain_renewal_wakes_nobody(store: Fresh) {
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    store.renew(&gateway("g"), Version(1), Version(1)).await.unwrap();
    let (mut leases, mut changes) = (store.hints(Hint::Lease), store.hints(Hint::Change));
    calm(&mut leases).await;
    calm(&mut changes).await;
    store.renew(&gateway("g"), Version(1), Version(1)).await.unwrap();
    assert_calm(&mut leases).await;
    assert_calm(&mut changes).await;
}

/// Two that renew whenever they are woken, by whatever it is, must not keep each other awake.
pub async fn renewing_on_every_hint_comes_to_rest(store: Fresh) {
    for of in [Hint::Change, Hint::Lease] {
        let mut hints = store.hints(of);
        store.create_key(key(&format!("k-{of:?}"), "x"), by_admin()).await.unwrap();
        let mut turns = 0;
        while timeout(QUIET, hints.changed()).await.is_ok() {
            turns += 1;
            assert!(turns < 20, "renewals wake renewals");
            hints.mark_unchanged();
            for name in ["g", "h"] {
                let version = store.renew(&gateway(name), Version(0), Version(0)).await.unwrap().version;
                store.renew(&gateway(name), version, version).await.unwrap();
            }
        }
    }
}
