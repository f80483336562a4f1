//! What programs are told of the mesh.

use super::{Bounds, Local, Notice, World, peer};

#[tokio::test]
async fn all_programs_hear_everything_in_one_order() {
    let world = World::new().await;
    let mut programs = [world.program().await, world.program().await, world.program().await];
    world.hub.tell(Notice::PeerConnected(peer("tab-1"))).await;
    for n in 0..100 {
        world.message("tab-1", &format!(r#"{{"type":"n","n":{n}}}"#)).await;
    }
    world.hub.tell(Notice::PeerDisconnected(peer("tab-1"))).await;
    world.hub.tell(Notice::Status(serde_json::json!({ "state": "waiting" }))).await;
    for local in &mut programs {
        assert_eq!(local.hear().await["type"], "peer_connected");
        for n in 0..100 {
            assert_eq!(local.hear().await["payload"]["message"]["n"], n);
        }
        assert_eq!(local.hear().await["type"], "peer_disconnected");
        assert_eq!(local.hear().await["payload"]["state"], "waiting");
    }
}

#[tokio::test]
async fn a_new_program_is_told_of_each_open_channel_once() {
    let world = World::new().await;
    world.hub.tell(Notice::PeerConnected(peer("gone"))).await;
    world.hub.tell(Notice::PeerConnected(peer("tab-1"))).await;
    world.hub.tell(Notice::PeerDisconnected(peer("gone"))).await;
    let mut local = world.program().await;
    world.hub.tell(Notice::PeerConnected(peer("tab-2"))).await;
    for name in ["tab-1", "tab-2"] {
        let heard = local.hear().await;
        assert_eq!((&heard["type"], &heard["payload"]["peer_id"]), (&"peer_connected".into(), &name.into()));
    }
    local.settle().await;
}

#[tokio::test]
async fn messages_that_nobody_heard_are_for_the_first_program() {
    let world = World::new().await;
    // One that comes and goes again takes none with it that come later.
    drop(world.program().await);
    super::eventually("it is gone", || world.hub.programs() == 0).await;
    world.hub.tell(Notice::PeerConnected(peer("tab-1"))).await;
    world.message("tab-1", r#"{"type":"early"}"#).await;
    let mut first = world.program().await;
    let mut second = world.program().await;
    world.message("tab-1", r#"{"type":"late"}"#).await;
    assert_eq!(first.hear().await["type"], "peer_connected");
    assert_eq!(first.hear().await["payload"]["message"]["type"], "early");
    assert_eq!(first.hear().await["payload"]["message"]["type"], "late");
    assert_eq!(second.hear().await["type"], "peer_connected");
    assert_eq!(second.hear().await["payload"]["message"]["type"], "late");
}

#[tokio::test]
async fn what_could_not_be_kept_is_counted() {
    let check = async |bounds: Bounds, text: &str| {
        let world = World::with(bounds).await;
        for n in 0..10 {
            world.message("tab-1", &format!(r#"{{"type":"n","n":{n},"text":"{text}"}}"#)).await;
        }
        let mut local = world.program().await;
        let missed = local.hear().await;
        assert_eq!((&missed["payload"]["code"], &missed["payload"]["count"]), (&"missed".into(), &7.into()));
        for n in 7..10 {
            assert_eq!(local.hear().await["payload"]["message"]["n"], n);
        }
        local.settle().await;
        hears_no_more_of_it(&world, local).await;
    };
    check(Bounds { queue_lines: 3, ..Bounds::DEFAULT }, "").await;
    check(Bounds { queue_bytes: 3_500, ..Bounds::DEFAULT }, &"x".repeat(1_000)).await;
}

async fn hears_no_more_of_it(world: &World, first: Local) {
    let mut second = world.program().await;
    second.settle().await;
    drop(first);
}
