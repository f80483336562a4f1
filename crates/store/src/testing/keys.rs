//! Rules of API keys.

use heliograph_core::pairing::PairingState::{Approved, PendingApproval, Rejected, Revoked};

use super::*;
use crate::{ApiKey, Origin, PeerRecord};

/// Both complete, under one version.
pub async fn a_key_comes_with_an_approved_peer(store: Fresh) {
    let made =
        store.create_key(NewKey { role: "admin".to_owned(), ..key("k", "x") }, by_admin()).await.unwrap();
    let expected = ApiKey {
        id: "k".to_owned(),
        mesh: home(),
        peer: peer("x"),
        role: "admin".to_owned(),
        name: "key k".to_owned(),
        created_at: NOW,
        revoked_at: None,
    };
    assert_eq!(made, expected);
    assert_eq!(store.key("k").await.unwrap(), expected);
    assert_eq!(store.key_of_secret(&hash("k")).await.unwrap(), expected);
    let expected = PeerRecord {
        mesh: home(),
        peer: peer("x"),
        name: "key k".to_owned(),
        state: Approved,
        origin: Origin::Key,
        role: "admin".to_owned(),
        pairing: None,
        public_key: None,
        created_at: NOW,
        updated_at: NOW,
        version: Version(1),
    };
    assert_eq!(store.peer(&home(), &peer("x")).await.unwrap(), expected);
}

/// Also for a peer that came by an invite; its record stays as it was.
pub async fn a_key_for_an_existing_peer_changes_no_standing(store: Fresh) {
    approved(&*store, "paired").await;
    store.create_key(key("k1", "keyed"), by_admin()).await.unwrap();
    for (id, name) in [("k2", "paired"), ("k3", "keyed")] {
        let before = store.peer(&home(), &peer(name)).await.unwrap();
        let more = NewKey { role: "admin".to_owned(), ..key(id, name) };
        let made = store.create_key(more, by_admin_at(NOW + 1)).await.unwrap();
        assert_eq!((made.role.as_str(), &made.peer), ("admin", &before.peer));
        assert_eq!(store.peer(&home(), &peer(name)).await.unwrap(), before);
        assert_eq!(whole_log(&*store).await.last().unwrap().standing, None);
    }
}

/// The same file, read at each start.
pub async fn an_import_is_idempotent(store: Fresh) {
    let made = store.create_key(key("k", "x"), by_admin()).await.unwrap();
    let again = NewKey { id: "drawn-anew".to_owned(), name: "other".to_owned(), ..key("k", "x") };
    assert_eq!(store.create_key(again, by_admin_at(NOW + 1)).await.unwrap(), made);
    assert_eq!(store.version().await.unwrap(), Version(1));
    assert_refused!(store.key("drawn-anew").await, NotFound);
}

/// A file must not undo what an administrator did, nor fail the start.
pub async fn a_revoked_key_stays_revoked_when_it_is_imported_again(store: Fresh) {
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    store.revoke_key("k", by_admin_at(NOW + 1)).await.unwrap();
    let again = store.create_key(key("k", "x"), by_admin_at(NOW + 2)).await.unwrap();
    assert_eq!(again.revoked_at, Some(NOW + 1));
    assert_refused!(store.key_of_secret(&hash("k")).await, NotFound);
    assert_eq!(store.version().await.unwrap(), Version(2));
}

/// One secret, one meaning; ids are never overwritten.
pub async fn a_secret_that_means_something_else_is_refused(store: Fresh) {
    let made = store.create_key(key("k", "x"), by_admin()).await.unwrap();
    let same_secret = || NewKey { id: "new".to_owned(), ..key("k", "x") };
    for other in [
        NewKey { mesh: mesh("elsewhere"), ..same_secret() },
        NewKey { peer: peer("y"), ..same_secret() },
        NewKey { role: "admin".to_owned(), ..same_secret() },
        NewKey { secret: hash("new"), ..key("k", "x") },
    ] {
        assert_refused!(store.create_key(other, by_admin()).await, Exists);
    }
    assert_eq!(store.key("k").await.unwrap(), made);
    assert_refused!(store.peer(&home(), &peer("y")).await, NotFound);
}

/// A key must not be the back door of a peer that was turned down or lost its right.
pub async fn a_peer_that_is_not_approved_gets_no_key(store: Fresh) {
    waiting(&*store, "pending").await;
    let rejected = waiting(&*store, "rejected").await;
    store.transition(&rejected.id, Transition::Reject, by_admin()).await.unwrap();
    let revoked = approved(&*store, "revoked").await;
    store.transition(&revoked.id, Transition::Revoke, by_admin()).await.unwrap();
    store.create_key(key("k", "keyed"), by_admin()).await.unwrap();
    store.revoke_peer(&home(), &peer("keyed"), by_admin()).await.unwrap();
    assert_refused!(store.create_key(key("1", "pending"), by_admin()).await, Conflict(PendingApproval));
    assert_refused!(store.create_key(key("2", "rejected"), by_admin()).await, Conflict(Rejected));
    assert_refused!(store.create_key(key("3", "revoked"), by_admin()).await, Conflict(Revoked));
    assert_refused!(store.create_key(key("4", "keyed"), by_admin()).await, Conflict(Revoked));
}

/// It is still listed, with the time of its end.
pub async fn a_revoked_key_opens_nothing(store: Fresh) {
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    assert_eq!(store.revoke_key("k", by_admin_at(NOW + 1)).await.unwrap(), Version(2));
    assert_refused!(store.key_of_secret(&hash("k")).await, NotFound);
    assert_eq!(store.key("k").await.unwrap().revoked_at, Some(NOW + 1));
    assert_eq!(store.keys(None, Page::default()).await.unwrap().rows[0].revoked_at, Some(NOW + 1));
    assert_refused!(store.revoke_key("k", by_admin()).await, NotFound);
}

/// Not before the last one, and then under the key's version.
pub async fn the_last_key_takes_its_peer_along(store: Fresh) {
    store.create_key(key("k1", "x"), by_admin()).await.unwrap();
    store.create_key(key("k2", "x"), by_admin()).await.unwrap();
    let namesake = NewKey { mesh: mesh("elsewhere"), ..key("k3", "x") };
    store.create_key(namesake, by_admin()).await.unwrap();

    store.revoke_key("k1", by_admin()).await.unwrap();
    assert_eq!(store.peer(&home(), &peer("x")).await.unwrap().state, Approved);
    let version = store.revoke_key("k2", by_admin_at(NOW + 1)).await.unwrap();
    let record = store.peer(&home(), &peer("x")).await.unwrap();
    assert_eq!((record.state, record.version, record.updated_at), (Revoked, version, NOW + 1));
    assert_eq!(store.version().await.unwrap(), version);
    assert_eq!(store.peer(&mesh("elsewhere"), &peer("x")).await.unwrap().state, Approved);
}

/// Its right comes from its invite.
pub async fn a_paired_peer_outlives_its_last_key(store: Fresh) {
    let pairing = approved(&*store, "x").await;
    store.create_key(key("k", "x"), by_admin()).await.unwrap();
    store.revoke_key("k", by_admin()).await.unwrap();
    let record = store.peer(&home(), &peer("x")).await.unwrap();
    assert_eq!((record.state, record.version), (Approved, pairing.version));
}
