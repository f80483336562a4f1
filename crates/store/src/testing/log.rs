//! Rules of the log.

use heliograph_core::authority::Standing::{Approved, Pending, Rejected, Revoked};

use super::*;

/// One of each change, word for word.
pub async fn each_change_says_what_was_done_to_whom_by_whom(store: Fresh) {
    let by = by_admin;
    store.create_invite(NewInvite { uses: 2, ..invite("i") }, by()).await.unwrap();
    store.redeem(redemption("i", "x"), NOW).await.unwrap();
    store.redeem(redemption("i", "y"), NOW).await.unwrap();
    store.transition("pair-x", Transition::Approve, by()).await.unwrap();
    store.transition("pair-y", Transition::Reject, by()).await.unwrap();
    store.issue_device_token("pair-x", hash("t"), NOW).await.unwrap();
    store.revoke_invite("i", by()).await.unwrap();
    store.create_key(key("k1", "z"), by()).await.unwrap();
    store.create_key(key("k2", "z"), by()).await.unwrap();
    store.create_key(key("k3", "x"), by()).await.unwrap();
    store.revoke_key("k1", by()).await.unwrap();
    store.revoke_key("k2", by()).await.unwrap();
    store.transition("pair-x", Transition::Revoke, by()).await.unwrap();
    store.create_key(key("k4", "w"), by()).await.unwrap();
    store.revoke_peer(&home(), &peer("w"), by()).await.unwrap();

    let expires = NOW + TTL;
    let expected = [
        ("ak_admin", "invite.create", "i", format!(r#"{{"expires_at":"{expires}","uses":"2"}}"#), None),
        (
            "system",
            "pair",
            "x",
            r#"{"invite":"i","name":"the x","pairing":"pair-x"}"#.into(),
            Some(("x", Pending)),
        ),
        (
            "system",
            "pair",
            "y",
            r#"{"invite":"i","name":"the y","pairing":"pair-y"}"#.into(),
            Some(("y", Pending)),
        ),
        ("ak_admin", "approve", "x", r#"{"pairing":"pair-x"}"#.into(), Some(("x", Approved))),
        ("ak_admin", "reject", "y", r#"{"pairing":"pair-y"}"#.into(), Some(("y", Rejected))),
        ("system", "token.issue", "x", r#"{"pairing":"pair-x"}"#.into(), None),
        ("ak_admin", "invite.revoke", "i", "{}".into(), None),
        (
            "ak_admin",
            "key.create",
            "k1",
            r#"{"name":"key k1","peer":"z","role":"agent","standing":"approved"}"#.into(),
            Some(("z", Approved)),
        ),
        ("ak_admin", "key.create", "k2", r#"{"name":"key k2","peer":"z","role":"agent"}"#.into(), None),
        ("ak_admin", "key.create", "k3", r#"{"name":"key k3","peer":"x","role":"agent"}"#.into(), None),
        ("ak_admin", "key.revoke", "k1", r#"{"peer":"z"}"#.into(), None),
        ("ak_admin", "key.revoke", "k2", r#"{"peer":"z","standing":"revoked"}"#.into(), Some(("z", Revoked))),
        ("ak_admin", "revoke", "x", r#"{"keys":"1","pairing":"pair-x"}"#.into(), Some(("x", Revoked))),
        (
            "ak_admin",
            "key.create",
            "k4",
            r#"{"name":"key k4","peer":"w","role":"agent","standing":"approved"}"#.into(),
            Some(("w", Approved)),
        ),
        ("ak_admin", "revoke", "w", r#"{"keys":"1"}"#.into(), Some(("w", Revoked))),
    ];
    let log = verified_log(&*store).await;
    assert_eq!(log.len(), expected.len());
    for (entry, (actor, action, subject, detail, standing)) in log.iter().zip(expected) {
        let standing = standing.map(|(name, standing)| (peer(name), standing));
        assert_eq!(
            (&*entry.actor, &*entry.action, &*entry.subject, &entry.detail, &entry.standing),
            (actor, action, subject, &detail, &standing)
        );
        assert_eq!((entry.at, &*entry.mesh), (NOW, "home"));
    }
}

/// Eight writers, each with every kind of change and refusal, against one counter.
pub async fn versions_have_no_gaps_and_the_chain_holds_under_concurrent_writers(store: Fresh) {
    let changes: usize = race(8, |n| mixed_work(store.shared(), n)).await.into_iter().sum();
    let log = verified_log(&*store).await;
    assert_eq!(log.len(), changes, "each change is one row, each refusal none");
}

/// Answers how many changes succeeded.
async fn mixed_work(store: Arc<dyn Store>, worker: usize) -> usize {
    let mut changes = 0;
    for round in 0..3 {
        let name = format!("w{worker}-{round}");
        let pairing = waiting(&*store, &name).await;
        let transition = if round == 1 { Transition::Reject } else { Transition::Approve };
        store.transition(&pairing.id, transition, by_admin()).await.unwrap();
        store.create_key(key(&format!("k-{name}"), &format!("of-{name}")), by_admin()).await.unwrap();
        changes += 4;
        changes += usize::from(store.issue_device_token(&pairing.id, hash(&name), NOW).await.is_ok());
        changes += usize::from(store.transition(&pairing.id, Transition::Approve, by_admin()).await.is_ok());
        changes += usize::from(store.revoke_peer(&home(), &pairing.peer, by_admin()).await.is_ok());
        store.create_key(key("shared", "shared"), by_admin()).await.unwrap();
        assert_refused!(store.redeem(redemption("none", "nobody"), NOW).await, NotFound);
        changes += usize::from(store.revoke_key(&format!("k-{name}"), by_admin()).await.is_ok());
    }
    // All workers together make the shared key once; the one who is not first gets it as it is.
    changes + usize::from(worker == 0)
}

/// Two ways to read, one log.
pub async fn the_log_reads_the_same_forward_and_backward(store: Fresh) {
    approved(&*store, "x").await;
    approved(&*store, "y").await;
    let forward = whole_log(&*store).await;
    let mut backward = all_pages(4, |page| store.log(None, page)).await;
    backward.reverse();
    assert_eq!(forward, backward);
    assert_eq!(store.log_after(Version(2), 3).await.unwrap(), forward[2..5]);
    assert_eq!(store.log_after(Version(6), 3).await.unwrap(), []);
    assert_eq!(store.log_after(Version(u64::MAX), 3).await.unwrap(), []);
}
