//! What comes of every input, at every stage.

use super::*;

#[test]
fn every_message_at_every_stage() {
    let refused = "undeliverable unavailable: unauthorized";
    let forgotten = "undeliverable malformed: malformed";
    check_message(
        || ClientMessage::Register(None),
        [
            "place: accepted",
            "list of 0: accepted",
            "list of 0 and welcome: accepted",
            "place: accepted",
            "place: accepted",
        ],
    );
    check_message(
        || ClientMessage::Register(NEW),
        [
            "place: accepted",
            "list of 0 and welcome: accepted",
            "list of 0 and welcome: accepted",
            "place: accepted",
            "place: accepted",
        ],
    );
    for kind in [Kind::Offer, Kind::Answer, Kind::Candidate] {
        check_message(
            || directed(kind.clone()),
            [
                "nothing: not_registered",
                "nothing: unauthorized",
                refused,
                "relay to other: relayed",
                "relay to other: relayed",
            ],
        );
        check_message(
            || to(None, kind.clone(), b"{}"),
            ["nothing: not_registered", "nothing: malformed", forgotten, "nothing: malformed", forgotten],
        );
    }
    check_message(
        || directed(application()),
        [
            "nothing: not_registered",
            "nothing: ignored",
            refused,
            "nothing: ignored",
            "relay to other: relayed",
        ],
    );
    let unknown_type = "error unknown_type: ignored";
    check_message(
        unknown,
        ["nothing: ignored", "nothing: ignored", unknown_type, "nothing: ignored", unknown_type],
    );
    check_message(ping, ["pong 1: accepted"; 5]);
    check_message(|| ClientMessage::MeshHealth, ["health: accepted"; 5]);
    check_message(|| ClientMessage::Heartbeat, ["nothing: accepted"; 5]);
}

#[test]
fn nobody_speaks_for_another() {
    for message in
        [ClientMessage::Register(NEW), directed(Kind::Offer), ping(), unknown(), ClientMessage::Heartbeat]
    {
        let told = "error wrong_sender: spoofed";
        check(
            "spoofed",
            |world| world.says_as("other", message.clone()),
            ["nothing: spoofed", "nothing: spoofed", told, "nothing: spoofed", told],
        );
    }
    let mut world = World::at(Stage::Placed(NEW));
    for almost in ["", "Me", "me ", "mee", "registry"] {
        assert_eq!(world.says_as(almost, directed(Kind::Offer)), "error wrong_sender: spoofed", "{almost:?}");
    }
}

/// The message names no sender, which was taken for a spoofed one.
#[test]
fn proving_an_identity_again_is_no_spoof() {
    let message = || ClientMessage::Authenticate { token: Cow::Borrowed("a.b.c") };
    check(
        "authenticate",
        |world| world.says_in(Envelope { sender: None, message: message() }),
        ["nothing: accepted"; 5],
    );
}

#[test]
fn unreadable_frames_are_explained_to_those_who_asked() {
    let told = "error malformed: malformed";
    check(
        "malformed",
        |world| shown(&world.session.on_malformed("not JSON".to_owned(), &world.limits, world.now)),
        ["nothing: malformed", "nothing: malformed", told, "nothing: malformed", told],
    );
}

#[test]
fn a_relayed_message_carries_the_authenticated_sender() {
    let mut world = World::at(Stage::Placed(NEW));
    let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message: directed(Kind::Offer) };
    let step = world.session.on_client(envelope, &world.authority, &world.limits, world.now);
    let Effect::Relay { target, signal } = step.effect else { panic!("{step:?}") };
    assert_eq!((&*target, &*signal.payload, signal.id.as_deref()), ("other", &b"{}"[..], Some("7")));
    assert!(Arc::ptr_eq(&signal.from, &world.peer));
    assert_eq!((signal.from_epoch, signal.accepted_at, signal.via_bus), (Epoch(7), world.now, false));
}

#[test]
fn every_mail_at_every_stage() {
    let nothing = "nothing: accepted";
    let only_placed_new = |what| [nothing, nothing, nothing, nothing, what];
    let other = || PeerId::parse("other").unwrap();
    check(
        "signal",
        |world| world.hears(Mail::Signal(world.signal())),
        [
            "return to other: unavailable",
            "return to other: unavailable",
            "return to other: unavailable",
            "signal from other: relayed",
            "signal from other: relayed",
        ],
    );
    check(
        "joined later",
        |world| world.hears(Mail::Joined(member("other", MY_PLACE + 1))),
        only_placed_new("joined other, impolite: accepted"),
    );
    check("joined earlier", |world| world.hears(Mail::Joined(member("other", MY_PLACE - 1))), [nothing; 5]);
    let left = |at| Mail::Left { peer: PeerId::parse("other").unwrap(), at };
    check("left", |world| world.hears(left(MY_PLACE + 1)), only_placed_new("left other: accepted"));
    check("left before the list", |world| world.hears(left(MY_PLACE - 1)), [nothing; 5]);
    check("revoked", |world| world.hears(Mail::Revoked(other())), only_placed_new("revoked other: accepted"));
    check("no change", |world| world.hears(Mail::StandingChanged), [nothing; 5]);
    let receipt = |failure| Mail::Receipt(Receipt { id: None, target: "other".into(), failure });
    check(
        "delivered",
        |world| world.hears(receipt(None)),
        [nothing, nothing, "delivered: accepted", nothing, "delivered: accepted"],
    );
    let offline = "undeliverable unavailable: accepted";
    check(
        "undeliverable",
        |world| world.hears(receipt(Some(Undeliverable::Unavailable))),
        [nothing, nothing, offline, nothing, offline],
    );
    check(
        "ICE servers",
        |world| world.hears(Mail::IceServers(Arc::new(vec![]))),
        only_placed_new("ice_servers: accepted"),
    );
    check(
        "goaway",
        |world| world.hears(Mail::GoAway { reconnect_after_ms: 1, deadline_ms: 2 }),
        [nothing, nothing, "goaway: accepted", nothing, "goaway: accepted"],
    );
}
