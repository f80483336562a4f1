//! What a session that may be resumed keeps, leaves behind and takes over.

use super::*;

/// How a client comes back.
fn resume(received: Option<u64>) -> ClientMessage<'static> {
    ClientMessage::Resume { token: Cow::Borrowed("resume-token"), received }
}

/// A session that took over from one that had given the numbers before `next_seq`.
fn resumed(next_seq: u64) -> World {
    let mut world = World::at(Stage::Connected);
    assert_eq!(world.says(resume(None)), "resume: accepted");
    world.session.on_resumed(inheritance(next_seq));
    world
}

fn inheritance(next_seq: u64) -> Inheritance {
    Inheritance { capabilities: Capabilities::OFFERED, place: MY_PLACE, next_seq, confirmed: next_seq - 1 }
}

fn delivered(id: &str) -> Receipt {
    Receipt { id: Some(id.into()), target: "other".into(), failure: None }
}

/// The number under which `mail` is written, if it is written under one.
fn number_of(world: &mut World, mail: Mail) -> Option<u64> {
    let effect = world.session.on_mail(mail, &world.authority, world.now).effect;
    let Effect::Send(ServerMessage::Signal { seq, .. } | ServerMessage::Receipt { seq, .. }) = effect else {
        panic!("not written: {effect:?}");
    };
    seq
}

fn signal_number(world: &mut World) -> Option<u64> {
    let mail = Mail::Signal(world.signal());
    number_of(world, mail)
}

/// What is left for a client that has everything up to `received`, and how much is lost.
fn left_after(world: World, received: Option<u64>) -> (Vec<u64>, u64) {
    let rest = world.session.into_remains().replay.since(received);
    (rest.again.into_iter().map(|(seq, _)| seq).collect(), rest.lost)
}

/// The id and the reason of the next message that nobody answered.
fn overdue(world: &mut World) -> Option<String> {
    match world.session.overdue(world.now)? {
        Effect::Send(ServerMessage::Receipt { receipt, .. }) => {
            Some(format!("{} {}", receipt.id?, receipt.failure?.as_str()))
        }
        other => Some(effect_shown(&other)),
    }
}

#[test]
fn resume_comes_before_register() {
    let late = "error resume_too_late: ignored";
    check_message(
        || resume(Some(3)),
        ["resume: accepted", "nothing: ignored", late, "nothing: ignored", late],
    );
    assert_eq!(resumed(1).says(resume(None)), late, "once");
}

#[test]
fn the_driver_is_told_what_the_client_shows() {
    let mut world = World::at(Stage::Connected);
    let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message: resume(Some(12)) };
    let step = world.session.on_client(envelope, &world.authority, &world.limits, world.now);
    let Effect::Resume { token, received } = step.effect else { panic!("{step:?}") };
    assert_eq!((&*token, received), ("resume-token", Some(12)));
}

#[test]
fn nobody_resumes_for_another() {
    assert_eq!(World::at(Stage::Connected).says_as("other", resume(None)), "nothing: spoofed");
}

#[test]
fn a_resumed_session_is_what_the_former_was() {
    let mut world = resumed(8);
    assert_eq!(world.session.place(), Some(MY_PLACE));
    assert!(world.session.is_placed() && world.session.has(Capabilities::OFFERED));
    assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed", "before its register");
    assert_eq!(world.hears(Mail::Joined(member("early", MY_PLACE - 1))), "nothing: accepted");
    assert_eq!(world.hears(Mail::Joined(member("late", MY_PLACE + 1))), "joined late, impolite: accepted");
    assert_eq!(signal_number(&mut world), Some(8), "numbers go on");
    assert_eq!(world.says(ClientMessage::Register(NEW)), "place: accepted");
    assert_eq!(message_shown(&world.place(vec![])), "list of 0 and welcome");
    assert_eq!(signal_number(&mut world), Some(9), "a register changes no numbers");
}

#[test]
fn who_starts_anew_is_a_session_like_any_other() {
    let mut world = World::at(Stage::Connected);
    assert_eq!(world.says(resume(Some(40))), "resume: accepted");
    assert!(!world.session.is_placed(), "until the driver fetched something");
    assert_eq!(world.says(ClientMessage::Register(NEW)), "place: accepted");
    world.place(vec![]);
    assert_eq!(signal_number(&mut world), Some(1));
}

#[test]
fn messages_and_receipts_share_one_row_of_numbers() {
    let mut world = World::at(Stage::Placed(NEW));
    assert_eq!(signal_number(&mut world), Some(1));
    assert_eq!(number_of(&mut world, Mail::Receipt(delivered("1"))), Some(2));
    let Effect::Send(ServerMessage::Receipt { seq, .. }) = world.session.on_receipt(delivered("2")) else {
        panic!("feedback was asked for");
    };
    assert_eq!(seq, Some(3));
    world.hears(Mail::Joined(member("late", MY_PLACE + 1)));
    assert_eq!(signal_number(&mut world), Some(4), "news have no number: who comes back gets a list");
}

#[test]
fn only_who_may_resume_gets_numbers() {
    for client in [OLD, Some(Capabilities::NONE), Some(Capabilities::FEEDBACK)] {
        let mut world = World::at(Stage::Placed(client));
        assert_eq!(signal_number(&mut world), None, "{client:?}");
        assert_eq!(left_after(world, Some(0)), (vec![], 0), "{client:?}");
    }
    // Receipts that come before the place: nothing of that session could be resumed.
    let mut waiting = World::at(Stage::Waiting(NEW));
    assert_eq!(number_of(&mut waiting, Mail::Receipt(delivered("1"))), None);
}

#[test]
fn what_may_not_be_written_takes_no_number() {
    let mut world = World::at(Stage::Placed(NEW));
    let other = Arc::clone(&world.other);
    world.set(&other.right, Standing::Revoked);
    assert_eq!(world.hears(Mail::Signal(world.signal())), "return to other: unauthorized");
    world.set(&other.right, Standing::Approved);
    assert_eq!(signal_number(&mut world), Some(1), "no gap for the client to wonder about");
}

#[test]
fn a_pong_lets_go_of_what_came_before_its_ping() {
    let mut world = World::at(Stage::Placed(NEW));
    for _ in 0..3 {
        signal_number(&mut world);
    }
    world.now += world.limits.ping_interval;
    let Effect::Ping { covers } = world.session.on_tick(&world.limits, world.now) else {
        panic!("silence is pinged");
    };
    assert_eq!(covers, 3);
    assert_eq!(signal_number(&mut world), Some(4), "after the ping");
    world.session.on_pong(covers);
    assert_eq!(left_after(world, Some(3)), (vec![4], 0));
}

#[test]
fn the_client_is_asked_for_a_sign_before_anything_is_let_go() {
    let mut world = World::at(Stage::Placed(NEW));
    let mut written = 0;
    let covers = loop {
        assert!(written < limits::REPLAY_ENTRIES as u64, "never asked");
        written = signal_number(&mut world).unwrap();
        if let Effect::Ping { covers } = world.session.ask_for_sign(world.now) {
            break covers;
        }
    };
    assert_eq!(covers, written);
    signal_number(&mut world);
    assert_eq!(effect_shown(&world.session.ask_for_sign(world.now)), "nothing", "one ping at a time");
    world.session.on_activity(world.now);
    world.session.on_pong(covers);
    assert_eq!(effect_shown(&world.session.ask_for_sign(world.now)), "nothing", "there is room again");
    assert_eq!(left_after(world, Some(covers)), (vec![covers + 1], 0));
}

/// Its pong is awaited like any other.
#[test]
fn who_does_not_give_the_sign_is_closed() {
    let mut world = World::at(Stage::Placed(NEW));
    while !matches!(world.session.ask_for_sign(world.now), Effect::Ping { .. }) {
        signal_number(&mut world);
    }
    world.now += world.limits.pong_deadline;
    assert_eq!(world.ticks(), "close 4408");
}

#[test]
fn a_client_that_does_not_count_gets_what_was_not_written_wholly() {
    let mut world = World::at(Stage::Placed(NEW));
    signal_number(&mut world);
    signal_number(&mut world);
    world.session.on_written();
    signal_number(&mut world);
    assert_eq!(left_after(world, None), (vec![3], 0));
}

#[test]
fn what_a_former_session_wrote_comes_again_under_its_number() {
    let mut world = resumed(8);
    let signal = world.signal();
    assert_eq!(number_of(&mut world, Mail::Again(6, Written::Signal(signal))), Some(6));
    assert_eq!(number_of(&mut world, Mail::Again(7, Written::Receipt(delivered("1")))), Some(7));
    assert_eq!(signal_number(&mut world), Some(8));
    assert_eq!(left_after(world, Some(5)), (vec![6, 7, 8], 0), "kept for the next time");
}

#[test]
fn what_comes_again_is_authorized_again() {
    let check = |change: fn(&mut World), expect: &str| {
        let mut world = resumed(8);
        let again = Mail::Again(6, Written::Signal(world.signal()));
        change(&mut world);
        assert_eq!(world.hears(again), expect);
        let remains = world.session.into_remains().replay.since(Some(5));
        assert!(remains.again.is_empty(), "and it is not kept for a later try");
    };
    check(
        |world| {
            let other = Arc::clone(&world.other);
            world.set(&other.right, Standing::Revoked);
        },
        "nothing: unauthorized",
    );
    check(|world| world.stands(Standing::Revoked), "nothing: unauthorized");
    check(World::lose_lease, "nothing: authorization_unavailable");
}

/// It says what became of the client's own message; nobody is shown to anybody.
#[test]
fn a_receipt_that_comes_again_needs_no_right() {
    let mut world = resumed(8);
    let other = Arc::clone(&world.other);
    world.set(&other.right, Standing::Revoked);
    let again = Mail::Again(6, Written::Receipt(delivered("1")));
    assert_eq!(world.hears(again), "delivered: relayed");
}

#[test]
fn what_nobody_answers_is_told_as_expired_in_order() {
    let mut world = World::at(Stage::Placed(NEW));
    let give_up = world.now + Duration::from_secs(70);
    for id in ["1", "2", "3"] {
        let effect = world.session.on_sent_away(id.into(), "other".into(), give_up);
        assert_eq!(effect_shown(&effect), "nothing");
    }
    assert_eq!(world.hears(Mail::Receipt(delivered("2"))), "delivered: accepted");
    assert_eq!(overdue(&mut world), None, "not yet");
    world.now = give_up;
    assert_eq!(overdue(&mut world).as_deref(), Some("1 expired"));
    assert_eq!(overdue(&mut world).as_deref(), Some("3 expired"));
    assert_eq!(overdue(&mut world), None);
}

#[test]
fn the_oldest_is_given_up_when_too_many_are_unanswered() {
    let mut world = World::at(Stage::Placed(NEW));
    let give_up = world.now + Duration::from_secs(70);
    let mut send = |n: usize| {
        let effect = world.session.on_sent_away(n.to_string().into(), "other".into(), give_up);
        effect_shown(&effect)
    };
    assert!((0..limits::MAX_UNANSWERED).all(|n| send(n) == "nothing"));
    assert_eq!(send(limits::MAX_UNANSWERED), "undeliverable expired");
}

#[test]
fn the_next_deadline_is_the_earliest_of_all() {
    let mut world = World::at(Stage::Placed(NEW));
    let silence = world.session.next_deadline(&world.limits);
    let give_up = world.now + Duration::from_secs(1);
    assert!(give_up < silence);
    world.session.on_sent_away("1".into(), "other".into(), give_up);
    assert_eq!(world.session.next_deadline(&world.limits), give_up);
    world.hears(Mail::Receipt(delivered("1")));
    assert_eq!(world.session.next_deadline(&world.limits), silence);
}

#[test]
fn a_session_that_was_moved_gets_a_list_at_its_new_place() {
    let moved = || Mail::Moved { place: MY_PLACE + 5, members: vec![member("other", 1)] };
    let nothing = "nothing: accepted";
    check(
        "moved",
        |world| world.hears(moved()),
        [nothing, nothing, nothing, "list of 1: accepted", "list of 1 and welcome: accepted"],
    );
    let mut world = World::at(Stage::Placed(NEW));
    world.hears(moved());
    assert_eq!(world.session.place(), Some(MY_PLACE + 5));
    assert_eq!(world.hears(Mail::Joined(member("before", MY_PLACE + 4))), nothing, "it is in the list");
    assert_eq!(signal_number(&mut world), Some(1));
}

#[test]
fn who_is_listed_and_asked_for_it_may_resume() {
    let resumable = |stage| World::at(stage).session.is_resumable();
    assert!(resumable(Stage::Placed(NEW)));
    assert!(resumable(Stage::Placed(Some(Capabilities::RESUME))));
    assert!(!resumable(Stage::Placed(OLD)));
    assert!(!resumable(Stage::Placed(Some(Capabilities::FEEDBACK))));
    assert!(!resumable(Stage::Waiting(NEW)));
    assert!(!resumable(Stage::Connected));
    let mut revoked = World::at(Stage::Placed(NEW));
    revoked.stands(Standing::Revoked);
    assert!(!revoked.session.is_resumable(), "also before it heard of it");
}

#[test]
fn the_offer_to_resume_is_for_those_who_asked() {
    let offered = |client| match World::at(Stage::Placed(client)).place(vec![]) {
        ServerMessage::PeerList { welcome, .. } => welcome.and_then(|welcome| welcome.resume),
        other => panic!("{other:?}"),
    };
    assert_eq!(offered(NEW), offers().resume);
    assert_eq!(offered(Some(Capabilities::FEEDBACK)), None);
    assert_eq!(offered(OLD), None);
    let shown = format!("{:?}", offered(NEW));
    assert!(!shown.contains("resume-token"), "a secret in {shown}");
}

#[test]
fn a_session_leaves_everything_that_its_heir_needs() {
    let mut world = World::at(Stage::Placed(NEW));
    signal_number(&mut world);
    let give_up = world.now + Duration::from_secs(70);
    world.session.on_sent_away("1".into(), "other".into(), give_up);
    let Remains { capabilities, place, replay, mut unanswered } = world.session.into_remains();
    assert_eq!((capabilities, place, replay.last()), (Capabilities::OFFERED, Some(MY_PLACE), 1));
    assert_eq!(unanswered.drain().collect::<Vec<_>>(), [("1".into(), "other".into())]);

    let Remains { capabilities, place, replay, .. } = World::at(Stage::Connected).session.into_remains();
    assert_eq!((capabilities, place, replay.last()), (Capabilities::NONE, None, 0));
}
