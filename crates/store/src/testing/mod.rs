//! The promises of the traits, as tests that every implementation has to pass.
//!
//! In the tests of a backend:
//!
//! ```ignore
//! async fn fresh() -> Fresh {
//!     Fresh::new(MyStore::open(…).await)
//! }
//!
//! mod conformance {
//!     heliograph_store::conformance!(super::fresh);
//! }
//! ```
//!
//! Each rule becomes a test of its own, named as the sentence that it checks, on an empty store from the factory.
//! To add a rule: a function in one of the files here, its name in [`conformance!`](crate::conformance).

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]
#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the rules share the vocabulary in this file")
)]

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use heliograph_core::chain::Verifier;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::pairing::Transition;
use tokio::sync::Barrier;

use crate::{
    By, LogEntry, NewInvite, NewKey, Page, Pairing, Redemption, Rows, SecretHash, Store, UnixMillis,
};

pub mod groups;
pub mod invites;
pub mod keys;
pub mod leases;
pub mod lists;
pub mod log;
pub mod pairings;
pub mod races;
pub mod reference;
pub mod settings;

/// Instantiates every rule as a test on the stores of a factory: an async function that answers a [`Fresh`].
#[macro_export]
macro_rules! conformance {
    ($factory:path) => {
        $crate::conformance!(@rules $factory, invites:
            an_invite_is_listed_as_it_was_made
            a_single_use_code_is_good_for_one_device
            a_code_of_many_uses_is_good_for_so_many
            wrong_used_revoked_and_expired_codes_look_the_same
            a_code_ends_at_the_moment_it_says
            the_bound_of_open_invites_counts_open_ones_of_the_mesh
            a_code_is_free_again_when_its_invite_is_closed
            a_taken_invite_id_is_refused
            an_invite_is_revoked_once_and_those_who_came_by_it_stay
            expired_invites_are_cleared_in_bounded_batches
        );
        $crate::conformance!(@rules $factory, pairings:
            a_redeemed_code_leaves_a_waiting_pairing_and_peer
            the_bound_of_waiting_devices_costs_no_use
            a_taken_pairing_or_peer_id_is_refused_and_costs_no_use
            a_peer_id_is_taken_in_its_own_mesh_only
            a_claim_opens_its_own_pairing_only
            a_transition_moves_pairing_and_peer_under_one_version
            a_transition_from_any_other_state_is_refused_with_that_state
            what_is_unknown_is_not_found
            a_device_token_is_issued_once
            a_device_token_needs_an_approved_pairing
            a_device_token_of_another_pairing_is_refused
            a_device_token_tells_its_peer_whatever_its_state
            revoking_a_peer_takes_its_pairing_and_keys_along
            revoking_a_pairing_takes_its_peer_and_keys_along
            revoking_a_peer_of_keys_takes_them_along
            a_peer_that_is_not_approved_is_not_revoked
            a_refused_change_changes_nothing
        );
        $crate::conformance!(@rules $factory, keys:
            a_key_comes_with_an_approved_peer
            a_key_for_an_existing_peer_changes_no_standing
            an_import_is_idempotent
            a_revoked_key_stays_revoked_when_it_is_imported_again
            a_secret_that_means_something_else_is_refused
            a_peer_that_is_not_approved_gets_no_key
            a_revoked_key_opens_nothing
            the_last_key_takes_its_peer_along
            a_paired_peer_outlives_its_last_key
        );
        $crate::conformance!(@rules $factory, groups:
            an_invite_is_revoked_with_all_who_came_by_it
            a_group_without_rights_is_left_as_it_is
            those_who_came_by_an_invite_are_found_without_it
            those_who_came_by_a_revoked_invite_follow_it
            an_invite_of_another_mesh_is_not_found
            a_mesh_is_revoked_without_the_others
            a_large_group_goes_in_steps
            a_renewal_answers_all_who_lost_their_right_together
            who_comes_beside_the_revocation_of_a_mesh_is_revoked_or_comes_after_it
        );
        $crate::conformance!(@rules $factory, lists:
            lists_page_without_gaps_or_repeats
            rows_that_come_while_paging_neither_repeat_nor_hide_others
            lists_keep_to_their_mesh_and_state
            a_cursor_of_no_page_is_not_found
        );
        $crate::conformance!(@rules $factory, log:
            each_change_says_what_was_done_to_whom_by_whom
            versions_have_no_gaps_and_the_chain_holds_under_concurrent_writers
            the_log_reads_the_same_forward_and_backward
        );
        $crate::conformance!(@rules $factory, races:
            of_two_approvals_one_succeeds
            of_an_approval_and_a_rejection_one_succeeds
            of_an_approval_and_a_revocation_no_half_remains
            of_two_revocations_one_succeeds
            of_twenty_who_redeem_one_code_one_succeeds
            a_code_of_five_uses_serves_five_of_twenty
            the_bound_of_waiting_devices_holds_under_a_race
            the_bound_of_open_invites_holds_under_a_race
            a_device_token_is_issued_once_under_a_race
            one_key_comes_of_twenty_imports_at_once
            a_key_made_beside_a_revocation_never_outlives_it
            of_two_last_keys_revoked_at_once_the_second_takes_the_peer_along
        );
        $crate::conformance!(@rules $factory, leases:
            a_renewal_answers_the_changes_of_standing_after_the_named_version
            a_storage_that_went_back_shows
            each_renewal_moves_the_row
            an_acknowledgement_never_goes_back
            a_lease_is_removed_only_while_its_beat_stands
            a_lease_that_comes_back_uses_no_beat_twice
            a_renewal_and_a_change_never_miss_each_other
            renewals_beside_changes_see_each_change_once_and_in_order
            a_change_wakes_those_who_wait_for_changes
            an_acknowledgement_that_goes_further_wakes_those_who_wait_for_leases
            a_removed_lease_wakes_those_who_wait_for_leases
            a_hint_wakes_everybody
            a_plain_renewal_wakes_nobody
            renewing_on_every_hint_comes_to_rest
        );
        $crate::conformance!(@rules $factory, settings:
            the_first_value_of_a_setting_stays
            of_many_first_values_one_becomes_the_setting
            a_store_answers_a_ping
        );

        #[test]
        fn any_sequence_of_calls_is_answered_as_the_reference_answers_it() {
            $crate::testing::reference::answers_as_the_reference($factory);
        }
    };
    (@rules $factory:path, $file:ident: $($rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            $crate::testing::$file::$rule($factory().await).await;
        }
    )*};
}

/// An empty store, and whatever has to live as long.
pub struct Fresh {
    store: Arc<dyn Store>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fresh {
    /// A store that needs nothing else.
    pub fn new(store: impl Store + 'static) -> Self {
        Self::keeping(store, ())
    }

    /// A store and what has to outlive it, for instance its directory.
    pub fn keeping(store: impl Store + 'static, keep: impl Any + Send + Sync) -> Self {
        Self { store: Arc::new(store), _keep: Box::new(keep) }
    }

    /// For tasks of their own.
    pub fn shared(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
}

impl Deref for Fresh {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// Checks the kind of a refusal.
macro_rules! assert_refused {
    ($result:expr, $kind:ident $(($state:pat) $(if $guard:expr)?)?) => {
        match $result {
            Err($crate::StoreError::$kind $(($state))?) $($(if $guard)?)? => {}
            other => panic!("expected a refusal with {}, got {other:?}", stringify!($kind $(($state))?)),
        }
    };
}
use assert_refused;

/// When everything happens, unless a test says otherwise.
const NOW: UnixMillis = 1_700_000_000_000;
/// How long invites live, unless a test says otherwise.
const TTL: UnixMillis = 600_000;
/// A bound that no test reaches by accident.
const PLENTY: u32 = 1_000;

fn by_admin() -> By<'static> {
    by_admin_at(NOW)
}

fn by_admin_at(now: UnixMillis) -> By<'static> {
    By { actor: "ak_admin", now }
}

fn mesh(name: &str) -> MeshName {
    MeshName::parse(name).unwrap()
}

fn home() -> MeshName {
    mesh("home")
}

fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap()
}

fn gateway(name: &str) -> GatewayId {
    GatewayId::parse(name).unwrap()
}

/// A different "hash" per text.
fn hash(of: &str) -> SecretHash {
    let mut hash = [b'.'; 32];
    hash[..of.len()].copy_from_slice(of.as_bytes());
    hash
}

/// A single-use invite of the home mesh; its code is the hash of its id.
fn invite(id: &str) -> NewInvite {
    NewInvite {
        id: id.to_owned(),
        mesh: home(),
        code: hash(id),
        uses: 1,
        expires_at: NOW + TTL,
        max_open: PLENTY,
    }
}

/// A device `name` with the pairing `pair-name` and the claim token `name`.
fn redemption(code: &str, name: &str) -> Redemption {
    Redemption {
        code: hash(code),
        id: format!("pair-{name}"),
        peer: peer(name),
        name: format!("the {name}"),
        claim: hash(name),
        public_key: Some(format!(r#"{{"kty":"OKP","x":"{name}"}}"#)),
        address: Some("192.0.2.7".to_owned()),
        max_pending: PLENTY,
    }
}

/// A key of the home mesh for a peer; its secret is the hash of its id.
fn key(id: &str, of: &str) -> NewKey {
    NewKey {
        id: id.to_owned(),
        secret: hash(id),
        mesh: home(),
        peer: peer(of),
        role: "agent".to_owned(),
        name: format!("key {id}"),
    }
}

/// A device that waits for approval, with an invite of its own.
async fn waiting(store: &dyn Store, name: &str) -> Pairing {
    let id = format!("for-{name}");
    store.create_invite(invite(&id), by_admin()).await.unwrap();
    store.redeem(redemption(&id, name), NOW).await.unwrap()
}

/// A device that is a peer.
async fn approved(store: &dyn Store, name: &str) -> Pairing {
    let id = waiting(store, name).await.id;
    store.transition(&id, Transition::Approve, by_admin()).await.unwrap()
}

/// The whole log.
async fn whole_log(store: &dyn Store) -> Vec<LogEntry> {
    let mut log: Vec<LogEntry> = vec![];
    loop {
        let after = log.last().map_or(Version(0), |entry| entry.version);
        let more = store.log_after(after, 50).await.unwrap();
        if more.is_empty() {
            return log;
        }
        log.extend(more);
    }
}

/// Checks numbers, links and the counter of the log, and answers it.
async fn verified_log(store: &dyn Store) -> Vec<LogEntry> {
    let log = whole_log(store).await;
    let mut verifier = Verifier::default();
    let mut previous = heliograph_core::chain::GENESIS;
    for entry in &log {
        verifier.check(&entry.link(), &entry.hash).unwrap();
        assert_eq!(entry.previous, previous);
        previous = entry.hash;
    }
    assert_eq!(store.version().await.unwrap(), Version(verifier.checked()));
    log
}

/// All pages of a list.
async fn all_pages<T, F: Future<Output = crate::Result<Rows<T>>>>(
    limit: u32,
    list: impl Fn(Page) -> F,
) -> Vec<T> {
    let mut rows = vec![];
    let mut cursor = None;
    loop {
        let page = list(Page { cursor: cursor.clone(), limit }).await.unwrap();
        assert!(page.rows.len() <= limit as usize, "a page is longer than its limit");
        assert!(page.next.is_none() || !page.rows.is_empty(), "an empty page leads on");
        assert!(page.next.is_none() || page.next != cursor, "a page leads to itself");
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            return rows;
        }
    }
}

/// All that a store shows, apart from leases, as text.
async fn everything(store: &dyn Store, limit: u32) -> String {
    let invites = all_pages(limit, |page| store.invites(None, page)).await;
    let pairings = all_pages(limit, |page| store.pairings(None, None, page)).await;
    let peers = all_pages(limit, |page| store.peers(None, page)).await;
    let keys = all_pages(limit, |page| store.keys(None, page)).await;
    let log = all_pages(limit, |page| store.log(None, page)).await;
    format!("{invites:#?}\n{pairings:#?}\n{peers:#?}\n{keys:#?}\n{log:#?}")
}

/// Lets so many tasks do something at the same moment, and answers what each got.
async fn race<T, F>(tasks: usize, run: impl Fn(usize) -> F) -> Vec<T>
where
    T: Debug + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(tasks));
    let spawn = |index| {
        let (start, task) = (start.clone(), run(index));
        tokio::spawn(async move {
            start.wait().await;
            task.await
        })
    };
    let mut results = vec![];
    for task in (0..tasks).map(spawn).collect::<Vec<_>>() {
        results.push(task.await.unwrap());
    }
    results
}

#[cfg(test)]
mod tests {
    /// A rule that is not in the macro would be a promise that nobody checks.
    #[test]
    fn every_rule_is_in_the_macro() {
        let files = [
            include_str!("groups.rs"),
            include_str!("invites.rs"),
            include_str!("keys.rs"),
            include_str!("leases.rs"),
            include_str!("lists.rs"),
            include_str!("log.rs"),
            include_str!("pairings.rs"),
            include_str!("races.rs"),
            include_str!("settings.rs"),
        ];
        let instantiated: Vec<&str> = include_str!("mod.rs").lines().map(str::trim).collect();
        for line in files.iter().flat_map(|file| file.lines()) {
            let Some(rule) = line.strip_prefix("pub async fn ") else { continue };
            let (name, _) = rule.split_once('(').unwrap();
            assert!(instantiated.contains(&name), "{name} is not in the macro");
        }
    }
}
