//! The revocation protocol, explored in full within bounds; and with mistakes, which have to be found.
//!
//! `cargo test -p heliograph-model -- --nocapture` prints how many states were visited, and the way to each mistake.

#![expect(clippy::print_stdout, clippy::panic, reason = "helpers of tests")]

use heliograph_model::{
    ACKNOWLEDGED_WRITES_NOTHING, ANSWER_NAMES_ALL, Bounds, Mutation, NOTHING_CHECKED_LATE, Promotion,
    RUN_OUT_IS_NOT_BELIEVED, Revocation, VERSION_NEVER_GOES_BACK,
};
use stateright::{Checker, HasDiscoveries, Model};

/// One process with everything that can happen to it.
const WHOLE: Bounds = Bounds {
    nodes: 1,
    waiters: 1,
    time: true,
    words: true,
    locks: true,
    changes: 1,
    ends: true,
    gives_up: true,
    promotion: Promotion::Lossless,
};
/// Leases and turns alone: the least in which most mistakes show.
const LEASES: Bounds = Bounds { words: false, locks: false, ends: false, gives_up: false, ..WHOLE };
/// Rights that come by reads and by other nodes' word; no lease runs out.
const WORDS: Bounds = Bounds { words: true, time: false, ..LEASES };

const RELAYED: &str = "frames are relayed";
const WORD_TAKEN: &str = "another node's word is taken";
const ALL_ACKNOWLEDGE: &str = "a revoke is acknowledged by all";
const RUNS_OUT: &str = "a lease runs out, and its holder is paused and lives";
const RECOVERS: &str = "a node that was called run out relays again";
const STARTS_LATE: &str = "a node that starts later is not waited for";

/// Visits every state. `floor`: so many there are at least, or the model has become too small to say anything;
/// `possible`: what has to happen in some of them.
fn holds(bounds: Bounds, floor: usize, possible: &[&str]) {
    let checker =
        Revocation::sound(bounds).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{} states, {} steps, {bounds:?}", checker.unique_state_count(), checker.state_count());
    let found = checker.discoveries();
    for (property, path) in &found {
        assert!(
            !checker.discovery_classification(property).to_string().contains("counterexample"),
            "{property}: {:?}",
            path.clone().into_actions()
        );
    }
    assert!(checker.is_done());
    assert!(checker.unique_state_count() >= floor, "{} states only", checker.unique_state_count());
    for what in possible {
        assert!(found.contains_key(what), "it never happens that {what}");
    }
}

/// The checker finds what the mistake breaks.
fn catches(mutation: Mutation, bounds: Bounds, property: &'static str) {
    broken(Revocation::with(mutation, bounds), property);
}

fn broken(model: Revocation, property: &'static str) {
    let checker = model.checker().finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{model:?} breaks nothing of {property:?} in {} states", checker.unique_state_count())
    };
    println!("{:?}, {property}: {:?}", model.mutation, path.into_actions());
}

#[test]
fn one_node_holds_whatever_happens_to_it() {
    holds(WHOLE, 400_000, &[RELAYED, RUNS_OUT, RECOVERS, STARTS_LATE]);
}

#[test]
fn two_nodes_hold_while_leases_run_out_and_nodes_end() {
    let bounds = Bounds { nodes: 2, ends: true, ..LEASES };
    holds(bounds, 1_300_000, &[RELAYED, ALL_ACKNOWLEDGE, RUNS_OUT, RECOVERS, STARTS_LATE]);
}

#[test]
fn two_nodes_hold_while_they_take_each_others_word() {
    holds(Bounds { nodes: 2, ..WORDS }, 2_000_000, &[RELAYED, WORD_TAKEN, ALL_ACKNOWLEDGE, STARTS_LATE]);
}

#[test]
fn three_nodes_hold() {
    holds(Bounds { nodes: 3, time: false, ..LEASES }, 200_000, &[RELAYED, ALL_ACKNOWLEDGE, STARTS_LATE]);
}

#[test]
fn two_waiters_and_two_changes_hold() {
    let bounds = Bounds { waiters: 2, changes: 2, ends: true, gives_up: true, ..LEASES };
    holds(bounds, 300_000, &[RELAYED, RUNS_OUT, RECOVERS, STARTS_LATE]);
}

#[test]
fn an_acknowledgement_before_the_swap_is_caught() {
    catches(Mutation::AcknowledgesBeforeSwap, LEASES, NOTHING_CHECKED_LATE);
}

#[test]
fn an_acknowledgement_before_turns_are_over_is_caught() {
    catches(Mutation::AcknowledgesBeforeSettling, LEASES, ACKNOWLEDGED_WRITES_NOTHING);
}

#[test]
fn a_renewal_without_the_shared_lock_is_caught() {
    catches(Mutation::NoShareLock, Bounds { locks: true, ..LEASES }, NOTHING_CHECKED_LATE);
}

#[test]
fn a_lease_that_counts_from_the_receipt_is_caught() {
    catches(Mutation::LeaseFromReceipt, LEASES, RUN_OUT_IS_NOT_BELIEVED);
    catches(Mutation::LeaseFromReceipt, LEASES, NOTHING_CHECKED_LATE);
}

/// Of the revoke that it counts from, such a waiter is right: all that was granted before runs out in time. But it
/// removes leases that were renewed since, and the next revoke does not wait for their holders.
#[test]
fn a_waiter_that_counts_from_the_commit_is_caught() {
    catches(Mutation::IgnoresBeat, LEASES, RUN_OUT_IS_NOT_BELIEVED);
    catches(Mutation::IgnoresBeat, Bounds { changes: 2, ..LEASES }, NOTHING_CHECKED_LATE);
}

#[test]
fn terms_without_a_margin_are_caught() {
    catches(Mutation::NoMargin, LEASES, RUN_OUT_IS_NOT_BELIEVED);
    catches(Mutation::NoMargin, LEASES, NOTHING_CHECKED_LATE);
}

#[test]
fn a_lease_that_is_used_before_its_changes_are_applied_is_caught() {
    catches(Mutation::LeaseBeforeApply, LEASES, NOTHING_CHECKED_LATE);
}

#[test]
fn a_look_that_is_older_than_the_commit_is_caught() {
    catches(Mutation::StaleLook, LEASES, NOTHING_CHECKED_LATE);
    catches(Mutation::StaleLook, LEASES, ANSWER_NAMES_ALL);
}

#[test]
fn a_removal_without_the_beat_is_caught() {
    catches(Mutation::RemovesMovedRow, LEASES, RUN_OUT_IS_NOT_BELIEVED);
    catches(Mutation::RemovesMovedRow, LEASES, NOTHING_CHECKED_LATE);
}

#[test]
fn a_lease_that_is_given_back_and_used_is_caught() {
    catches(Mutation::GivesBackInUse, Bounds { ends: true, ..LEASES }, NOTHING_CHECKED_LATE);
}

/// What a node says of its sender may arrive long after: with a frame that a paused node had in hand. Who started since,
/// or has forgotten the revocation, must not believe it.
#[test]
fn a_word_that_counts_for_ever_is_caught() {
    catches(Mutation::VouchesForever, Bounds { nodes: 2, ..WORDS }, NOTHING_CHECKED_LATE);
}

#[test]
fn a_right_that_was_read_before_the_feed_began_is_caught() {
    catches(Mutation::ReadsBeforeBegin, WORDS, NOTHING_CHECKED_LATE);
}

/// The assumptions about PostgreSQL (`docs/revocation.md`): a change that was answered is not lost, and no lease is.
#[test]
fn a_promotion_that_loses_commits_breaks_the_promise() {
    let loses = |promotion, bounds| Revocation::sound(Bounds { promotion, ..bounds });
    broken(loses(Promotion::LosesChange, WORDS), NOTHING_CHECKED_LATE);
    broken(loses(Promotion::LosesLeases, LEASES), RUN_OUT_IS_NOT_BELIEVED);
    broken(loses(Promotion::LosesLeases, LEASES), NOTHING_CHECKED_LATE);
}

#[test]
fn a_node_that_follows_a_database_which_went_back_is_caught() {
    let bounds = Bounds { promotion: Promotion::LosesChange, ..LEASES };
    catches(Mutation::BelievesOldDatabase, bounds, VERSION_NEVER_GOES_BACK);
}

/// From every state: no node has to do anything for a revoke to come to its end, and a node that lost its lease gets
/// one again without help.
#[test]
fn a_revoke_ends_and_a_node_recovers_from_every_state() {
    let model = Revocation::sound(Bounds { words: false, ..WHOLE }).with_progress();
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{} states with progress", checker.unique_state_count());
    let stuck = [heliograph_model::ENDS_WITHOUT_NODES, heliograph_model::RECOVERS_ALONE];
    for property in stuck {
        assert!(checker.discovery(property).is_none(), "{:?}", checker.discovery(property));
    }
    assert!(checker.unique_state_count() > 15_000);
}
