//! Programs that do harm, on purpose or not: they hurt nobody but themselves.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{Bounds, Local, PATIENCE, World, eventually};

const GOOD: &str = r#"{"type":"send","id":"good","payload":{"target_peer":"tab-1","message":{"type":"x"}}}"#;

#[tokio::test]
async fn bad_lines_are_answered_and_the_next_one_counts() {
    let world = World::new().await;
    let mut other = world.program().await;
    let check = async |bad: &[u8], code: &str| {
        let mut local = world.program().await;
        local.say_bytes(bad).await;
        local.say(GOOD).await;
        let message = local.error(code).await;
        assert!(!message.is_empty());
        let answer = local.hear().await;
        assert_eq!((&answer["type"], &answer["id"]), (&"ok".into(), &"good".into()), "after {code}");
        drop(local);
        eventually("it is gone", || world.hub.programs() == 1).await;
    };
    check(b"{\"type\":\n", "malformed").await;
    check(b"hello\n", "malformed").await;
    check(b"\x00\x01\xfe\xff\x80\n", "malformed").await;
    check(b"{\"type\":\"send\xc3\"}\n", "malformed").await;
    check(b"{\"type\":\"dance\"}\n", "unknown_command").await;
    check(b"{\"type\":\"connect\",\"payload\":{\"target_peer_id\":\"nobody\"}}\n", "unknown_peer").await;
    check(b"[]\r\n", "malformed").await;
    other.settle().await;
}

#[tokio::test]
async fn empty_lines_and_carriage_returns_are_nothing() {
    let world = World::new().await;
    let mut local = world.program().await;
    local.say_bytes(b"\n\r\n   \n\t\n").await;
    local.say(&format!("  {GOOD}\r")).await;
    assert_eq!(local.hear().await["id"], "good");
}

/// It is read to its end without being held, and named.
#[tokio::test]
async fn a_line_of_ten_megabytes_is_refused_and_the_next_one_counts() {
    let world = World::new().await;
    let mut other = world.program().await;
    let mut local = world.program().await;
    let mut huge = br#"{"type":"broadcast","payload":{"message":{"type":""#.to_vec();
    huge.resize(10 * 1024 * 1024, b'x');
    huge.extend(b"\"}}}\n");
    local.say_bytes(&huge).await;
    local.say(GOOD).await;
    assert!(local.error("too_large").await.contains("1048576 bytes"));
    assert_eq!(local.hear().await["id"], "good");
    assert_eq!(world.mesh.done(), [r#"send tab-1 {"type":"x"}"#]);
    other.settle().await;
}

#[tokio::test]
async fn a_line_as_long_as_allowed_is_taken() {
    let world = World::new().await;
    let mut local = world.program().await;
    let frame = |text: &str| {
        format!(r#"{{"type":"broadcast","id":1,"payload":{{"message":{{"type":"x","text":"{text}"}}}}}}"#)
    };
    let room = Bounds::DEFAULT.line_bytes - frame("").len();
    local.say(&frame(&"x".repeat(room))).await;
    assert_eq!(local.hear().await["type"], "ok");
    local.say(&frame(&"x".repeat(room + 1))).await;
    local.error("too_large").await;
}

#[tokio::test]
async fn half_a_command_is_none() {
    let world = World::new().await;
    let mut local = world.program().await;
    local.say_bytes(&GOOD.as_bytes()[..GOOD.len() - 1]).await;
    drop(local);
    eventually("the program is gone", || world.hub.programs() == 0).await;
    let mut other = world.program().await;
    other.settle().await;
    assert_eq!(world.mesh.done(), [""; 0]);
}

#[tokio::test]
async fn one_program_too_many_is_told_so() {
    let world = World::with(Bounds { programs: 2, ..Bounds::DEFAULT }).await;
    let first = world.program().await;
    let mut second = world.program().await;
    let mut third = Local::connect(&world).await;
    assert!(third.error("too_many_programs").await.contains("2 programs"));
    assert_eq!(third.line().await, None);
    second.settle().await;
    drop(first);
    eventually("there is a place", || world.hub.programs() == 1).await;
    world.program().await.settle().await;
}

/// Others wait for it once. Then it is cut off, and told so if it ever reads.
#[tokio::test]
async fn a_program_that_never_reads_is_cut_off() {
    let bounds = Bounds {
        queue_lines: 100,
        queue_bytes: 100_000,
        stall: Duration::from_millis(200),
        last_word: PATIENCE,
        ..Bounds::DEFAULT
    };
    let world = World::with(bounds).await;
    let mut deaf = world.program().await;
    let mut other = world.program().await;
    let text = "x".repeat(10_000);
    let count = 300;
    let heard = tokio::spawn(async move {
        for n in 0..count {
            assert_eq!(other.hear().await["payload"]["message"]["n"], n);
        }
        other
    });
    for n in 0..count {
        world.message("tab-1", &format!(r#"{{"type":"n","n":{n},"text":"{text}"}}"#)).await;
    }
    heard.await.unwrap().settle().await;
    eventually("it is cut off", || world.hub.programs() == 1).await;
    let mut last = Value::Null;
    let mut n = 0;
    while let Some(line) = deaf.line().await {
        last = serde_json::from_str(&line).expect("whole lines");
        if last["type"] == "message" {
            assert_eq!(last["payload"]["message"]["n"], n);
            n += 1;
        }
    }
    assert_eq!(last["payload"]["code"], "too_slow");
    assert!(n > 0 && n < count, "{n}");
}

/// Its own answers stop it, and nobody waits.
#[tokio::test]
async fn a_program_that_asks_and_never_reads_is_not_read_any_more() {
    let bounds = Bounds { queue_lines: 10, last_word: Duration::from_millis(10), ..Bounds::DEFAULT };
    let world = World::with(bounds).await;
    let deaf = world.program().await;
    let Local { lines: _lines, mut writer } = deaf;
    let asking =
        tokio::spawn(async move { while writer.write_all(b"{\"type\":\"list_peers\"}\n").await.is_ok() {} });
    let mut other = world.program().await;
    for _ in 0..50 {
        other.settle().await;
    }
    assert!(!asking.is_finished());
    world.end.cancel();
    tokio::time::timeout(PATIENCE, world.serving).await.expect("it ends").unwrap();
    asking.await.unwrap();
}

/// A thousand short visits leave nothing behind.
#[tokio::test]
async fn programs_come_and_go() {
    let world = World::new().await;
    for _ in 0..300 {
        drop(Local::connect(&world).await);
    }
    eventually("all are gone", || world.hub.programs() == 0).await;
    world.program().await.settle().await;
}
