//! What programs command, and what they hear of it.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{Bounds, Local, World, eventually};

#[tokio::test]
async fn commands_reach_the_mesh_in_order_and_without_a_word() {
    let world = World::new().await;
    let mut local = world.program().await;
    for n in 0..50 {
        local
            .say(&format!(
                r#"{{"type":"send","payload":{{"target_peer":"tab-1","message":{{"type":"n", "n":{n}}}}}}}"#
            ))
            .await;
    }
    local.say(r#"{"type":"broadcast","payload":{"message":{"type":"all"}}}"#).await;
    local.say(r#"{"type":"connect","payload":{"target_peer_id":"tab-2"}}"#).await;
    local.settle().await;
    let mut expect: Vec<String> = (0..50).map(|n| format!(r#"send tab-1 {{"type":"n", "n":{n}}}"#)).collect();
    expect.extend([r#"broadcast {"type":"all"}"#.to_owned(), "connect tab-2".to_owned()]);
    assert_eq!(world.mesh.done(), expect);
}

#[tokio::test]
async fn a_command_with_an_id_has_one_answer() {
    let world = World::new().await;
    let mut local = world.program().await;
    let mut check = async |command: &str, expect: serde_json::Value| {
        local.say(command).await;
        assert_eq!(local.hear().await, expect, "{command}");
    };
    check(
        r#"{"type":"send","id":1,"payload":{"target_peer":"tab-1","message":{"type":"x"}}}"#,
        json!({ "type": "ok", "id": 1, "payload": { "command": "send" } }),
    )
    .await;
    check(
        r#"{"type":"broadcast","id":2,"payload":{"message":{"type":"x"}}}"#,
        json!({ "type": "ok", "id": 2, "payload": { "command": "broadcast", "peers": 2 } }),
    )
    .await;
    check(
        r#"{"type":"connect","id":"c","payload":{"target_peer_id":"tab-1"}}"#,
        json!({ "type": "ok", "id": "c", "payload": { "command": "connect" } }),
    )
    .await;
    check(
        r#"{"type":"list_peers","id":"l"}"#,
        json!({ "type": "peer_list", "id": "l", "payload": { "peers": ["tab-1", "tab-2"] } }),
    )
    .await;
    check(
        r#"{"type":"status"}"#,
        json!({ "type": "status", "payload": { "state": "online", "peer_id": "me" } }),
    )
    .await;
    let refused = json!({
        "code": "unknown_peer", "message": "no peer nobody is in the mesh now", "command": "send", "peer": "nobody",
    });
    check(
        r#"{"type":"send","id":3,"payload":{"target_peer":"nobody","message":{"type":"x"}}}"#,
        json!({ "type": "error", "id": 3, "payload": refused }),
    )
    .await;
}

/// One program's full peer is no other program's matter.
#[tokio::test]
async fn a_command_that_waits_for_room_stops_its_own_program_only() {
    let world = World::new().await;
    let mut waiting = world.program().await;
    let mut other = world.program().await;
    waiting.say(r#"{"type":"send","id":1,"payload":{"target_peer":"full","message":{"type":"x"}}}"#).await;
    waiting.say(r#"{"type":"send","id":2,"payload":{"target_peer":"tab-1","message":{"type":"y"}}}"#).await;
    other.settle().await;
    // Notices come to it all the same.
    world.message("tab-1", r#"{"type":"hello"}"#).await;
    assert_eq!(waiting.hear().await["type"], "message");
    assert_eq!(world.mesh.done(), [""; 0]);
    world.mesh.room.add_permits(1);
    assert_eq!(waiting.hear().await["id"], 1);
    assert_eq!(waiting.hear().await["id"], 2);
}

/// `printf … | socat - UNIX-CONNECT:…` ends its side at once.
#[tokio::test]
async fn who_ends_its_own_side_still_gets_the_answers() {
    let world = World::new().await;
    let mut local = world.program().await;
    local.say(r#"{"type":"status"}"#).await;
    // Without an end of its line.
    local.say_bytes(br#"{"type":"list_peers","id":1}"#).await;
    let Local { mut lines, writer } = local;
    drop(writer);
    let mut kinds = vec![];
    while let Some(line) = lines.next_line().await.unwrap() {
        kinds.push(serde_json::from_str::<serde_json::Value>(&line).unwrap()["type"].clone());
    }
    assert_eq!(kinds, ["status", "peer_list"]);
    eventually("the program is gone", || world.hub.programs() == 0).await;
}

/// As a script does that says something and ends: it does not wait for what others say meanwhile.
#[tokio::test]
async fn what_a_program_said_before_it_went_is_carried_out() {
    const LINES: usize = 200;
    let world = World::new().await;
    for round in 1..=20 {
        let mut local = world.program().await;
        // So much that the bridge is writing when the program goes.
        for _ in 0..50 {
            world.message("tab-1", &format!(r#"{{"type":"x","text":"{}"}}"#, "x".repeat(10_000))).await;
        }
        for _ in 0..LINES {
            local.say(r#"{"type":"send","payload":{"target_peer":"tab-1","message":{"type":"x"}}}"#).await;
        }
        drop(local);
        eventually("all is carried out", || world.mesh.done().len() == round * LINES).await;
        eventually("it is gone", || world.hub.programs() == 0).await;
    }
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_heard_and_has_its_place() {
    let world = World::with(Bounds { programs: 1, ..Bounds::DEFAULT }).await;
    let Local { lines: _lines, mut writer } = world.program().await;
    rustix::net::shutdown(writer.as_ref(), rustix::net::Shutdown::Read).unwrap();
    world.message("tab-1", r#"{"type":"x"}"#).await;
    eventually("the bridge knows", || world.hub.programs() == 0).await;
    Local::connect(&world).await.error("too_many_programs").await;
    let send = b"{\"type\":\"send\",\"payload\":{\"target_peer\":\"tab-1\",\"message\":{\"type\":\"x\"}}}\n";
    writer.write_all(send).await.unwrap();
    eventually("it is obeyed", || world.mesh.done().len() == 1).await;
}
