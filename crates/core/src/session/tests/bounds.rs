//! Sizes, rates and deadlines.

use super::*;
use crate::session::client::RATE_STRIKES;

#[test]
fn a_candidate_is_small_and_a_description_need_not_be() {
    static LARGEST: [u8; limits::MAX_CANDIDATE_BYTES] = [b' '; limits::MAX_CANDIDATE_BYTES];
    static TOO_LARGE: [u8; limits::MAX_CANDIDATE_BYTES + 1] = [b' '; limits::MAX_CANDIDATE_BYTES + 1];
    let check = |client, kind, payload, expect| {
        assert_eq!(World::at(Stage::Placed(client)).says(to(Some("other"), kind, payload)), expect);
    };
    check(NEW, Kind::Candidate, &LARGEST, "relay to other: relayed");
    check(NEW, Kind::Candidate, &TOO_LARGE, "undeliverable too_large: too_large");
    check(OLD, Kind::Candidate, &TOO_LARGE, "nothing: too_large");
    check(NEW, Kind::Offer, &TOO_LARGE, "relay to other: relayed");
    check(NEW, application(), &TOO_LARGE, "relay to other: relayed");
}

#[test]
fn the_configured_size_binds_every_kind() {
    let limits = Limits { max_message_bytes: 2, ..Limits::default() };
    for kind in [Kind::Offer, Kind::Answer, Kind::Candidate, application()] {
        let mut world = World::with(Stage::Placed(NEW), limits.clone());
        assert_eq!(world.says(to(Some("other"), kind.clone(), b"{}")), "relay to other: relayed");
        assert_eq!(world.says(to(Some("other"), kind, b"{ }")), "undeliverable too_large: too_large");
    }
}

#[test]
fn over_the_rate_is_told_and_then_closed() {
    for (client, told) in [(OLD, "nothing: rate_limited"), (NEW, "undeliverable rate_limited: rate_limited")]
    {
        let limits = Limits { max_messages_per_second: 1, message_burst: 3, ..Limits::default() };
        let mut world = World::with(Stage::Placed(client), limits);
        for _ in 0..2 {
            assert_eq!(
                world.says(directed(Kind::Offer)),
                "relay to other: relayed",
                "register was the first"
            );
        }
        for _ in 0..RATE_STRIKES {
            assert_eq!(world.says(directed(Kind::Offer)), told);
        }
        assert_eq!(world.says(directed(Kind::Offer)), "close 4429: rate_limited");
    }
}

#[test]
fn every_kind_of_frame_counts_against_the_rate() {
    let limits = Limits { max_messages_per_second: 1, message_burst: 1, ..Limits::default() };
    let malformed = |world: &mut World| {
        shown(&world.session.on_malformed("not JSON".to_owned(), &world.limits, world.now))
    };
    let mut world = World::with(Stage::Placed(NEW), limits);
    assert_eq!(malformed(&mut world), "nothing: rate_limited");
    for _ in 1..RATE_STRIKES {
        assert_eq!(world.says(ping()), "nothing: rate_limited");
    }
    assert_eq!(malformed(&mut world), "close 4429: rate_limited");
}

#[test]
fn the_rate_recovers_and_a_pause_forgives() {
    let limits = Limits { max_messages_per_second: 1, message_burst: 2, ..Limits::default() };
    let mut world = World::with(Stage::Placed(NEW), limits);
    for _ in 0..20 {
        world.now += Duration::from_secs(2);
        assert_eq!(world.says(ping()), "pong 1: accepted");
        assert_eq!(world.says(ping()), "pong 1: accepted");
        for _ in 0..RATE_STRIKES {
            assert_eq!(world.says(ping()), "nothing: rate_limited");
        }
    }
    // A stream that never pauses is not forgiven, however slow it is.
    world.now += Duration::from_secs(1);
    assert_eq!(world.says(ping()), "pong 1: accepted");
    assert_eq!(world.says(ping()), "close 4429: rate_limited");
}

#[test]
fn a_rate_of_zero_is_off() {
    for (rate, burst) in [(0, 1), (1, 0), (0, 0)] {
        let limits = Limits { max_messages_per_second: rate, message_burst: burst, ..Limits::default() };
        let mut world = World::with(Stage::Placed(OLD), limits);
        for _ in 0..10_000 {
            assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed");
        }
    }
}

#[test]
fn who_does_not_register_in_time_is_closed() {
    let mut world = World::at(Stage::Connected);
    world.now += world.limits.register_deadline.saturating_sub(Duration::from_millis(1));
    world.session.on_activity(world.now);
    assert_eq!(world.ticks(), "nothing");
    world.now += Duration::from_millis(1);
    assert_eq!(world.ticks(), "close 4408");
    let mut waiting = World::at(Stage::Waiting(OLD));
    waiting.now += waiting.limits.register_deadline;
    assert_eq!(waiting.ticks(), "nothing", "approval may take as long as it takes");
}

#[test]
fn silence_is_pinged_and_then_closed() {
    let mut world = World::at(Stage::Placed(OLD));
    let (quiet, patience) = (world.limits.ping_interval, world.limits.pong_deadline);
    world.now += quiet;
    assert_eq!(world.ticks(), "ping");
    assert_eq!(world.ticks(), "nothing", "one ping at a time");
    world.now += patience;
    assert_eq!(world.ticks(), "close 4408");
}

#[test]
fn a_sign_of_life_starts_the_silence_anew() {
    let mut world = World::at(Stage::Placed(OLD));
    for _ in 0..5 {
        world.now += world.limits.ping_interval;
        assert_eq!(world.ticks(), "ping");
        world.now += world.limits.pong_deadline / 2;
        world.session.on_activity(world.now);
        assert_eq!(world.ticks(), "nothing");
    }
}

/// A node that was stopped for a minute, or a machine that slept, found everybody silent for too long, pinged, and
/// closed them at its next look.
#[test]
fn a_node_that_stood_still_gives_clients_their_time_to_answer() {
    let mut world = World::at(Stage::Placed(OLD));
    world.now += Duration::from_hours(1);
    assert_eq!(world.ticks(), "ping");
    world.now += world.limits.pong_deadline.saturating_sub(Duration::from_millis(1));
    assert_eq!(world.ticks(), "nothing");
    world.now += Duration::from_millis(1);
    assert_eq!(world.ticks(), "close 4408");
}

#[test]
fn pings_of_many_sockets_are_spread_around_the_interval() {
    let limits = Limits::default();
    let now = Instant::now();
    let after = |ping_phase| {
        let mut session = Session::new(Opening { peer: peer(ME), epoch: Epoch(1), now, ping_phase }, &limits);
        session.phase = Phase::Waiting;
        session.next_deadline(&limits) - now
    };
    assert_eq!(after(0.0), limits.ping_interval.mul_f32(0.75));
    assert_eq!(after(0.5), limits.ping_interval);
    assert_eq!(after(1.0), limits.ping_interval.mul_f32(1.25));
}
