//! The rules, one function each. Every one of them is a promise in the docs of the traits.

use std::collections::HashSet;
use std::sync::Arc;

use super::{TestNode, mesh, peer, signal, visit};
use crate::{BusError, Destination, Parcel, Sent};

fn to(name: &str) -> Destination {
    Destination::Peer(mesh(), peer(name))
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
    assert_eq!(nodes[0].link.bus.send(to("nobody"), signal("a", "x")), Sent::Offline);
}

/// What a node sends does not come back to it.
pub async fn a_node_does_not_hear_itself(nodes: Vec<TestNode>) {
    for node in &nodes {
        node.link.bus.subscribe(Destination::Mesh(mesh())).await.unwrap();
    }
    nodes[0].link.bus.send(Destination::Mesh(mesh()), Parcel::Left(peer("x")));
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
    assert_eq!(nodes[0].link.bus.send(to("b"), signal("a", "2")), Sent::Offline);
}

/// One publish, every node with members of the mesh receives it.
pub async fn a_mesh_parcel_reaches_every_other_node(nodes: Vec<TestNode>) {
    for node in &nodes {
        node.link.bus.subscribe(Destination::Mesh(mesh())).await.unwrap();
    }
    nodes[2].link.bus.send(Destination::Mesh(mesh()), Parcel::Left(peer("x")));
    for node in &nodes[..2] {
        assert!(matches!(&node.log.wait_for(1).await[0].1, Parcel::Left(who) if *who == peer("x")));
    }
}

/// Newest wins; the node of the older session hears of it.
pub async fn the_newer_claim_wins_and_the_older_node_is_told(nodes: Vec<TestNode>) {
    let (mesh, a) = (mesh(), peer("a"));
    nodes[0].link.bus.subscribe(to("a")).await.unwrap();
    let first = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    let second = nodes[1].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(!first.displaced && !second.displaced);
    let arrived = nodes[0].log.wait_for(1).await;
    assert!(matches!(arrived[0].1, Parcel::Superseded { by } if by == second.epoch), "{arrived:?}");
    let refused = nodes[0].link.presence.place(&mesh, &a, first.epoch).await;
    assert_eq!(refused, Err(BusError::Superseded));
    let third = nodes[1].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    assert!(third.epoch > second.epoch);
}

/// Release compares epochs.
pub async fn a_late_release_never_removes_the_newer_session(nodes: Vec<TestNode>) {
    let (mesh, a) = (mesh(), peer("a"));
    let first = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap().epoch;
    nodes[0].link.presence.place(&mesh, &a, first).await.unwrap();
    let second = nodes[1].link.presence.claim(&mesh, &a, visit()).await.unwrap();
    assert!(second.displaced, "the claimer has to tell the mesh that the older session left");
    let second = second.epoch;
    nodes[1].link.presence.place(&mesh, &a, second).await.unwrap();
    assert!(!nodes[0].link.presence.release(&mesh, &a, first).await.unwrap());
    let found = nodes[2].link.presence.locate(&mesh, &a).await.unwrap().unwrap();
    assert_eq!((found.epoch, found.placed, found.visit), (second, true, visit()));
    assert!(nodes[1].link.presence.release(&mesh, &a, second).await.unwrap());
    assert_eq!(nodes[2].link.presence.locate(&mesh, &a).await.unwrap(), None);
    assert_eq!(nodes[2].link.presence.online(&mesh).await.unwrap(), 0);
}

/// The later one lists the earlier one, and not the other way round.
pub async fn of_two_placed_exactly_one_lists_the_other(nodes: Vec<TestNode>) {
    let (mesh, a, b) = (mesh(), peer("a"), peer("b"));
    let ea = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap().epoch;
    let eb = nodes[1].link.presence.claim(&mesh, &b, visit()).await.unwrap().epoch;
    let first = nodes[0].link.presence.place(&mesh, &a, ea).await.unwrap();
    let second = nodes[1].link.presence.place(&mesh, &b, eb).await.unwrap();
    assert_eq!(first.members, []);
    assert_eq!(second.members.iter().map(|m| m.peer.clone()).collect::<Vec<_>>(), [a]);
    assert!(second.place > first.place);
}

/// A later `register` on the same socket lists everyone, also those who came later; the place stays.
pub async fn a_second_look_returns_everyone(nodes: Vec<TestNode>) {
    let (mesh, a, b) = (mesh(), peer("a"), peer("b"));
    let ea = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap().epoch;
    let eb = nodes[1].link.presence.claim(&mesh, &b, visit()).await.unwrap().epoch;
    let first = nodes[0].link.presence.place(&mesh, &a, ea).await.unwrap();
    nodes[1].link.presence.place(&mesh, &b, eb).await.unwrap();
    let again = nodes[0].link.presence.place(&mesh, &a, ea).await.unwrap();
    assert_eq!(again.place, first.place);
    assert_eq!(again.members.iter().map(|m| m.peer.clone()).collect::<Vec<_>>(), [b]);
}

/// A session without a place is on, but nobody sees it.
pub async fn unplaced_sessions_are_not_listed(nodes: Vec<TestNode>) {
    let (mesh, a, b) = (mesh(), peer("a"), peer("b"));
    let ea = nodes[0].link.presence.claim(&mesh, &a, visit()).await.unwrap().epoch;
    let eb = nodes[1].link.presence.claim(&mesh, &b, visit()).await.unwrap().epoch;
    nodes[0].link.presence.place(&mesh, &a, ea).await.unwrap();
    assert!(nodes[0].link.presence.unplace(&mesh, &a, ea).await.unwrap());
    assert!(!nodes[0].link.presence.unplace(&mesh, &a, ea).await.unwrap());
    assert_eq!(nodes[1].link.presence.place(&mesh, &b, eb).await.unwrap().members, []);
    assert!(nodes[2].link.presence.locate(&mesh, &a).await.unwrap().is_some());
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
            let placed = presence.place(&mesh(), &me, epoch).await.unwrap();
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
