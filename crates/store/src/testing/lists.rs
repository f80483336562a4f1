//! Rules of lists and their pages.

use std::collections::BTreeSet;

use heliograph_core::pairing::PairingState::{self, Approved, PendingApproval};

use super::*;

/// Ten of each kind in two meshes, some with times that run backwards: order comes from versions, not clocks.
async fn populate(store: &dyn Store) {
    for n in 0..10_i64 {
        let (name, now) = (format!("d{n}"), NOW - n * 7);
        let mesh = if n % 3 == 0 { mesh("elsewhere") } else { home() };
        store
            .create_invite(NewInvite { mesh: mesh.clone(), ..invite(&name) }, by_admin_at(now))
            .await
            .unwrap();
        let pairing = store.redeem(redemption(&name, &name), now).await.unwrap();
        if n % 2 == 0 {
            store.transition(&pairing.id, Transition::Approve, by_admin_at(now)).await.unwrap();
        }
        let new = NewKey { mesh, ..key(&format!("k{n}"), &format!("keyed-{n}")) };
        store.create_key(new, by_admin_at(now)).await.unwrap();
    }
}

fn newest_first(prefix: &str) -> Vec<String> {
    (0..10).rev().map(|n| format!("{prefix}{n}")).collect()
}

/// Whatever the size of the pages, the whole list in its order.
pub async fn lists_page_without_gaps_or_repeats(store: Fresh) {
    populate(&*store).await;
    for limit in [1, 2, 3, 7, 10, 500] {
        let invites = all_pages(limit, |page| store.invites(None, page)).await;
        assert_eq!(invites.into_iter().map(|row| row.id).collect::<Vec<_>>(), newest_first("d"));
        let pairings = all_pages(limit, |page| store.pairings(None, None, page)).await;
        assert_eq!(pairings.into_iter().map(|row| row.id).collect::<Vec<_>>(), newest_first("pair-d"));
        let keys = all_pages(limit, |page| store.keys(None, page)).await;
        assert_eq!(keys.into_iter().map(|row| row.id).collect::<Vec<_>>(), newest_first("k"));
        let peers = all_pages(limit, |page| store.peers(None, page)).await;
        let names: Vec<_> =
            peers.into_iter().map(|row| (row.mesh.to_string(), row.peer.to_string())).collect();
        assert!(names.is_sorted());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 20);
        let log = all_pages(limit, |page| store.log(None, page)).await;
        let versions: Vec<_> = log.into_iter().map(|row| row.version.0).collect();
        assert_eq!(versions, (1..=store.version().await.unwrap().0).rev().collect::<Vec<_>>());
    }
}

/// What is new stands before the first page; what moved keeps its place.
pub async fn rows_that_come_while_paging_neither_repeat_nor_hide_others(store: Fresh) {
    populate(&*store).await;
    let first = store.pairings(None, None, Page { cursor: None, limit: 4 }).await.unwrap();
    approved(&*store, "newcomer").await;
    store.transition("pair-d5", Transition::Approve, by_admin()).await.unwrap();
    let rest = store.pairings(None, None, Page { cursor: first.next, limit: 100 }).await.unwrap();
    let ids: Vec<_> = first.rows.into_iter().chain(rest.rows).map(|row| row.id).collect();
    assert_eq!(ids, newest_first("pair-d"));
    assert_eq!(rest.next, None);
}

/// A page of one mesh shows no other's rows, also across pages.
pub async fn lists_keep_to_their_mesh_and_state(store: Fresh) {
    populate(&*store).await;
    for (mesh, elsewhere) in [(home(), false), (mesh("elsewhere"), true)] {
        let of_mesh = |prefix: &str| -> Vec<_> {
            (0..10).rev().filter(|n| (n % 3 == 0) == elsewhere).map(|n| format!("{prefix}{n}")).collect()
        };
        let invites = all_pages(2, |page| store.invites(Some(&mesh), page)).await;
        assert_eq!(invites.into_iter().map(|row| row.id).collect::<Vec<_>>(), of_mesh("d"));
        let keys = all_pages(2, |page| store.keys(Some(&mesh), page)).await;
        assert_eq!(keys.into_iter().map(|row| row.id).collect::<Vec<_>>(), of_mesh("k"));
        let peers = all_pages(2, |page| store.peers(Some(&mesh), page)).await;
        assert!(peers.iter().all(|row| row.mesh == mesh));
        assert_eq!(peers.len(), 2 * of_mesh("").len());
        let log = all_pages(2, |page| store.log(Some(&mesh), page)).await;
        assert!(!log.is_empty() && log.iter().all(|row| row.mesh == mesh.as_str()));
        assert_pairings(&*store, Some(&mesh), of_mesh("pair-d")).await;
    }
    assert_pairings(&*store, None, newest_first("pair-d")).await;
}

async fn assert_pairings(store: &dyn Store, mesh: Option<&MeshName>, expected: Vec<String>) {
    let ids = async |state: Option<PairingState>| -> Vec<String> {
        let rows = all_pages(2, |page| store.pairings(mesh, state, page)).await;
        rows.into_iter().map(|row| row.id).collect()
    };
    let is_even = |id: &&String| id.as_bytes().last().is_some_and(|digit| digit % 2 == 0);
    let (even, odd): (Vec<_>, Vec<_>) = expected.iter().partition(is_even);
    assert_eq!(ids(Some(Approved)).await.iter().collect::<Vec<_>>(), even);
    assert_eq!(ids(Some(PendingApproval)).await.iter().collect::<Vec<_>>(), odd);
    assert_eq!(ids(None).await, expected);
}

/// Cursors come back from outside.
pub async fn a_cursor_of_no_page_is_not_found(store: Fresh) {
    populate(&*store).await;
    let made_up = || Page { cursor: Some("made up' OR 1=1".to_owned()), limit: 5 };
    assert_refused!(store.invites(None, made_up()).await, NotFound);
    assert_refused!(store.pairings(None, None, made_up()).await, NotFound);
    assert_refused!(store.keys(None, made_up()).await, NotFound);
    assert_refused!(store.peers(None, made_up()).await, NotFound);
    assert_refused!(store.log(None, made_up()).await, NotFound);
}
