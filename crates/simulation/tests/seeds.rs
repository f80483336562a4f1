//! Thousands of runs, each of which must keep the contract. A failing seed is printed; it is run again alone, and says
//! what happens, with `HELIOGRAPH_SEED=<seed> cargo test -p heliograph-simulation every_seed`. More of them are run with
//! `HELIOGRAPH_SEEDS=<count>`.

#![expect(clippy::panic, reason = "a panic is how tests and their helpers fail")]

use std::collections::{BTreeMap, BTreeSet};

use heliograph_simulation::{MESSAGES_AFTER, Outcome, Switches, World, expectations};
use heliograph_testkit::history::{Event, History, Id, Rule, Summary, Violation, What, check};

/// Runs of the usual test; each takes some milliseconds.
const SEEDS: u64 = 2_000;

/// Most runs in search of one that fails.
const MOST_SEEDS: u64 = 40_000;

/// Runs of a comparison.
const FEW_SEEDS: u64 = 300;

/// One run; what is wrong with it, in words.
fn run(seed: u64, switches: Switches) -> Result<Summary, String> {
    let world = World::new(seed, switches);
    let outcome = if only_seed().is_some() { world.talking() } else { world }.run();
    let sums = match check(&outcome.history, &expectations()) {
        Ok(sums) => sums,
        Err(mut violations) => {
            violations.retain(|violation| !is_beyond_the_contract(violation, outcome.servers));
            if let Some(first) = violations.first() {
                return Err(first.to_string());
            }
            Summary::default()
        }
    };
    everybody_reaches_everybody(&outcome)?;
    Ok(sums)
}

/// What a sender said on its former socket goes by one server and what it says on its next one, on another node,
/// perhaps by another: nobody promises their order.
fn is_beyond_the_contract(violation: &Violation, servers: usize) -> bool {
    let sockets = || violation.evidence.iter().filter(|event| matches!(event.what, What::Sent { .. }));
    let moved = || sockets().zip(sockets().skip(1)).any(|(one, other)| one.socket != other.socket);
    violation.rule == Rule::OutOfOrder && servers > 1 && moved()
}

/// When nothing goes wrong any more.
fn everybody_reaches_everybody(Outcome { calm, .. }: &Outcome) -> Result<(), String> {
    let count = |what: fn(&Event) -> bool| calm.0.iter().filter(|event| what(event)).count();
    let sent = count(|event| matches!(event.what, What::Sent { .. }));
    let received = count(|event| matches!(event.what, What::Received { .. }));
    if (sent, received) == (MESSAGES_AFTER, MESSAGES_AFTER) {
        return Ok(());
    }
    Err(format!("Deaf: after the trouble {received} of {sent} messages arrived{}", lines(calm)))
}

fn lines(history: &History) -> String {
    history.0.iter().map(|event| format!("\n    {event}")).collect::<Vec<_>>().concat()
}

fn only_seed() -> Option<u64> {
    number("HELIOGRAPH_SEED")
}

fn number(variable: &str) -> Option<u64> {
    let number = std::env::var(variable).ok()?;
    Some(number.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {number}")))
}

#[test]
fn every_seed_keeps_the_contract() {
    let count = number("HELIOGRAPH_SEEDS").unwrap_or(SEEDS);
    let seeds = only_seed().map_or(0..count, |seed| seed..seed + 1);
    let mut failed: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let mut resumed = 0;
    for seed in seeds {
        match run(seed, Switches::default()) {
            Ok(sums) => resumed += sums.resumed,
            Err(why) => {
                let rule = why.split([':', '\n']).next().unwrap_or_default().to_owned();
                failed.entry(rule).or_default().push((seed, why));
            }
        }
    }
    let told = |(rule, runs): (&String, &Vec<(u64, String)>)| {
        let seeds: Vec<_> = runs.iter().map(|(seed, _)| seed).collect();
        let (first, why) = &runs[0];
        format!("{rule} in {} runs: {seeds:?}\nHELIOGRAPH_SEED={first}\n{why}\n", runs.len())
    };
    let told: Vec<_> = failed.iter().map(told).collect();
    assert!(failed.is_empty(), "{}", told.concat());
    assert!(only_seed().is_some() || resumed > count, "hardly anything was resumed: {resumed} times");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..20 {
        let history = || World::new(seed, Switches::default()).run().history.0;
        assert_eq!(history(), history());
    }
}

/// Without a part of the protocol runs fail: looks until it has found so many.
#[track_caller]
fn expect_failures(count: usize, switches: Switches) {
    let failures = (0..MOST_SEEDS).filter(|&seed| run(seed, switches).is_err()).take(count).count();
    assert_eq!(failures, count, "of {MOST_SEEDS} runs");
}

#[test]
fn without_the_fence_runs_fail() {
    expect_failures(10, Switches { fence: false, ..Switches::default() });
}

#[test]
fn without_a_fence_against_sleepers_runs_fail() {
    expect_failures(1, Switches { fence_always: false, ..Switches::default() });
}

#[test]
fn without_a_second_fence_runs_fail() {
    expect_failures(1, Switches { fence_again: false, ..Switches::default() });
}

#[test]
fn without_memory_of_sessions_that_ended_runs_fail() {
    expect_failures(1, Switches { linger: false, ..Switches::default() });
}

/// Messages that arrived and of which their senders heard only that nobody knows.
fn doubts(switches: Switches) -> usize {
    let of_one = |seed| {
        let History(events) = World::new(seed, switches).run().history;
        let ids = |pick: fn(&What) -> Option<&Id>| -> BTreeSet<Id> {
            events.iter().filter_map(|event| pick(&event.what)).cloned().collect()
        };
        let arrived = ids(|what| if let What::Received { id, .. } = what { Some(id) } else { None });
        let told = ids(|what| if let What::Told { id, .. } = what { Some(id) } else { None });
        let sure = ids(|what| match what {
            What::Told { id, verdict, .. } => verdict.is_final().then_some(id),
            _ => None,
        });
        arrived.intersection(&told).filter(|id| !sure.contains(*id)).count()
    };
    (0..FEW_SEEDS).map(of_one).sum()
}

#[test]
fn answers_wait_until_it_is_known_who_is_resumed() {
    let with = doubts(Switches::default());
    let without = doubts(Switches { early_receipts: false, ..Switches::default() });
    assert!(with < without, "{with} messages in doubt, and {without} without the wait");
}

#[test]
fn without_numbers_that_go_on_runs_fail() {
    expect_failures(10, Switches { replay: false, ..Switches::default() });
}

#[test]
fn without_memory_of_what_was_sent_runs_fail() {
    expect_failures(10, Switches { unanswered: false, ..Switches::default() });
}

#[test]
fn without_memory_of_what_was_sent_to_neighbours_runs_fail() {
    expect_failures(1, Switches { unanswered_here: false, ..Switches::default() });
}

#[test]
fn without_an_end_to_what_was_before_a_new_beginning_runs_fail() {
    expect_failures(1, Switches { anew_is_anew: false, ..Switches::default() });
}
