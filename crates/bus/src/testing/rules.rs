//! The rules, one function each. Every one of them is a promise in the docs of the traits.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use heliograph_core::id::{Epoch, GatewayId, PeerId, RoomName, SpaceName};
use heliograph_core::message::Member;

use super::{TestNode, mesh, peer, signal, visit};
use crate::{BusError, Destination, Heir, Parcel, Place, Previous, Reseated, Seat, Sent, TakeOver, Visit};

fn to(name: &str) -> Destination {
    Destination::Peer(mesh(), peer(name))
}

fn left(name: &str) -> Parcel {
    Parcel::Left { member: Member::new(peer(name), 1), at: 2 }
}

async fn claim(node: &TestNode, name: &str) -> Epoch {
    node.link.presence.claim(&mesh(), &peer(name), visit()).await.unwrap().epoch
}

async fn place(node: &TestNode, name: &str, epoch: Epoch, place: Place) -> (u64, Vec<PeerId>) {
    let placement = node.link.presence.place(&mesh(), &peer(name), epoch, place).await.unwrap();
    (placement.place, placement.members.into_iter().map(|member| member.peer).collect())
}

async fn who_is(node: &TestNode) -> GatewayId {
    // A node learns its own name from what others are told of its sessions.
    let epoch = claim(node, "who").await;
    let found = node.link.presence.locate(&mesh(), &peer("who")).await.unwrap().unwrap();
    node.link.presence.release(&mesh(), &peer("who"), epoch).await.unwrap();
    found.gateway
}

fn text(parcel: &Parcel) -> String {
    match parcel {
        Parcel::Signal(signal) => String::from_utf8_lossy(&signal.payload).into_owned(),
        other => panic!("a signal expected, not {other:?}"),
    }
}

/// FIFO from one sender to one destination, each parcel at most once.
pub async fn parcels_of_one_sender_arrive_in_order_and_once(nodes: Vec<TestNode>) {
    nodes[1].link.bus.subscribe(to("b")).await.unwrap();
    for i in 0..500 {
        assert_eq!(nodes[0].link.bus.send(to("b"), signal("a", &i.to_string())), Sent::Queued);
    }
    let arrived: Vec<_> = nodes[1].log.wait_for(500).await.iter().map(|(_, p)| text(p)).collect();
    assert_eq!(arrived, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// No subscriber: the sender learns it.
pub async fn nobody_subscribed_is_offline_at_once(nodes: Vec<TestNode>) {
    nodes[1].link.bus.unsubscribe(&to("nobody")).await; // never subscribed: no error
    nodes[0].send_to_nobody(to("nobody"), signal("a", "x")).await;
}

/// What a node sends does not come back to it.
pub async fn a_node_does_not_hear_itself(nodes: Vec<TestNode>) {
    for node in &nodes {
        node.link.bus.subscribe(Destination::Space(mesh())).await.unwrap();
    }
    nodes[0].link.bus.send(Destination::Space(mesh()), left("x"));
    nodes[1].log.wait_for(1).await;
    nodes[2].log.wait_for(1).await;
    assert!(nodes[0].log.all().is_empty());
}

/// After unsubscribing nothing arrives any more.
pub async fn unsubscribed_means_no_more_parcels(nodes: Vec<TestNode>) {
    nodes[1].link.bus.subscribe(to("b")).await.unwrap();
    nodes[0].link.bus.send(to("b"), signal("a", "1"));
    nodes[1].log.wait_for(1).await;
    nodes[1].link.bus.unsubscribe(&to("b")).await;
    nodes[0].send_to_nobody(to("b"), signal("a", "2")).await;
}

/// One publish, every node with members of the mesh receives it.
pub async fn a_mesh_parcel_reaches_every_other_node(nodes: Vec<TestNode>) {
    for node in &nodes {
        node.link.bus.subscribe(Destination::Space(mesh())).await.unwrap();
    }
    nodes[2].link.bus.send(Destination::Space(mesh()), left("x"));
    for node in &nodes[..2] {
        assert_eq!(node.log.wait_for(1).await[0].1, left("x"));
    }
}

/// Newest wins, and learns whom it has to tell.
pub async fn the_newer_claim_wins_and_names_the_older_session(nodes: Vec<TestNode>) {
    let (mesh, a) = (mesh(), peer("a"));
    let first = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    assert_eq!(first.previous, None);
    let second = nodes[1].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    assert!(second.epoch > first.epoch);
    let gateway = who_is(&nodes[0]).await;
    assert_eq!(second.previous, Some(Previous { gateway, epoch: first.epoch, place: None }));
    let refused = nodes[0].link.presence.place(&mesh, &a, first.epoch, Place::New).await;
    assert_eq!(refused, Err(BusError::Superseded));
    assert!(claim(&nodes[1], "a").await > second.epoch);
}

/// What was sent before the fence stands before it, for the older node and for the newer one, which sent it.
pub async fn a_fence_stands_in_one_place_for_both_nodes(nodes: Vec<TestNode>) {
    nodes[0].link.bus.subscribe(to("b")).await.unwrap();
    nodes[1].link.bus.subscribe(to("b")).await.unwrap();
    let sending = async {
        for i in 0..200 {
            nodes[2].link.bus.send(to("b"), signal("a", &i.to_string()));
            tokio::task::yield_now().await;
        }
    };
    let fencing = async {
        nodes[2].log.wait_for(0).await;
        nodes[1].link.bus.send(to("b"), Parcel::Superseded { by: Epoch(7) });
    };
    tokio::join!(sending, fencing);
    let older = nodes[0].log.wait_for(201).await;
    let newer = nodes[1].log.wait_for(201).await;
    assert_eq!(older, newer);
    let fences = older.iter().filter(|(_, parcel)| *parcel == Parcel::Superseded { by: Epoch(7) });
    assert_eq!(fences.count(), 1);
}

/// A node's own channel.
pub async fn a_parcel_for_a_node_reaches_that_node_alone(nodes: Vec<TestNode>) {
    let gateway = who_is(&nodes[1]).await;
    nodes[0].link.bus.send(Destination::Gateway(gateway.clone()), Parcel::Drain { on: true });
    let arrived = nodes[1].log.wait_for(1).await;
    assert_eq!(arrived, [(Destination::Gateway(gateway), Parcel::Drain { on: true })]);
    assert_eq!(nodes[0].log.all(), []);
    assert_eq!(nodes[2].log.all(), []);
}

/// Whoever wants to take over from a node that is gone hears so, and need not wait.
pub async fn who_asks_a_node_that_is_gone_is_told(nodes: Vec<TestNode>) {
    let heir = Heir { space: mesh(), peer: peer("a"), by: Epoch(2) };
    let gone = GatewayId::parse("gw-that-is-gone").unwrap();
    let request = TakeOver {
        space: heir.space.clone(),
        peer: heir.peer.clone(),
        by: heir.by,
        to: who_is(&nodes[0]).await,
        token: "rs_x".into(),
        received: None,
    };
    match nodes[0].link.bus.send(Destination::Gateway(gone), Parcel::TakeOver(request)) {
        Sent::Offline => {}
        sent => {
            assert_eq!(sent, Sent::Queued);
            nodes[0].log.wait_until(|log| log.deserted() == [heir.clone()]).await;
        }
    }
}

/// Release compares epochs.
pub async fn a_late_release_never_removes_the_newer_session(nodes: Vec<TestNode>) {
    let (mesh, a) = (mesh(), peer("a"));
    let first = claim(&nodes[0], "a").await;
    place(&nodes[0], "a", first, Place::New).await;
    let second = claim(&nodes[1], "a").await;
    place(&nodes[1], "a", second, Place::New).await;
    assert!(!nodes[0].link.presence.release(&mesh, &a, first).await.unwrap());
    let found = nodes[2].link.presence.locate(&mesh, &a).await.unwrap().unwrap();
    assert_eq!((found.epoch, found.placed, found.visit), (second, true, visit()));
    assert!(nodes[1].link.presence.release(&mesh, &a, second).await.unwrap());
    assert_eq!(nodes[2].link.presence.locate(&mesh, &a).await.unwrap(), None);
    assert_eq!(nodes[2].link.presence.online(&mesh).await.unwrap(), 0);
}

/// Between a drop and a resumption nobody is told anything; who does not resume starts anew.
pub async fn a_place_is_inherited_until_a_new_one_is_taken(nodes: Vec<TestNode>) {
    let first = claim(&nodes[0], "a").await;
    let (old, _) = place(&nodes[0], "a", first, Place::New).await;
    let claimed = nodes[1].link.presence.claim(&mesh(), &peer("a"), visit()).await.unwrap();
    assert_eq!(claimed.previous.and_then(|previous| previous.place), Some(old));
    assert_eq!(nodes[2].link.presence.online(&mesh()).await.unwrap(), 0, "it may yet begin anew");
    assert_eq!(place(&nodes[1], "a", claimed.epoch, Place::Same).await, (old, vec![]));
    assert_eq!(nodes[2].link.presence.online(&mesh()).await.unwrap(), 1);
    nodes[2].link.bus.subscribe(Destination::Space(mesh())).await.unwrap();
    let (new, _) = place(&nodes[1], "a", claimed.epoch, Place::New).await;
    assert!(new > old);
    let news: Vec<_> = nodes[2].log.wait_for(2).await.into_iter().map(|(_, parcel)| parcel).collect();
    let member = |place| Member::new(peer("a"), place);
    assert!(
        matches!(&news[0], Parcel::Left { member: gone, at } if *gone == member(old) && (old..new).contains(at)),
        "{news:?}"
    );
    assert_eq!(news[1], Parcel::Joined(member(new)));
}

/// Whoever registers while a peer is away is not told of it, but the peer of them when it is back.
pub async fn a_hidden_session_is_not_listed_until_it_is_back(nodes: Vec<TestNode>) {
    let (ea, eb) = (claim(&nodes[0], "a").await, claim(&nodes[1], "b").await);
    let (at, _) = place(&nodes[0], "a", ea, Place::New).await;
    nodes[0].link.presence.hide(&mesh(), &peer("a"), ea).await.unwrap();
    nodes[0].link.presence.hide(&mesh(), &peer("b"), ea).await.unwrap(); // no place: nothing to hide
    assert_eq!(place(&nodes[1], "b", eb, Place::New).await.1, []);
    assert_eq!(nodes[2].link.presence.online(&mesh()).await.unwrap(), 1);
    assert_eq!(place(&nodes[0], "a", ea, Place::Same).await, (at, vec![peer("b")]));
    assert_eq!(nodes[2].link.presence.online(&mesh()).await.unwrap(), 2);
    nodes[0].link.presence.hide(&mesh(), &peer("a"), ea).await.unwrap();
    assert!(
        nodes[0].link.presence.release(&mesh(), &peer("a"), ea).await.unwrap(),
        "it had a place all the time"
    );
}

/// One order of coming and going, the same for all nodes, the one that changes something among them.
pub async fn news_come_to_all_nodes_in_the_order_in_which_they_happened(nodes: Vec<TestNode>) {
    for node in &nodes {
        node.link.bus.subscribe(Destination::Space(mesh())).await.unwrap();
    }
    let visits = |node: usize, name: &'static str| {
        let node = &nodes[node];
        async move {
            for _ in 0..20 {
                let epoch = claim(node, name).await;
                place(node, name, epoch, Place::New).await;
                node.link.presence.release(&mesh(), &peer(name), epoch).await.unwrap();
            }
        }
    };
    tokio::join!(visits(0, "a"), visits(1, "b"), visits(2, "c"));
    let seen = nodes[0].log.wait_for(120).await;
    for node in &nodes[1..] {
        assert_eq!(node.log.wait_for(120).await, seen);
    }
    let at = |parcel: &Parcel| match parcel {
        Parcel::Joined(member) => member.place,
        Parcel::Left { at, .. } => *at,
        other => panic!("news expected, not {other:?}"),
    };
    assert!(seen.is_sorted_by(|a, b| at(&a.1) < at(&b.1)), "{seen:?}");
}

/// The later one lists the earlier one, and not the other way round.
pub async fn of_two_placed_exactly_one_lists_the_other(nodes: Vec<TestNode>) {
    let (ea, eb) = (claim(&nodes[0], "a").await, claim(&nodes[1], "b").await);
    let (first, seen_by_a) = place(&nodes[0], "a", ea, Place::New).await;
    let (second, seen_by_b) = place(&nodes[1], "b", eb, Place::New).await;
    assert_eq!((seen_by_a, seen_by_b), (vec![], vec![peer("a")]));
    assert!(second > first);
}

/// A later `register` on the same socket lists everyone, also those who came later; the place stays.
pub async fn a_second_look_returns_everyone(nodes: Vec<TestNode>) {
    let (ea, eb) = (claim(&nodes[0], "a").await, claim(&nodes[1], "b").await);
    let (first, _) = place(&nodes[0], "a", ea, Place::New).await;
    place(&nodes[1], "b", eb, Place::New).await;
    assert_eq!(place(&nodes[0], "a", ea, Place::Same).await, (first, vec![peer("b")]));
}

/// A session without a place is on, but nobody sees it.
pub async fn unplaced_sessions_are_not_listed(nodes: Vec<TestNode>) {
    let (mesh, a) = (mesh(), peer("a"));
    let (ea, eb) = (claim(&nodes[0], "a").await, claim(&nodes[1], "b").await);
    place(&nodes[0], "a", ea, Place::New).await;
    assert!(nodes[0].link.presence.unplace(&mesh, &a, ea).await.unwrap());
    assert!(!nodes[0].link.presence.unplace(&mesh, &a, ea).await.unwrap());
    assert_eq!(place(&nodes[1], "b", eb, Place::New).await.1, []);
    assert!(nodes[2].link.presence.locate(&mesh, &a).await.unwrap().is_some());
}

/// After an upheaval a node says whom it has.
pub async fn what_is_said_again_is_kept_or_superseded(nodes: Vec<TestNode>) {
    let (ea, eb) = (claim(&nodes[0], "a").await, claim(&nodes[0], "b").await);
    let (at, _) = place(&nodes[0], "a", ea, Place::New).await;
    let newer = claim(&nodes[1], "b").await;
    let seat = |name, epoch, place| Seat {
        space: mesh(),
        peer: peer(name),
        epoch,
        place,
        hidden: false,
        visit: visit(),
    };
    let said = nodes[0].link.presence.reseat(&[seat("a", ea, Some(at)), seat("b", eb, None)]).await.unwrap();
    assert_eq!(said, [Reseated::Kept, Reseated::Superseded(newer)]);
    let found = nodes[2].link.presence.locate(&mesh(), &peer("a")).await.unwrap().unwrap();
    assert_eq!((found.epoch, found.placed), (ea, true));
}

/// G9 at the seam: of every pair exactly one lists the other, whatever the timing.
pub async fn hundreds_registering_at_once_are_introduced_once(nodes: Vec<TestNode>) {
    let nodes = Arc::new(nodes);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..150 {
        let nodes = Arc::clone(&nodes);
        tasks.spawn(async move {
            let presence = &nodes[i % nodes.len()].link.presence;
            let me = peer(&format!("p{i}"));
            let epoch = presence.claim(&mesh(), &me, visit()).await.unwrap().epoch;
            let placed = presence.place(&mesh(), &me, epoch, Place::New).await.unwrap();
            placed.members.into_iter().map(|other| (me.clone(), other.peer)).collect::<Vec<_>>()
        });
    }
    let seen: HashSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    for i in 0..150 {
        for j in 0..i {
            let (a, b) = (peer(&format!("p{i}")), peer(&format!("p{j}")));
            let one_way = seen.contains(&(a.clone(), b.clone()));
            let other_way = seen.contains(&(b, a));
            assert!(one_way != other_way, "p{i} and p{j}: {one_way} {other_way}");
        }
    }
}

/// The room of the tests.
fn room(name: &str) -> SpaceName {
    SpaceName::room_of(mesh().mesh(), &RoomName::parse(name).unwrap())
}

fn visit_showing(profile: &'static str) -> Visit {
    Visit { profile: Some(Bytes::from_static(profile.as_bytes())), ..visit() }
}

fn showing(name: &str, place: u64, profile: &'static str) -> Member {
    Member { profile: visit_showing(profile).profile, ..Member::new(peer(name), place) }
}

/// A room is its own space, and members see in lists and news what others show of themselves.
pub async fn rooms_are_apart_and_show_profiles(nodes: Vec<TestNode>) {
    let (hall, attic) = (room("hall"), room("attic"));
    nodes[1].link.bus.subscribe(Destination::Space(hall.clone())).await.unwrap();
    let presence = &nodes[0].link.presence;
    let shown = "{\"key\": \"a\nb\"} and more";
    let epoch = presence.claim(&hall, &peer("a"), visit_showing(shown)).await.unwrap().epoch;
    let place = presence.place(&hall, &peer("a"), epoch, Place::Same).await.unwrap().place;
    let joined = nodes[1].log.wait_for(1).await.remove(0);
    assert_eq!(joined, (Destination::Space(hall.clone()), Parcel::Joined(showing("a", place, shown))));
    for (space, found) in [(&hall, vec![showing("a", place, shown)]), (&attic, vec![]), (&mesh(), vec![])] {
        let presence = &nodes[2].link.presence;
        let epoch = presence.claim(space, &peer("b"), visit()).await.unwrap().epoch;
        let members = presence.place(space, &peer("b"), epoch, Place::New).await.unwrap().members;
        assert_eq!(members, found, "{space}");
        assert!(presence.release(space, &peer("b"), epoch).await.unwrap());
    }
    let found = nodes[2].link.presence.locate(&hall, &peer("a")).await.unwrap().unwrap();
    assert_eq!(found.visit, visit_showing(shown));
    assert!(presence.release(&hall, &peer("a"), epoch).await.unwrap());
    assert_eq!(nodes[2].link.presence.online(&hall).await.unwrap(), 0);
}

/// Two who come at once to the last seat do not both get it; who is there may come back.
pub async fn a_room_has_no_more_members_than_it_may(nodes: Vec<TestNode>) {
    let hall = room("hall");
    let enter = async |node: usize, name: &str| {
        nodes[node].link.presence.claim_within(&hall, &peer(name), visit(), 2).await
    };
    let first = enter(0, "a").await.unwrap();
    let (b, c) = tokio::join!(enter(1, "b"), enter(2, "c"));
    assert!(b.is_ok() != c.is_ok(), "{b:?} {c:?}");
    assert_eq!(enter(0, "d").await, Err(BusError::Full));
    let again = enter(1, "a").await.unwrap();
    assert_eq!(again.previous.map(|previous| previous.epoch), Some(first.epoch));
    nodes[1].link.presence.release(&hall, &peer("a"), again.epoch).await.unwrap();
    enter(2, "d").await.unwrap();
}

/// In a room nobody who comes while a member is claimed anew misses it, and nobody hears that it was away.
pub async fn a_member_that_comes_back_was_there_all_the_time(nodes: Vec<TestNode>) {
    let hall = room("hall");
    nodes[2].link.bus.subscribe(Destination::Space(hall.clone())).await.unwrap();
    let claim = async |node: usize, name: &str, profile: &'static str| {
        nodes[node].link.presence.claim(&hall, &peer(name), visit_showing(profile)).await.unwrap().epoch
    };
    let place = async |node: usize, name: &str, epoch| {
        nodes[node].link.presence.place(&hall, &peer(name), epoch, Place::Same).await.unwrap()
    };
    let old = claim(0, "a", "old").await;
    let at = place(0, "a", old).await.place;
    let new = claim(1, "a", "new").await;
    let b = claim(2, "b", "b").await;
    let b = place(2, "b", b).await;
    assert_eq!(b.members, [showing("a", at, "new")], "listed under the new profile, once");
    let back = place(1, "a", new).await;
    assert_eq!((back.place, back.members), (at, vec![showing("b", b.place, "b")]));
    assert!(!nodes[0].link.presence.release(&hall, &peer("a"), old).await.unwrap());
    assert!(nodes[1].link.presence.release(&hall, &peer("a"), new).await.unwrap());
    let news: Vec<_> = nodes[2].log.wait_for(3).await.into_iter().map(|(_, parcel)| parcel).collect();
    let [Parcel::Joined(a), Parcel::Joined(other), Parcel::Left { member: left, .. }] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(
        (a, other, left),
        (&showing("a", at, "old"), &showing("b", b.place, "b"), &Member::new(peer("a"), at))
    );
}
