//! What a client gets by what it asked for.

use proptest::prelude::*;

use super::*;

/// Each capability brings what it stands for and nothing else.
#[test]
fn a_client_gets_what_it_asked_for_and_no_more() {
    let inputs = |world: &mut World| {
        vec![
            world.hears(Mail::Joined(member("other", MY_PLACE + 1))),
            world.hears(Mail::Left { peer: PeerId::parse("other").unwrap(), at: MY_PLACE + 1 }),
            world.says(to(None, Kind::Offer, b"{}")),
            world.says(unknown()),
            world.hears(Mail::IceServers(Arc::new(vec![]))),
            world.hears(Mail::GoAway { reconnect_after_ms: 1, deadline_ms: 2 }),
        ]
        .into_iter()
        .filter(|shown| !shown.starts_with("nothing"))
        .collect::<Vec<_>>()
    };
    let check = |asked: Capabilities, expect: &[&str]| {
        assert_eq!(inputs(&mut World::at(Stage::Placed(Some(asked)))), expect, "{asked:?}");
    };
    check(Capabilities::NONE, &[]);
    check(Capabilities::EVENTS, &["joined other: accepted", "left other: accepted"]);
    check(Capabilities::FEEDBACK, &["undeliverable malformed: malformed", "error unknown_type: ignored"]);
    check(Capabilities::ROLES, &[]);
    check(
        Capabilities::ROLES.with(Capabilities::EVENTS),
        &["joined other, impolite: accepted", "left other: accepted"],
    );
    check(Capabilities::ICE, &["ice_servers: accepted"]);
    check(Capabilities::GOAWAY, &["goaway: accepted"]);
}

#[test]
fn ice_servers_come_with_the_list_where_asked() {
    let servers = |client| match World::at(Stage::Placed(client)).place(vec![]) {
        ServerMessage::PeerList { welcome, .. } => {
            welcome.is_some_and(|welcome| welcome.ice_servers.is_some())
        }
        other => panic!("{other:?}"),
    };
    assert!(servers(Some(Capabilities::ICE)));
    assert!(!servers(Some(Capabilities::ROLES)));
    assert!(!servers(OLD));
}

#[test]
fn extending_clients_need_no_capability_to_relay_their_own_types() {
    let mut world = World::at(Stage::Placed(Some(Capabilities::NONE)));
    assert_eq!(world.says(directed(application())), "relay to other: relayed");
}

#[test]
fn a_second_register_keeps_or_replaces_what_the_client_is() {
    let check = |first, second, expect| {
        let mut world = World::at(Stage::Placed(first));
        assert_eq!(world.says(ClientMessage::Register(second)), "place: accepted");
        assert_eq!(
            message_shown(&world.place(vec![member("other", 1)])),
            expect,
            "{first:?}, then {second:?}"
        );
        assert!(world.session.is_placed());
    };
    check(OLD, OLD, "list of 1");
    check(OLD, NEW, "list of 1 and welcome");
    check(NEW, OLD, "list of 1 and welcome");
    check(NEW, Some(Capabilities::NONE), "list of 1 and welcome");
}

#[test]
fn a_receipt_is_asked_for_by_feedback_and_an_id() {
    let check = |client, id: Option<&'static str>, expect| {
        let mut world = World::at(Stage::Placed(client));
        let Directed { kind, target, payload, .. } = match directed(Kind::Offer) {
            ClientMessage::Directed(directed) => directed,
            other => panic!("{other:?}"),
        };
        let message = ClientMessage::Directed(Directed { kind, target, id: id.map(Cow::Borrowed), payload });
        let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message };
        match world.session.on_client(envelope, &world.authority, &world.limits, world.now).effect {
            Effect::Relay { signal, .. } => assert_eq!(signal.receipt, expect, "{client:?}, {id:?}"),
            other => panic!("{other:?}"),
        }
    };
    check(NEW, Some("7"), true);
    check(NEW, None, false);
    check(Some(Capabilities::EVENTS), Some("7"), false);
    check(OLD, Some("7"), false);
}

proptest! {
    /// Whichever way two sessions learn of each other, one yields and one insists.
    #[test]
    fn both_sides_of_a_pair_agree_on_their_roles(places in any::<(u64, u64)>()) {
        prop_assume!(places.0 != places.1);
        let (earlier, later) = (places.0.min(places.1), places.0.max(places.1));
        let mut first = World::at(Stage::Placed(NEW));
        first.session.on_placed(earlier, vec![], Offers::default());
        prop_assert_eq!(first.hears(Mail::Joined(member("later", later))), "joined later, impolite: accepted");
        let mut second = World::at(Stage::Placed(NEW));
        let list = second.session.on_placed(later, vec![member("earlier", earlier)], Offers::default());
        let ServerMessage::PeerList { peers, welcome: Some(welcome) } = list else { panic!("{list:?}") };
        prop_assert_eq!(Role::of(welcome.place, peers[0].place), Role::Polite);
        prop_assert_eq!(second.hears(Mail::Joined(member("earlier", earlier))), "nothing: accepted");
    }
}
