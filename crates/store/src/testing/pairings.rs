//! Rules of pairings and peers.

use heliograph_core::pairing::PairingState::{self, Approved, PendingApproval, Rejected, Revoked};

use super::*;
use crate::{Origin, PeerRecord};

const TRANSITIONS: [Transition; 3] = [Transition::Approve, Transition::Reject, Transition::Revoke];

/// A device of that name in that state.
async fn device_in(store: &dyn Store, name: &str, state: PairingState) -> Pairing {
    let pairing = waiting(store, name).await;
    let way: &[Transition] = match state {
        PendingApproval => &[],
        Approved => &[Transition::Approve],
        Rejected => &[Transition::Reject],
        Revoked => &[Transition::Approve, Transition::Revoke],
    };
    for &step in way {
        store.transition(&pairing.id, step, by_admin()).await.unwrap();
    }
    store.pairing(&pairing.id).await.unwrap()
}

/// Both are there, complete, and under the same version.
pub async fn a_redeemed_code_leaves_a_waiting_pairing_and_peer(store: Fresh) {
    store.create_invite(invite("a"), by_admin()).await.unwrap();
    let pairing = store.redeem(redemption("a", "x"), NOW + 5).await.unwrap();
    let public_key = Some(r#"{"kty":"OKP","x":"x"}"#.to_owned());
    let expected = Pairing {
        id: "pair-x".to_owned(),
        mesh: home(),
        peer: peer("x"),
        name: "the x".to_owned(),
        state: PendingApproval,
        invite: "a".to_owned(),
        public_key: public_key.clone(),
        address: Some("192.0.2.7".to_owned()),
        token_issued: false,
        created_at: NOW + 5,
        updated_at: NOW + 5,
        version: Version(2),
    };
    assert_eq!(pairing, expected);
    assert_eq!(store.pairing("pair-x").await.unwrap(), expected);
    let expected = PeerRecord {
        mesh: home(),
        peer: peer("x"),
        name: "the x".to_owned(),
        state: PendingApproval,
        origin: Origin::Pairing,
        role: "agent".to_owned(),
        pairing: Some("pair-x".to_owned()),
        public_key,
        created_at: NOW + 5,
        updated_at: NOW + 5,
        version: Version(2),
    };
    assert_eq!(store.peer(&home(), &peer("x")).await.unwrap(), expected);
}

/// Who finds the waiting room full may come again with the same code; those who left it make room.
pub async fn the_bound_of_waiting_devices_costs_no_use(store: Fresh) {
    store.create_invite(NewInvite { uses: 3, ..invite("a") }, by_admin()).await.unwrap();
    let one_at_most = |name: &str| Redemption { max_pending: 1, ..redemption("a", name) };
    let first = store.redeem(one_at_most("x"), NOW).await.unwrap();
    assert_refused!(store.redeem(one_at_most("y"), NOW).await, Full);
    assert_eq!(store.invites(None, Page::default()).await.unwrap().rows[0].uses_left, 2);
    store.transition(&first.id, Transition::Approve, by_admin()).await.unwrap();
    store.redeem(one_at_most("y"), NOW).await.unwrap();

    let elsewhere = NewInvite { mesh: mesh("elsewhere"), ..invite("b") };
    store.create_invite(elsewhere, by_admin()).await.unwrap();
    store.redeem(Redemption { code: hash("b"), ..one_at_most("z") }, NOW).await.unwrap();
}

/// Whatever the state of the one who has it: a revoked peer does not return under its old name.
pub async fn a_taken_pairing_or_peer_id_is_refused_and_costs_no_use(store: Fresh) {
    for (name, state) in [("p", PendingApproval), ("a", Approved), ("j", Rejected), ("r", Revoked)] {
        device_in(&*store, name, state).await;
    }
    store.create_key(key("k", "of-a-key"), by_admin()).await.unwrap();
    store.create_invite(NewInvite { uses: 2, ..invite("code") }, by_admin()).await.unwrap();
    for name in ["p", "a", "j", "r", "of-a-key"] {
        let same_peer = Redemption { id: "new".to_owned(), ..redemption("code", name) };
        assert_refused!(store.redeem(same_peer, NOW).await, Exists);
    }
    let same_id = Redemption { peer: peer("new"), ..redemption("code", "p") };
    assert_refused!(store.redeem(same_id, NOW).await, Exists);
    assert_eq!(store.invites(None, Page::default()).await.unwrap().rows[0].uses_left, 2);
    assert_refused!(store.peer(&home(), &peer("new")).await, NotFound);
}

/// Meshes do not see each other.
pub async fn a_peer_id_is_taken_in_its_own_mesh_only(store: Fresh) {
    approved(&*store, "x").await;
    store.create_invite(NewInvite { mesh: mesh("elsewhere"), ..invite("code") }, by_admin()).await.unwrap();
    let namesake = Redemption { id: "other".to_owned(), ..redemption("code", "x") };
    store.redeem(namesake, NOW).await.unwrap();
    assert_eq!(store.peer(&home(), &peer("x")).await.unwrap().state, Approved);
    assert_eq!(store.peer(&mesh("elsewhere"), &peer("x")).await.unwrap().state, PendingApproval);
}

/// Another's claim, a wrong one and an unknown pairing look the same.
pub async fn a_claim_opens_its_own_pairing_only(store: Fresh) {
    let (x, y) = (waiting(&*store, "x").await, waiting(&*store, "y").await);
    assert_eq!(store.pairing_of_claim(&x.id, &hash("x")).await.unwrap(), x);
    assert_eq!(store.pairing_of_claim(&y.id, &hash("y")).await.unwrap(), y);
    assert_refused!(store.pairing_of_claim(&x.id, &hash("y")).await, NotFound);
    assert_refused!(store.pairing_of_claim("unknown", &hash("x")).await, NotFound);
}

/// Nobody sees one without the other.
pub async fn a_transition_moves_pairing_and_peer_under_one_version(store: Fresh) {
    let before = waiting(&*store, "x").await;
    for (n, (transition, state)) in
        [(Transition::Approve, Approved), (Transition::Revoke, Revoked)].into_iter().enumerate()
    {
        let now = NOW + 10 + i64::try_from(n).unwrap();
        let pairing = store.transition(&before.id, transition, by_admin_at(now)).await.unwrap();
        let version = store.version().await.unwrap();
        assert_eq!(pairing, Pairing { state, updated_at: now, version, ..before.clone() });
        assert_eq!(store.pairing(&before.id).await.unwrap(), pairing);
        let peer = store.peer(&home(), &peer("x")).await.unwrap();
        assert_eq!((peer.state, peer.updated_at, peer.version), (state, now, version));
        assert_eq!((peer.created_at, peer.pairing), (NOW, Some(before.id.clone())));
    }
}

/// All twelve cases, held against the rule in the core.
pub async fn a_transition_from_any_other_state_is_refused_with_that_state(store: Fresh) {
    for (name, state) in [("p", PendingApproval), ("a", Approved), ("j", Rejected), ("r", Revoked)] {
        for (n, transition) in TRANSITIONS.into_iter().enumerate() {
            let pairing = device_in(&*store, &format!("{name}{n}"), state).await;
            let result = store.transition(&pairing.id, transition, by_admin()).await;
            match transition.apply(state) {
                Ok(next) => assert_eq!(result.unwrap().state, next),
                Err(_) => assert_refused!(result, Conflict(current) if current == state),
            }
            let peer = store.peer(&home(), &pairing.peer).await.unwrap();
            assert_eq!(peer.state, transition.apply(state).unwrap_or(state));
        }
    }
}

/// Every call that names something.
pub async fn what_is_unknown_is_not_found(store: Fresh) {
    approved(&*store, "x").await;
    assert_refused!(store.pairing("unknown").await, NotFound);
    assert_refused!(store.transition("unknown", Transition::Approve, by_admin()).await, NotFound);
    assert_refused!(store.issue_device_token("unknown", hash("t"), NOW).await, NotFound);
    assert_refused!(store.peer_of_device_token(&hash("t")).await, NotFound);
    assert_refused!(store.peer(&home(), &peer("unknown")).await, NotFound);
    assert_refused!(store.peer(&mesh("elsewhere"), &peer("x")).await, NotFound);
    assert_refused!(store.revoke_peer(&home(), &peer("unknown"), by_admin()).await, NotFound);
    assert_refused!(store.revoke_peer(&mesh("elsewhere"), &peer("x"), by_admin()).await, NotFound);
    assert_refused!(store.key("unknown").await, NotFound);
    assert_refused!(store.key_of_secret(&hash("unknown")).await, NotFound);
    assert_refused!(store.revoke_key("unknown", by_admin()).await, NotFound);
}

/// The first caller gets it; the others change nothing, whatever token they bring.
pub async fn a_device_token_is_issued_once(store: Fresh) {
    let pairing = approved(&*store, "x").await;
    assert!(!pairing.token_issued);
    assert!(store.issue_device_token(&pairing.id, hash("first"), NOW + 1).await.unwrap());
    let issued = store.pairing(&pairing.id).await.unwrap();
    let version = store.version().await.unwrap();
    assert_eq!(issued, Pairing { token_issued: true, updated_at: NOW + 1, version, ..pairing.clone() });
    assert_eq!(version, Version(pairing.version.0 + 1));
    let record = store.peer_of_device_token(&hash("first")).await.unwrap();
    assert_eq!((&record.peer, record.version), (&pairing.peer, pairing.version));

    for again in ["first", "second"] {
        assert!(!store.issue_device_token(&pairing.id, hash(again), NOW + 2).await.unwrap());
    }
    assert_refused!(store.peer_of_device_token(&hash("second")).await, NotFound);
    assert_eq!(store.version().await.unwrap(), version);
}

/// Neither before nor after.
pub async fn a_device_token_needs_an_approved_pairing(store: Fresh) {
    for state in [PendingApproval, Rejected, Revoked] {
        let pairing = device_in(&*store, state.as_str(), state).await;
        let result = store.issue_device_token(&pairing.id, hash("t"), NOW).await;
        assert_refused!(result, Conflict(current) if current == state);
    }
    let late = approved(&*store, "late").await;
    assert!(store.issue_device_token(&late.id, hash("t"), NOW).await.unwrap());
    store.transition(&late.id, Transition::Revoke, by_admin()).await.unwrap();
    assert_refused!(store.issue_device_token(&late.id, hash("t"), NOW).await, Conflict(Revoked));
}

/// One token, one device.
pub async fn a_device_token_of_another_pairing_is_refused(store: Fresh) {
    let (x, y) = (approved(&*store, "x").await, approved(&*store, "y").await);
    assert!(store.issue_device_token(&x.id, hash("t"), NOW).await.unwrap());
    assert_refused!(store.issue_device_token(&y.id, hash("t"), NOW).await, Exists);
    assert_eq!(store.peer_of_device_token(&hash("t")).await.unwrap().peer, x.peer);
    assert!(store.issue_device_token(&y.id, hash("u"), NOW).await.unwrap());
}

/// The token exchange has to be able to say "revoked".
pub async fn a_device_token_tells_its_peer_whatever_its_state(store: Fresh) {
    let pairing = approved(&*store, "x").await;
    assert!(store.issue_device_token(&pairing.id, hash("t"), NOW).await.unwrap());
    assert_eq!(store.peer_of_device_token(&hash("t")).await.unwrap().state, Approved);
    store.transition(&pairing.id, Transition::Revoke, by_admin()).await.unwrap();
    assert_eq!(store.peer_of_device_token(&hash("t")).await.unwrap().state, Revoked);
}

/// The state of everything that could still open a door for `x` and its keys `k1` and `k2`.
async fn assert_revoked_with_keys(store: &Fresh, pairing: Option<&str>, version: Version) {
    let record = store.peer(&home(), &peer("x")).await.unwrap();
    assert_eq!((record.state, record.version, record.updated_at), (Revoked, version, NOW + 9));
    for id in ["k1", "k2"] {
        assert_refused!(store.key_of_secret(&hash(id)).await, NotFound);
        assert_eq!(store.key(id).await.unwrap().revoked_at, Some(NOW + 9));
        assert_refused!(store.revoke_key(id, by_admin()).await, NotFound);
    }
    if let Some(id) = pairing {
        let pairing = store.pairing(id).await.unwrap();
        assert_eq!((pairing.state, pairing.version, pairing.updated_at), (Revoked, version, NOW + 9));
    }
    assert!(store.key_of_secret(&hash("other")).await.is_ok(), "another peer's key died too");
    assert_eq!(store.version().await.unwrap(), version);
}

async fn with_keys(store: &Fresh) {
    for (id, of) in [("k1", "x"), ("k2", "x"), ("other", "y")] {
        store.create_key(key(id, of), by_admin()).await.unwrap();
    }
}

/// By its name.
pub async fn revoking_a_peer_takes_its_pairing_and_keys_along(store: Fresh) {
    let pairing = approved(&*store, "x").await;
    with_keys(&store).await;
    let version = store.revoke_peer(&home(), &peer("x"), by_admin_at(NOW + 9)).await.unwrap();
    assert_revoked_with_keys(&store, Some(&pairing.id), version).await;
}

/// By its pairing: the same in all respects.
pub async fn revoking_a_pairing_takes_its_peer_and_keys_along(store: Fresh) {
    let pairing = approved(&*store, "x").await;
    with_keys(&store).await;
    let revoked = store.transition(&pairing.id, Transition::Revoke, by_admin_at(NOW + 9)).await.unwrap();
    assert_revoked_with_keys(&store, Some(&pairing.id), revoked.version).await;
}

/// A peer that never had a pairing.
pub async fn revoking_a_peer_of_keys_takes_them_along(store: Fresh) {
    with_keys(&store).await;
    let version = store.revoke_peer(&home(), &peer("x"), by_admin_at(NOW + 9)).await.unwrap();
    assert_revoked_with_keys(&store, None, version).await;
}

/// The refusal says why.
pub async fn a_peer_that_is_not_approved_is_not_revoked(store: Fresh) {
    for state in [PendingApproval, Rejected, Revoked] {
        let pairing = device_in(&*store, state.as_str(), state).await;
        let result = store.revoke_peer(&home(), &pairing.peer, by_admin()).await;
        assert_refused!(result, Conflict(current) if current == state);
        assert_eq!(store.pairing(&pairing.id).await.unwrap(), pairing);
    }
}

/// No version, no row in the log, no trace in any list.
pub async fn a_refused_change_changes_nothing(store: Fresh) {
    let x = approved(&*store, "x").await;
    let y = device_in(&*store, "y", Revoked).await;
    store.issue_device_token(&x.id, hash("t"), NOW).await.unwrap();
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    store.create_invite(NewInvite { uses: 5, ..invite("open") }, by_admin()).await.unwrap();
    let before = everything(&*store, 100).await;

    assert!(store.create_invite(invite("open"), by_admin()).await.is_err());
    assert!(store.create_invite(NewInvite { max_open: 1, ..invite("more") }, by_admin()).await.is_err());
    assert!(store.revoke_invite("unknown", by_admin()).await.is_err());
    assert!(store.redeem(redemption("wrong", "z"), NOW).await.is_err());
    assert!(store.redeem(redemption("open", "x"), NOW).await.is_err());
    assert!(store.redeem(Redemption { max_pending: 0, ..redemption("open", "z") }, NOW).await.is_err());
    assert!(store.transition(&x.id, Transition::Reject, by_admin()).await.is_err());
    assert!(store.issue_device_token(&y.id, hash("u"), NOW).await.is_err());
    assert!(store.revoke_peer(&home(), &peer("y"), by_admin()).await.is_err());
    assert!(store.create_key(key("k2", "y"), by_admin()).await.is_err());
    assert!(store.create_key(key("k", "new"), by_admin()).await.is_err());
    assert!(store.create_key(NewKey { secret: hash("s"), ..key("k", "new") }, by_admin()).await.is_err());
    assert!(store.revoke_key("unknown", by_admin()).await.is_err());

    assert_eq!(everything(&*store, 100).await, before);
    verified_log(&*store).await;
}
