//! What programs are told of the mesh.

use std::time::Duration;

use super::{Bounds, Notice, PATIENCE, World, peer};

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

fn settling(settling: Duration) -> Bounds {
    Bounds { settling, ..Bounds::DEFAULT }
}

#[tokio::test]
async fn messages_that_nobody_heard_are_for_the_first_program_that_stays() {
    let world = World::with(settling(Duration::from_millis(20))).await;
    world.hub.tell(Notice::PeerConnected(peer("tab-1"))).await;
    world.message("tab-1", r#"{"type":"early"}"#).await;
    let mut first = world.program().await;
    world.message("tab-1", r#"{"type":"late"}"#).await;
    assert_eq!(first.hear().await["type"], "peer_connected");
    assert_eq!(first.hear().await["payload"]["message"]["type"], "early");
    assert_eq!(first.hear().await["payload"]["message"]["type"], "late");
    let mut second = world.program().await;
    assert_eq!(second.hear().await["type"], "peer_connected");
    world.message("tab-1", r#"{"type":"next"}"#).await;
    for local in [&mut first, &mut second] {
        assert_eq!(local.hear().await["payload"]["message"]["type"], "next");
    }
}

/// As `heliograph agent status` does.
#[tokio::test]
async fn who_only_looks_in_takes_no_message_away() {
    let world = World::with(settling(PATIENCE)).await;
    world.message("tab-1", r#"{"type":"early"}"#).await;
    let mut visitor = world.program().await;
    visitor.settle().await;
    world.message("tab-1", r#"{"type":"late"}"#).await;
    visitor.settle().await;
    drop(visitor);
    super::eventually("it is gone", || world.hub.programs() == 0).await;
    let mut local = world.program().await;
    world.hub.settle();
    assert_eq!(local.hear().await["payload"]["message"]["type"], "early");
    assert_eq!(local.hear().await["payload"]["message"]["type"], "late");
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
    };
    let bounds = settling(Duration::ZERO);
    check(Bounds { kept_lines: 3, ..bounds }, "").await;
    check(Bounds { kept_bytes: 3_500, ..bounds }, &"x".repeat(1_000)).await;
}

/// With somebody there to hear it, nothing is forgotten: what was kept is handed out early.
#[tokio::test]
async fn nothing_is_forgotten_once_a_program_is_there() {
    let world = World::with(Bounds { kept_lines: 3, ..settling(PATIENCE) }).await;
    world.message("tab-1", r#"{"type":"n","n":0}"#).await;
    let mut local = world.program().await;
    for n in 1..10 {
        world.message("tab-1", &format!(r#"{{"type":"n","n":{n}}}"#)).await;
    }
    for n in 0..10 {
        assert_eq!(local.hear().await["payload"]["message"]["n"], n);
    }
}
