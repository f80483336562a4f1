//! The rules, one by one.

use super::*;

fn id(text: &str) -> PeerId {
    PeerId::parse(text).unwrap()
}

/// The negotiation of `b` with `a`, in which `b` insists, for want of the service's word.
fn insisting() -> Negotiation {
    Negotiation::new(&id("b"), &id("a"))
}

/// The negotiation of `a` with `b`, in which `a` gives way.
fn yielding() -> Negotiation {
    Negotiation::new(&id("a"), &id("b"))
}

fn sdp(session: u32, fragment: u32) -> Sdp {
    Sdp(format!("v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\na=ice-ufrag:{fragment}\r\n"))
}

fn candidate(n: usize) -> Candidate {
    Candidate { text: n.to_string(), mid: None, index: Some(0) }
}

/// The names of the actions, without timers that stop.
fn words(actions: &[Action]) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::Stop(_) => None,
        Action::Offer { restart: true } => Some("restart".to_owned()),
        Action::Shut(ended) => Some(format!("shut {}", ended.as_str())),
        Action::Start(timer, _) => Some(format!("wait {timer:?}").to_lowercase()),
        other => {
            let text = format!("{other:?}");
            let end = text.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(text.len());
            Some(text[..end].to_lowercase())
        }
    };
    actions.iter().filter_map(word).collect()
}

fn check(negotiation: &mut Negotiation, input: Input, expect: &[&str]) {
    let given = format!("{input:?}");
    assert_eq!(words(&negotiation.on(input)), expect, "{given}");
}

fn undeliverable(description: u64, reason: Reason) -> Input {
    Input::Sent { description, outcome: Outcome::Undeliverable(reason) }
}

/// Connected from its own offer.
fn connected(mut negotiation: Negotiation) -> Negotiation {
    negotiation.on(Input::Connect);
    negotiation.on(Input::Answer(sdp(1, 1)));
    negotiation.on(Input::State(State::Connected));
    negotiation
}

#[test]
fn who_gives_way_is_the_services_word_else_the_ids() {
    let check = |me: &str, other: &str, role: Option<Role>, expect: bool| {
        let mut negotiation = Negotiation::new(&id(me), &id(other));
        negotiation.on(Input::Role(role));
        assert_eq!(negotiation.polite(), expect, "{me} {other} {role:?}");
    };
    check("a", "b", None, true);
    check("b", "a", None, false);
    check("a", "b", Some(Role::Impolite), false);
    check("b", "a", Some(Role::Polite), true);
    // As in a browser: UTF-16 puts what is beyond the first plane before what is at its end.
    check("\u{1f600}", "\u{ff5e}", None, true);
}

#[test]
fn the_newcomer_offers_once_and_the_answer_is_taken_once() {
    let mut n = insisting();
    check(&mut n, Input::Connect, &["open", "createchannel", "offer", "send", "wait answer"]);
    check(&mut n, Input::Connect, &[]);
    check(&mut n, Input::Candidate(candidate(1)), &[]);
    check(&mut n, Input::Answer(sdp(1, 1)), &["takeanswer", "add"]);
    check(&mut n, Input::Answer(sdp(1, 1)), &[]);
    check(&mut n, Input::Candidate(candidate(2)), &["add"]);
    check(&mut n, Input::Elapsed(Timer::Answer), &[]);
}

#[test]
fn an_offer_is_answered_with_the_candidates_that_came_before_it() {
    let mut n = insisting();
    for early in 0..100 {
        check(&mut n, Input::Candidate(candidate(early)), &[]);
    }
    let actions = words(&n.on(Input::Offer(sdp(1, 1))));
    let added = actions.iter().filter(|word| *word == "add").count();
    assert_eq!(added, EARLY_CANDIDATES);
    assert_eq!(actions.first().map(String::as_str), Some("open"));
    assert_eq!(actions[actions.len() - 2..], ["answer", "send"]);
    // The same offer once more: the answer was lost.
    check(&mut n, Input::Offer(sdp(1, 1)), &["takeoffer", "answer", "send"]);
}

#[test]
fn when_offers_cross_one_gives_way() {
    let mut polite = yielding();
    polite.on(Input::Connect);
    check(&mut polite, Input::Offer(sdp(1, 1)), &["open", "takeoffer", "answer", "send"]);
    let mut impolite = insisting();
    impolite.on(Input::Connect);
    check(&mut impolite, Input::Offer(sdp(1, 1)), &[]);
    check(&mut impolite, Input::Answer(sdp(1, 1)), &["takeanswer"]);
}

#[test]
fn when_restarts_cross_the_connection_is_kept() {
    let mut n = connected(yielding());
    n.on(Input::State(State::Failed));
    check(&mut n, Input::Elapsed(Timer::Restart), &["restart", "send", "wait answer"]);
    check(&mut n, Input::Offer(sdp(1, 2)), &["rollback", "takeoffer", "answer", "send"]);
}

#[test]
fn without_roles_an_offer_that_was_ignored_is_taken_in_the_end() {
    let mut n = insisting();
    n.on(Input::Connect);
    n.on(Input::Offer(sdp(1, 1)));
    check(&mut n, Input::Elapsed(Timer::Answer), &["open", "takeoffer", "answer", "send"]);
}

#[test]
fn with_roles_the_own_offer_is_said_again_first() {
    let mut n = insisting();
    n.on(Input::Role(Some(Role::Impolite)));
    n.on(Input::Connect);
    n.on(Input::Offer(sdp(1, 1)));
    check(&mut n, Input::Elapsed(Timer::Answer), &["send", "wait answer"]);
    check(&mut n, Input::Elapsed(Timer::Answer), &["open", "takeoffer", "answer", "send"]);
}

#[test]
fn an_offer_without_an_answer_is_given_up_after_some_repetitions() {
    let mut n = insisting();
    n.on(Input::Connect);
    for _ in 0..ATTEMPTS {
        check(&mut n, Input::Elapsed(Timer::Answer), &["send", "wait answer"]);
    }
    check(&mut n, Input::Elapsed(Timer::Answer), &["shut unreachable"]);
}

#[test]
fn who_starts_over_is_followed() {
    let mut n = connected(insisting());
    check(&mut n, Input::Offer(sdp(2, 1)), &["open", "takeoffer", "answer", "send"]);
    let mut n = connected(insisting());
    n.on(Input::State(State::Failed));
    n.on(Input::Elapsed(Timer::Restart));
    check(&mut n, Input::Answer(sdp(2, 1)), &["open", "createchannel", "offer", "send", "wait answer"]);
}

#[test]
fn an_old_answer_is_not_taken_for_that_to_a_restart() {
    let mut n = connected(insisting());
    n.on(Input::State(State::Failed));
    n.on(Input::Elapsed(Timer::Restart));
    check(&mut n, Input::Answer(sdp(1, 1)), &[]);
    check(&mut n, Input::Answer(sdp(1, 2)), &["takeanswer"]);
}

#[test]
fn a_connection_that_fails_is_restarted_by_the_impolite_side_first() {
    let wait = |negotiation: Negotiation| {
        let mut n = connected(negotiation);
        let actions = n.on(Input::State(State::Failed));
        match actions.as_slice() {
            [Action::Start(Timer::Restart, wait)] => *wait,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(insisting()), Wait::default());
    assert!(wait(yielding()).least >= POLITE_RESTART);
}

#[test]
fn a_connection_that_keeps_failing_is_given_up() {
    let mut n = connected(insisting());
    for fragment in 2..2 + ATTEMPTS {
        check(&mut n, Input::State(State::Failed), &["wait restart"]);
        check(&mut n, Input::State(State::Failed), &[]);
        check(&mut n, Input::Elapsed(Timer::Restart), &["restart", "send", "wait answer"]);
        check(&mut n, Input::Answer(sdp(1, fragment)), &["takeanswer"]);
    }
    check(&mut n, Input::State(State::Failed), &["shut failed"]);
}

#[test]
fn presence_decides_whether_a_failure_is_the_end() {
    let mut n = connected(insisting());
    check(&mut n, Input::Present(false), &[]);
    check(&mut n, Input::State(State::Failed), &["shut failed"]);
    let mut n = connected(insisting());
    n.on(Input::State(State::Failed));
    check(&mut n, Input::Present(false), &["shut failed"]);
    let mut n = insisting();
    n.on(Input::Connect);
    check(&mut n, Input::Present(false), &["shut unreachable"]);
}

#[test]
fn the_fate_of_a_description_matters_while_it_is_needed() {
    let offering = |input: Input, expect: &[&str]| {
        let mut n = insisting();
        n.on(Input::Connect);
        check(&mut n, input, expect);
    };
    offering(Input::Sent { description: 1, outcome: Outcome::Delivered }, &[]);
    offering(undeliverable(1, Reason::Unavailable), &["shut unreachable"]);
    offering(undeliverable(1, Reason::QueueFull), &["wait resend"]);
    offering(undeliverable(1, Reason::TooLarge), &[]);
    offering(undeliverable(1, Reason::Offline), &[]);
    offering(undeliverable(7, Reason::Unavailable), &[]);
    let mut answered = insisting();
    answered.on(Input::Connect);
    answered.on(Input::Answer(sdp(1, 1)));
    check(&mut answered, undeliverable(1, Reason::Unavailable), &[]);
    check(&mut connected(insisting()), undeliverable(1, Reason::Unavailable), &[]);
}

#[test]
fn a_description_is_sent_again_some_times_and_not_for_ever() {
    let mut n = insisting();
    n.on(Input::Offer(sdp(1, 1)));
    for _ in 0..ATTEMPTS {
        check(&mut n, undeliverable(1, Reason::BusUnavailable), &["wait resend"]);
        check(&mut n, Input::Elapsed(Timer::Resend), &["send"]);
    }
    check(&mut n, undeliverable(1, Reason::BusUnavailable), &[]);
}

#[test]
fn when_the_service_is_back_what_may_be_lost_is_said_again() {
    let mut offering = insisting();
    offering.on(Input::Connect);
    check(&mut offering, Input::SignalingBack, &["send", "wait answer"]);

    let mut answered = insisting();
    answered.on(Input::Offer(sdp(1, 1)));
    check(&mut answered, Input::SignalingBack, &[]);
    answered.on(Input::SignalsMayBeLost);
    check(&mut answered, Input::SignalingBack, &["restart", "send", "wait answer"]);

    let mut n = connected(insisting());
    n.on(Input::SignalsMayBeLost);
    check(&mut n, Input::SignalingBack, &[]);
}

#[test]
fn what_is_over_is_said_once() {
    for (input, expect) in [
        (Input::ChannelClosed, "shut closed"),
        (Input::State(State::Closed), "shut closed"),
        (Input::Failed, "shut failed"),
        (Input::Close(Ended::Revoked), "shut revoked"),
    ] {
        let mut n = connected(insisting());
        check(&mut n, input, &[expect]);
        check(&mut n, Input::Close(Ended::Closed), &[]);
        check(&mut n, Input::Connect, &["open", "createchannel", "offer", "send", "wait answer"]);
    }
}

#[test]
fn debug_shows_no_description() {
    let shown =
        format!("{:?} {:?}", Input::Offer("very private".into()), Action::TakeOffer("very private".into()));
    assert!(!shown.contains("private"), "{shown}");
}
