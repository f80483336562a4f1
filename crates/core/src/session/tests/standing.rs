//! What the right of a peer and the lease of its node allow, and what is told of it.

use super::*;

#[test]
fn who_is_not_approved_is_shown_nobody() {
    for standing in [Standing::Unknown, Standing::Pending, Standing::Rejected, Standing::Revoked] {
        for (client, expect) in [(OLD, "list of 0: accepted"), (NEW, "list of 0 and welcome: accepted")] {
            let mut world = World::new(Limits::default());
            world.stands(standing);
            assert_eq!(world.says(ClientMessage::Register(client)), expect, "{standing:?}");
            assert!(!world.session.is_placed());
        }
    }
}

#[test]
fn without_a_lease_nothing_is_relayed_and_the_sender_may_try_again() {
    let mut world = World::at(Stage::Placed(NEW));
    world.lose_lease();
    let refused = "undeliverable authorization_unavailable: authorization_unavailable";
    assert_eq!(world.says(directed(Kind::Offer)), refused);
    assert_eq!(world.hears(Mail::Signal(world.signal())), "return to other: authorization_unavailable");
    assert_eq!(world.says(ClientMessage::MeshHealth), "health: accepted");
    world.authority.renewed(world.now, TERM);
    assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed");
    assert_eq!(world.hears(Mail::Signal(world.signal())), "signal from other: relayed");
}

#[test]
fn a_sender_learns_nothing_of_standings() {
    for standing in [Standing::Unknown, Standing::Pending, Standing::Rejected, Standing::Revoked] {
        assert_eq!(reason_of(Denial::Sender(standing)), Undeliverable::Unavailable);
        assert_eq!(reason_of(Denial::Target(standing)), Undeliverable::Unavailable);
    }
    assert_eq!(reason_of(Denial::NoLease), Undeliverable::AuthorizationUnavailable);
}

#[test]
fn a_revoked_peer_is_mute_before_it_hears_of_it() {
    let mut world = World::at(Stage::Placed(NEW));
    world.stands(Standing::Revoked);
    assert_eq!(world.says(directed(Kind::Offer)), "undeliverable unavailable: unauthorized");
    assert_eq!(world.hears(Mail::Signal(world.signal())), "return to other: unauthorized");
}

#[test]
fn what_is_queued_is_checked_again_before_it_is_written() {
    for standing in [Standing::Revoked, Standing::Rejected, Standing::Pending] {
        let mut world = World::at(Stage::Placed(NEW));
        let queued = Mail::Signal(world.signal());
        let other = Arc::clone(&world.other);
        world.set(&other.right, standing);
        assert_eq!(world.hears(queued), "return to other: unauthorized", "{standing:?}");
    }
}

#[test]
fn a_waiting_peer_that_is_approved_takes_its_place_and_is_greeted() {
    for (client, greeted, list) in
        [(OLD, None, "list of 1"), (NEW, Some("approved"), "list of 1 and welcome")]
    {
        let mut world = World::at(Stage::Waiting(client));
        assert_eq!(world.becomes(Standing::Approved), "place: accepted");
        assert_eq!(world.session.greeting().as_ref().map(message_shown).as_deref(), greeted);
        assert_eq!(message_shown(&world.place(vec![member("other", 1)])), list);
        assert!(world.session.greeting().is_none(), "greeted once");
        assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed");
    }
}

#[test]
fn an_approval_before_the_register_is_found_there() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.becomes(Standing::Pending), "nothing: accepted");
    assert_eq!(world.becomes(Standing::Approved), "nothing: accepted");
    assert_eq!(world.says(ClientMessage::Register(NEW)), "place: accepted");
    assert!(world.session.greeting().is_none(), "it did not wait");
}

#[test]
fn a_revoked_peer_gives_up_its_place_and_is_told() {
    for (client, farewell) in [(OLD, None), (NEW, Some("revoked me"))] {
        let mut world = World::at(Stage::Placed(client));
        assert_eq!(world.becomes(Standing::Revoked), "unplace: accepted");
        assert!(!world.session.is_placed());
        assert_eq!(world.session.farewell().as_ref().map(message_shown).as_deref(), farewell);
        assert_eq!(world.hears(Mail::Joined(member("new", 99))), "nothing: accepted");
        assert!(world.says(ClientMessage::Register(client)).starts_with("list of 0"));
    }
}

#[test]
fn a_peer_that_waits_in_vain_is_told() {
    for standing in [Standing::Rejected, Standing::Revoked] {
        assert_eq!(World::at(Stage::Waiting(NEW)).becomes(standing), "unplace: accepted");
        // A former session's place may be its own until it registers: once it stayed listed for good.
        assert_eq!(World::at(Stage::Connected).becomes(standing), "unplace: accepted");
    }
}

#[test]
fn a_register_between_revocation_and_its_news_does_not_keep_the_place() {
    let mut world = World::at(Stage::Placed(NEW));
    world.stands(Standing::Revoked);
    assert_eq!(world.says(ClientMessage::Register(NEW)), "list of 0 and welcome: accepted");
    assert_eq!(world.hears(Mail::StandingChanged), "unplace: accepted");
}
