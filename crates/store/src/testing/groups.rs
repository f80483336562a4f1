//! Rules of rights that are taken away together.

use heliograph_core::authority::Standing;
use heliograph_core::pairing::PairingState::{self, Approved, PendingApproval, Rejected, Revoked};

use super::*;
use crate::{GROUP_STEP, Group, GroupStep};

/// Two devices that came by the invite `party`, the first of them approved.
async fn party(store: &dyn Store) -> (Pairing, Pairing) {
    store.create_invite(NewInvite { uses: 5, ..invite("party") }, by_admin()).await.unwrap();
    let guest = store.redeem(redemption("party", "guest"), NOW).await.unwrap();
    let late = store.redeem(redemption("party", "late"), NOW).await.unwrap();
    (store.transition(&guest.id, Transition::Approve, by_admin()).await.unwrap(), late)
}

fn enrolled(invite: &str) -> Group<'_> {
    Group::Enrolled { invite, mesh: None }
}

async fn state(store: &dyn Store, name: &str) -> PairingState {
    store.peer(&home(), &peer(name)).await.unwrap().state
}

/// Those who came by it, and nobody else; each as if it were alone, under the next version.
pub async fn an_invite_is_revoked_with_all_who_came_by_it(store: Fresh) {
    let other = approved(&*store, "other").await;
    let (guest, late) = party(&*store).await;
    store.create_key(key("k", "guest"), by_admin()).await.unwrap();
    let before = store.version().await.unwrap();

    let step = store.revoke_group(enrolled("party"), by_admin_at(NOW + 5)).await.unwrap();
    let expected = GroupStep {
        mesh: home(),
        version: Version(before.0 + 3),
        invites: vec!["party".to_owned()],
        revoked: vec![peer("guest")],
        rejected: vec![peer("late")],
        keys: 1,
        more: false,
    };
    assert_eq!(step, expected);
    let log = verified_log(&*store).await;
    let rows: Vec<_> = log[usize::try_from(before.0).unwrap()..]
        .iter()
        .map(|row| (row.action.as_str(), row.subject.as_str(), row.detail.as_str(), row.standing.clone()))
        .collect();
    let lost = |name: &str, standing| Some((peer(name), standing));
    let expected = [
        ("invite.revoke", "party", "{}", None),
        ("revoke", "guest", r#"{"keys":"1","pairing":"pair-guest"}"#, lost("guest", Standing::Revoked)),
        ("reject", "late", r#"{"pairing":"pair-late"}"#, lost("late", Standing::Rejected)),
    ];
    assert_eq!(rows, expected);
    for (pairing, state, version) in [(guest, Revoked, before.0 + 2), (late, Rejected, before.0 + 3)] {
        let now = store.pairing(&pairing.id).await.unwrap();
        assert_eq!((now.state, now.version, now.updated_at), (state, Version(version), NOW + 5));
        let record = store.peer(&home(), &pairing.peer).await.unwrap();
        assert_eq!((record.state, record.version, record.updated_at), (state, Version(version), NOW + 5));
    }
    assert_refused!(store.key_of_secret(&hash("k")).await, NotFound);
    assert_refused!(store.redeem(redemption("party", "too-late"), NOW).await, NotFound);
    assert_eq!(store.pairing(&other.id).await.unwrap(), other);
}

/// Who repeats it because no answer came does no harm, and gets a version to wait for.
pub async fn a_group_without_rights_is_left_as_it_is(store: Fresh) {
    party(&*store).await;
    store.revoke_group(enrolled("party"), by_admin()).await.unwrap();
    let (before, version) = (everything(&*store, 50).await, store.version().await.unwrap());
    for group in [enrolled("party"), Group::Mesh { mesh: &home(), spared: None }] {
        let step = store.revoke_group(group, by_admin()).await.unwrap();
        let nothing = GroupStep {
            mesh: home(),
            version,
            invites: vec![],
            revoked: vec![],
            rejected: vec![],
            keys: 0,
            more: false,
        };
        assert_eq!(step, nothing);
    }
    assert_eq!(everything(&*store, 50).await, before);
}

/// Invites are cleared away, and those who came by them stay.
pub async fn those_who_came_by_an_invite_are_found_without_it(store: Fresh) {
    party(&*store).await;
    store.create_invite(invite("next"), by_admin_at(NOW + TTL)).await.unwrap();
    assert!(store.invites(None, Page::default()).await.unwrap().rows.iter().all(|row| row.id != "party"));
    let step = store.revoke_group(enrolled("party"), by_admin()).await.unwrap();
    assert_eq!((step.revoked, step.rejected), (vec![peer("guest")], vec![peer("late")]));
    assert_eq!(step.invites, [""; 0]);
}

/// An invite that was taken back alone before, too.
pub async fn those_who_came_by_a_revoked_invite_follow_it(store: Fresh) {
    party(&*store).await;
    store.revoke_invite("party", by_admin()).await.unwrap();
    let step = store.revoke_group(enrolled("party"), by_admin()).await.unwrap();
    assert_eq!((step.invites.len(), step.revoked.len(), step.rejected.len()), (0, 1, 1));
}

/// An unknown invite and one of another mesh look the same.
pub async fn an_invite_of_another_mesh_is_not_found(store: Fresh) {
    party(&*store).await;
    let (elsewhere, home) = (mesh("elsewhere"), home());
    let of = |invite, mesh| Group::Enrolled { invite, mesh: Some(mesh) };
    assert_refused!(store.revoke_group(enrolled("unknown"), by_admin()).await, NotFound);
    assert_refused!(store.revoke_group(of("party", &elsewhere), by_admin()).await, NotFound);
    assert_eq!(state(&*store, "guest").await, Approved);
    store.revoke_group(of("party", &home), by_admin()).await.unwrap();
    assert_eq!(state(&*store, "guest").await, Revoked);
}

/// All of it, except whom the caller spares; and nothing of other meshes.
pub async fn a_mesh_is_revoked_without_the_others(store: Fresh) {
    party(&*store).await;
    waiting(&*store, "waits").await;
    store.create_key(key("k1", "keyed"), by_admin()).await.unwrap();
    store.create_key(key("k2", "keyed"), by_admin()).await.unwrap();
    store.create_key(key("k3", "admin"), by_admin()).await.unwrap();
    let far = NewKey { mesh: mesh("elsewhere"), ..key("far", "far") };
    store.create_key(far, by_admin()).await.unwrap();
    let open = NewInvite { mesh: mesh("elsewhere"), ..invite("far") };
    store.create_invite(open, by_admin()).await.unwrap();

    let spared = peer("admin");
    let group = Group::Mesh { mesh: &home(), spared: Some(&spared) };
    let before = store.version().await.unwrap();
    let step = store.revoke_group(group, by_admin()).await.unwrap();
    // The invite of the device that waits has no use left: there is nothing to take back.
    assert_eq!(step.invites, ["party"]);
    assert_eq!(step.revoked, [peer("guest"), peer("keyed")]);
    assert_eq!(step.rejected, [peer("late"), peer("waits")]);
    assert_eq!((step.keys, step.more, step.version), (2, false, Version(before.0 + 5)));
    verified_log(&*store).await;
    for opens in ["k3", "far"] {
        store.key_of_secret(&hash(opens)).await.unwrap();
    }
    for dead in ["k1", "k2"] {
        assert_refused!(store.key_of_secret(&hash(dead)).await, NotFound);
    }
    assert_refused!(store.redeem(redemption("party", "too-late"), NOW).await, NotFound);
    store.redeem(redemption("far", "new"), NOW).await.unwrap();
    assert_eq!((state(&*store, "admin").await, state(&*store, "waits").await), (Approved, Rejected));
}

/// Each step is bounded, and the last one says that it is the last.
pub async fn a_large_group_goes_in_steps(store: Fresh) {
    let count = GROUP_STEP + 3;
    for n in 0..count {
        store.create_key(key(&format!("k{n}"), &format!("x{n:04}")), by_admin()).await.unwrap();
    }
    store.create_invite(invite("open"), by_admin()).await.unwrap();
    let group = Group::Mesh { mesh: &home(), spared: None };
    let first = store.revoke_group(group, by_admin()).await.unwrap();
    assert_eq!((first.invites.len(), first.revoked.len(), first.more), (1, GROUP_STEP as usize - 1, true));
    let second = store.revoke_group(group, by_admin()).await.unwrap();
    assert_eq!((second.invites.len(), second.revoked.len(), second.more), (0, 4, false));
    assert_eq!(second.revoked.last(), Some(&peer(&format!("x{:04}", count - 1))));
    assert_eq!(second.version, Version(2 * u64::from(count + 1)));
    verified_log(&*store).await;
}

/// A gateway hears of each of them.
pub async fn a_renewal_answers_all_who_lost_their_right_together(store: Fresh) {
    party(&*store).await;
    let applied = store.version().await.unwrap();
    store.revoke_group(enrolled("party"), by_admin()).await.unwrap();
    let renewal = store.renew(&gateway("g"), applied, applied).await.unwrap();
    let changes: Vec<_> = renewal.changes.into_iter().map(|change| (change.peer, change.standing)).collect();
    assert_eq!(changes, [(peer("guest"), Standing::Revoked), (peer("late"), Standing::Rejected)]);
}

/// Whoever has a right afterwards got it afterwards: nobody slips through between the look and the change.
pub async fn who_comes_beside_the_revocation_of_a_mesh_is_revoked_or_comes_after_it(store: Fresh) {
    for round in 0..6 {
        store
            .create_invite(NewInvite { uses: 50, ..invite(&format!("i{round}")) }, by_admin())
            .await
            .unwrap();
        let steps: Vec<Option<Version>> = race(6, |n| {
            let store = store.shared();
            async move {
                if n == 3 {
                    let group = Group::Mesh { mesh: &home(), spared: None };
                    return Some(store.revoke_group(group, by_admin()).await.unwrap().version);
                }
                let name = format!("r{round}-{n}");
                // Refused after the revocation: the invite is gone.
                let _refused = store.redeem(redemption(&format!("i{round}"), &name), NOW).await;
                store
                    .create_key(key(&format!("k-{name}"), &format!("key-{name}")), by_admin())
                    .await
                    .unwrap();
                None
            }
        })
        .await;
        let at = steps.into_iter().flatten().next().unwrap();
        for row in all_pages(50, |page| store.peers(None, page)).await {
            let has = matches!(row.state, PendingApproval | Approved);
            assert!(!has || row.version > at, "{} has its right since {}", row.peer, row.version);
        }
    }
    verified_log(&*store).await;
}
