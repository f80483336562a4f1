//! Rules of invites.

use heliograph_core::id::Version;

use super::*;
use crate::{EXPIRED_INVITES_CLEARED, Invite};

async fn shown(store: &dyn Store) -> Vec<Invite> {
    all_pages(100, |page| store.invites(None, page)).await
}

/// What was handed in comes back, from the call and from the list.
pub async fn an_invite_is_listed_as_it_was_made(store: Fresh) {
    let made = store.create_invite(NewInvite { uses: 3, ..invite("a") }, by_admin()).await.unwrap();
    let expected = Invite {
        id: "a".to_owned(),
        mesh: home(),
        uses_left: 3,
        expires_at: NOW + TTL,
        created_at: NOW,
        created_by: "ak_admin".to_owned(),
        revoked: false,
    };
    assert_eq!(made, expected);
    assert_eq!(shown(&*store).await, [expected]);
}

/// The second device finds the code used.
pub async fn a_single_use_code_is_good_for_one_device(store: Fresh) {
    store.create_invite(invite("a"), by_admin()).await.unwrap();
    store.redeem(redemption("a", "first"), NOW).await.unwrap();
    assert_refused!(store.redeem(redemption("a", "second"), NOW).await, NotFound);
    assert_eq!(shown(&*store).await[0].uses_left, 0);
}

/// Each redemption takes one use.
pub async fn a_code_of_many_uses_is_good_for_so_many(store: Fresh) {
    store.create_invite(NewInvite { uses: 3, ..invite("a") }, by_admin()).await.unwrap();
    for (name, left) in [("x", 2), ("y", 1), ("z", 0)] {
        store.redeem(redemption("a", name), NOW).await.unwrap();
        assert_eq!(shown(&*store).await[0].uses_left, left);
    }
    assert_refused!(store.redeem(redemption("a", "late"), NOW).await, NotFound);
}

/// Nobody learns whether a code ever existed.
pub async fn wrong_used_revoked_and_expired_codes_look_the_same(store: Fresh) {
    store.create_invite(invite("used"), by_admin()).await.unwrap();
    store.redeem(redemption("used", "first"), NOW).await.unwrap();
    store.create_invite(invite("revoked"), by_admin()).await.unwrap();
    store.revoke_invite("revoked", by_admin()).await.unwrap();
    store.create_invite(invite("expired"), by_admin()).await.unwrap();
    for (code, now) in [("wrong", NOW), ("used", NOW), ("revoked", NOW), ("expired", NOW + TTL + 1)] {
        assert_refused!(store.redeem(redemption(code, "x"), now).await, NotFound);
    }
}

/// One millisecond before its end it is good, at its end it is not.
pub async fn a_code_ends_at_the_moment_it_says(store: Fresh) {
    store.create_invite(NewInvite { uses: 2, ..invite("a") }, by_admin()).await.unwrap();
    assert_refused!(store.redeem(redemption("a", "late"), NOW + TTL).await, NotFound);
    store.redeem(redemption("a", "in-time"), NOW + TTL - 1).await.unwrap();
}

/// Used, revoked and expired invites make room, and other meshes have bounds of their own.
pub async fn the_bound_of_open_invites_counts_open_ones_of_the_mesh(store: Fresh) {
    let two_at_most = |id: &str| NewInvite { max_open: 2, ..invite(id) };
    store.create_invite(two_at_most("a"), by_admin()).await.unwrap();
    store.create_invite(two_at_most("b"), by_admin()).await.unwrap();
    assert_refused!(store.create_invite(two_at_most("c"), by_admin()).await, Full);
    let elsewhere = NewInvite { mesh: mesh("elsewhere"), ..two_at_most("d") };
    store.create_invite(elsewhere, by_admin()).await.unwrap();

    store.redeem(redemption("a", "x"), NOW).await.unwrap();
    store.create_invite(two_at_most("e"), by_admin()).await.unwrap();
    assert_refused!(store.create_invite(two_at_most("f"), by_admin()).await, Full);
    store.revoke_invite("b", by_admin()).await.unwrap();
    store.create_invite(two_at_most("g"), by_admin()).await.unwrap();
    assert_refused!(store.create_invite(two_at_most("h"), by_admin()).await, Full);
    let later = NewInvite { expires_at: NOW + 2 * TTL, ..two_at_most("i") };
    store.create_invite(later, by_admin_at(NOW + TTL)).await.unwrap();
}

/// A six-digit code has to be free for the next draw.
pub async fn a_code_is_free_again_when_its_invite_is_closed(store: Fresh) {
    let same_code = |id: &str| NewInvite { code: hash("123456"), ..invite(id) };
    store.create_invite(same_code("a"), by_admin()).await.unwrap();
    assert_refused!(store.create_invite(same_code("b"), by_admin()).await, Exists);
    let elsewhere = NewInvite { mesh: mesh("elsewhere"), ..same_code("b") };
    assert_refused!(store.create_invite(elsewhere, by_admin()).await, Exists);

    store.redeem(redemption("123456", "x"), NOW).await.unwrap();
    store.create_invite(same_code("c"), by_admin()).await.unwrap();
    store.revoke_invite("c", by_admin()).await.unwrap();
    store.create_invite(same_code("d"), by_admin()).await.unwrap();
    let later = NewInvite { expires_at: NOW + 2 * TTL, ..same_code("e") };
    store.create_invite(later, by_admin_at(NOW + TTL)).await.unwrap();

    let paired = store.redeem(redemption("123456", "y"), NOW + TTL).await.unwrap();
    assert_eq!(paired.invite, "e");
}

/// Ids are never overwritten.
pub async fn a_taken_invite_id_is_refused(store: Fresh) {
    store.create_invite(invite("a"), by_admin()).await.unwrap();
    assert_refused!(
        store.create_invite(NewInvite { code: hash("other"), ..invite("a") }, by_admin()).await,
        Exists
    );
    assert_refused!(store.redeem(redemption("other", "x"), NOW).await, NotFound);
}

/// A revoked invite says so; a second revoke finds nothing; the device that came by it is untouched.
pub async fn an_invite_is_revoked_once_and_those_who_came_by_it_stay(store: Fresh) {
    store.create_invite(NewInvite { uses: 2, ..invite("a") }, by_admin()).await.unwrap();
    let paired = store.redeem(redemption("a", "x"), NOW).await.unwrap();
    assert_eq!(store.revoke_invite("a", by_admin()).await.unwrap(), Version(3));
    assert_refused!(store.revoke_invite("a", by_admin()).await, NotFound);
    assert_refused!(store.revoke_invite("unknown", by_admin()).await, NotFound);
    assert!(shown(&*store).await[0].revoked);
    assert_eq!(store.pairing(&paired.id).await.unwrap(), paired);
}

/// New invites clear the oldest expired ones away, not more than the bound at once, and no others.
pub async fn expired_invites_are_cleared_in_bounded_batches(store: Fresh) {
    let more_than_a_batch = i64::from(EXPIRED_INVITES_CLEARED) + 2;
    for n in 0..more_than_a_batch {
        let expires_at = NOW + n;
        store
            .create_invite(NewInvite { expires_at, ..invite(&format!("old-{n}")) }, by_admin_at(NOW - 1))
            .await
            .unwrap();
    }
    let later = by_admin_at(NOW + more_than_a_batch);
    store.create_invite(invite("new"), later.clone()).await.unwrap();
    let left: Vec<_> = shown(&*store).await.into_iter().map(|invite| invite.id).collect();
    let last = |n: i64| format!("old-{}", more_than_a_batch - n);
    assert_eq!(left, ["new".to_owned(), last(1), last(2)]);
    store.create_invite(invite("newer"), later).await.unwrap();
    let left: Vec<_> = shown(&*store).await.into_iter().map(|invite| invite.id).collect();
    assert_eq!(left, ["newer", "new"]);
}
