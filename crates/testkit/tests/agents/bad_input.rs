//! What local programs get wrong costs them a clear word, and nobody else anything.

use heliograph_testkit::{LocalProgram, Plan, text};
use serde_json::{Value, json};

use crate::pair;

/// More than a bridge keeps for a program, in messages of this many bytes.
const FLOOD: usize = 500;
const LARGE: usize = 30_000;

#[tokio::test]
async fn each_bad_line_is_answered_and_the_next_one_counts() {
    let cluster = Plan::nodes(2).peers(2).start().await;
    let [(a, mut quiet), (_b, mut b)] = pair(&cluster).await;
    let mut program = a.attach().await;
    let ten_megabytes = "x".repeat(10_000_000);
    let unknown = json!({"type": "send", "payload": {"target_peer": "nobody", "message": {"type": "ping"}}});
    let too_large = json!({"type": "ping", "payload": "x".repeat(300_000)});
    let too_large = json!({"type": "send", "payload": {"target_peer": "peer-1", "message": too_large}});
    let lines: [(&str, &str); 9] = [
        ("malformed", r#"{"type":"send""#),
        ("malformed", "nonsense"),
        ("malformed", "[]"),
        ("malformed", r#"{"payload":{}}"#),
        ("malformed", r#"{"type":"send","payload":{"target_peer":"peer-1","message":"no object"}}"#),
        ("unknown_command", r#"{"type":"dance"}"#),
        ("unknown_peer", &unknown.to_string()),
        ("too_large", &ten_megabytes),
        ("too_large", &too_large.to_string()),
    ];
    for (code, line) in lines {
        program.say(line).await;
        let error = program.expect("error").await;
        assert_eq!(error["code"], code, "{error}");
        let words = text(&error, "message");
        assert!(!words.is_empty() && words.len() < 300 && !words.contains("xxxx"), "{words}");
        // Whoever erred goes on.
        let number = json!({"type": "ping", "request_id": code});
        program.send("peer-1", &number).await;
        assert_eq!(b.message().await.1, number);
    }
    // Nobody else was told anything of it.
    b.send("peer-0", &json!({"type": "ping"})).await;
    assert_eq!(quiet.next().await.0, "message");
}

#[tokio::test]
async fn a_program_that_never_reads_is_cut_off_and_the_others_miss_nothing() {
    let cluster = Plan::nodes(1).peers(2).start().await;
    let [(a, mut reader), (_b, b)] = pair(&cluster).await;
    let _never_reads = a.attach().await;
    let sender = tokio::spawn(flood(b));
    for number in 0..FLOOD {
        assert_eq!(reader.message().await.1["request_id"], number);
    }
    sender.await.unwrap();
    assert!(a.log().contains("does not read what it is sent; it is cut off"), "{}", a.log());
}

async fn flood(mut program: LocalProgram) {
    let payload = Value::from("x".repeat(LARGE));
    for number in 0..FLOOD {
        let message = json!({"type": "ping", "request_id": number, "payload": payload});
        program.send("peer-0", &message).await;
    }
    // Not before they are through: who hangs up takes along what the bridge has not read yet.
    program.say(r#"{"type":"list_peers"}"#).await;
    program.expect("peer_list").await;
}
