//! Rules that only hold if changes exclude one another. Each race is run several times.

use heliograph_core::pairing::PairingState::{Approved, PendingApproval, Rejected, Revoked};

use super::*;
use crate::{Result, StoreError};

const ROUNDS: usize = 10;
const MANY: usize = 20;

fn winners<T>(results: &[Result<T>]) -> usize {
    results.iter().filter(|result| result.is_ok()).count()
}

/// Two administrators push at the same time: how it ended, and the state that was left.
async fn two_transitions(store: &Fresh, name: &str, both: [Transition; 2]) -> Vec<Result<Pairing>> {
    let id = waiting(&**store, name).await.id;
    race(2, |n| {
        let (store, id) = (store.shared(), id.clone());
        async move { store.transition(&id, both[n], by_admin()).await }
    })
    .await
}

/// The other one learns that it is approved already.
pub async fn of_two_approvals_one_succeeds(store: Fresh) {
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        let mut results = two_transitions(&store, &name, [Transition::Approve; 2]).await;
        results.sort_by_key(Result::is_err);
        assert_eq!(results[0].as_ref().unwrap().state, Approved);
        assert_refused!(&results[1], Conflict(Approved));
    }
    assert_eq!(verified_log(&*store).await.len(), 3 * ROUNDS);
}

/// The loser learns what the winner did, and it stays so.
pub async fn of_an_approval_and_a_rejection_one_succeeds(store: Fresh) {
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        let mut results = two_transitions(&store, &name, [Transition::Approve, Transition::Reject]).await;
        results.sort_by_key(Result::is_err);
        let won = results[0].as_ref().unwrap().state;
        assert!(matches!(won, Approved | Rejected));
        assert_refused!(&results[1], Conflict(state) if *state == won);
        assert_eq!(store.peer(&home(), &peer(&name)).await.unwrap().state, won);
    }
    assert_eq!(verified_log(&*store).await.len(), 3 * ROUNDS);
}

/// Either order is fine: refused for not being approved yet, or approved and then revoked.
pub async fn of_an_approval_and_a_revocation_no_half_remains(store: Fresh) {
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        let results = two_transitions(&store, &name, [Transition::Approve, Transition::Revoke]).await;
        assert_eq!(results[0].as_ref().unwrap().state, Approved);
        let left = match &results[1] {
            Ok(pairing) => pairing.state,
            Err(StoreError::Conflict(PendingApproval)) => Approved,
            other => panic!("{other:?}"),
        };
        assert_eq!(store.pairing(&format!("pair-{name}")).await.unwrap().state, left);
        assert_eq!(store.peer(&home(), &peer(&name)).await.unwrap().state, left);
    }
    verified_log(&*store).await;
}

/// By the pairing and by the peer's name: one revocation, one version.
pub async fn of_two_revocations_one_succeeds(store: Fresh) {
    for round in 0..ROUNDS {
        let pairing = approved(&*store, &format!("x{round}")).await;
        let results = race(2, |n| {
            let (store, pairing) = (store.shared(), pairing.clone());
            async move {
                match n {
                    0 => store.revoke_peer(&pairing.mesh, &pairing.peer, by_admin()).await.map(drop),
                    _ => store.transition(&pairing.id, Transition::Revoke, by_admin()).await.map(drop),
                }
            }
        })
        .await;
        assert_eq!(winners(&results), 1);
        assert!(results.iter().any(|result| matches!(result, Err(StoreError::Conflict(Revoked)))));
    }
    assert_eq!(verified_log(&*store).await.len(), 4 * ROUNDS);
}

/// Each with a peer and pairing id of its own.
async fn redeem_by_many(store: &Fresh, max_pending: u32) -> Vec<Result<Pairing>> {
    race(MANY, |n| {
        let store = store.shared();
        let redemption = Redemption { max_pending, ..redemption("code", &format!("x{n}")) };
        async move { store.redeem(redemption, NOW).await }
    })
    .await
}

/// The nineteen others cannot tell it from a wrong code.
pub async fn of_twenty_who_redeem_one_code_one_succeeds(store: Fresh) {
    store.create_invite(invite("code"), by_admin()).await.unwrap();
    let results = redeem_by_many(&store, PLENTY).await;
    assert_eq!(winners(&results), 1);
    for result in results.iter().filter(|result| result.is_err()) {
        assert_refused!(result, NotFound);
    }
    assert_eq!(store.pairings(None, None, Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(store.peers(None, Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(verified_log(&*store).await.len(), 2);
}

/// Not four, not six.
pub async fn a_code_of_five_uses_serves_five_of_twenty(store: Fresh) {
    store.create_invite(NewInvite { uses: 5, ..invite("code") }, by_admin()).await.unwrap();
    assert_eq!(winners(&redeem_by_many(&store, PLENTY).await), 5);
    assert_eq!(store.invites(None, Page::default()).await.unwrap().rows[0].uses_left, 0);
    assert_eq!(store.pairings(None, None, Page::default()).await.unwrap().rows.len(), 5);
}

/// And those who were turned away took no use.
pub async fn the_bound_of_waiting_devices_holds_under_a_race(store: Fresh) {
    store.create_invite(NewInvite { uses: 20, ..invite("code") }, by_admin()).await.unwrap();
    let results = redeem_by_many(&store, 3).await;
    assert_eq!(winners(&results), 3);
    for result in results.iter().filter(|result| result.is_err()) {
        assert_refused!(result, Full);
    }
    assert_eq!(store.invites(None, Page::default()).await.unwrap().rows[0].uses_left, 17);
}

/// A bound that a burst could pass would be none.
pub async fn the_bound_of_open_invites_holds_under_a_race(store: Fresh) {
    let results = race(MANY, |n| {
        let store = store.shared();
        let new = NewInvite { max_open: 3, ..invite(&format!("i{n}")) };
        async move { store.create_invite(new, by_admin()).await }
    })
    .await;
    assert_eq!(winners(&results), 3);
    assert_eq!(store.invites(None, Page::default()).await.unwrap().rows.len(), 3);
}

/// The token that works is the one whose caller got `true`.
pub async fn a_device_token_is_issued_once_under_a_race(store: Fresh) {
    let id = approved(&*store, "x").await.id;
    let results = race(MANY, |n| {
        let (store, id) = (store.shared(), id.clone());
        async move { store.issue_device_token(&id, hash(&format!("t{n}")), NOW).await.unwrap() }
    })
    .await;
    for (n, issued) in results.iter().enumerate() {
        assert_eq!(store.peer_of_device_token(&hash(&format!("t{n}"))).await.is_ok(), *issued);
    }
    assert_eq!(results.iter().filter(|&&issued| issued).count(), 1);
    assert_eq!(verified_log(&*store).await.len(), 4);
}

/// All nodes of a cluster import the same file when they start.
pub async fn one_key_comes_of_twenty_imports_at_once(store: Fresh) {
    let results = race(MANY, |n| {
        let store = store.shared();
        let new = NewKey { id: format!("k{n}"), ..key("same", "x") };
        async move { store.create_key(new, by_admin()).await.unwrap() }
    })
    .await;
    assert!(results.iter().all(|made| *made == results[0]));
    assert_eq!(store.keys(None, Page::default()).await.unwrap().rows.len(), 1);
    assert_eq!(verified_log(&*store).await.len(), 1);
}

/// Made before, it dies with the peer; after, it is refused.
pub async fn a_key_made_beside_a_revocation_never_outlives_it(store: Fresh) {
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        approved(&*store, &name).await;
        race(2, |n| {
            let (store, name) = (store.shared(), name.clone());
            async move {
                match n {
                    0 => store.create_key(key(&format!("k-{name}"), &name), by_admin()).await.map(drop),
                    _ => store.revoke_peer(&home(), &peer(&name), by_admin()).await.map(drop),
                }
            }
        })
        .await;
        assert_refused!(store.key_of_secret(&hash(&format!("k-{name}"))).await, NotFound);
        assert_eq!(store.peer(&home(), &peer(&name)).await.unwrap().state, Revoked);
    }
    verified_log(&*store).await;
}

/// Each must see that the other is gone: a peer without a key would keep its right for ever.
pub async fn of_two_last_keys_revoked_at_once_the_second_takes_the_peer_along(store: Fresh) {
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        for n in 0..2 {
            store.create_key(key(&format!("{name}-{n}"), &name), by_admin()).await.unwrap();
        }
        let versions = race(2, |n| {
            let (store, id) = (store.shared(), format!("{name}-{n}"));
            async move { store.revoke_key(&id, by_admin()).await.unwrap() }
        })
        .await;
        let record = store.peer(&home(), &peer(&name)).await.unwrap();
        assert_eq!((record.state, Some(record.version)), (Revoked, versions.into_iter().max()));
    }
}
