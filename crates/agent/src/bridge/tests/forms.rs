//! The lines, to the letter.

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::forms::{self, Command, Label, Notice, Order, parse};
use super::{peer, unknown};

/// As the original's programs write them.
#[test]
fn commands_of_the_original_are_understood() {
    let check = |line: &str, expect: &str| {
        let Command { label, order } = parse(line.as_bytes()).unwrap();
        assert_eq!(format!("{order:?}"), expect, "{line}");
        assert!(!label.wants_answer(), "{line}");
    };
    let task = r#"{"type":"task_request","request_id":"r1","source_agent":"a","target_agent":"b","payload":{"skill":"x"}}"#;
    let is_task = |message: &RawValue| assert_eq!(message.get(), task);
    let send = format!(r#"{{"type":"send","payload":{{"target_peer":"agent-two","message":{task}}}}}"#);
    match parse(send.as_bytes()).unwrap().order {
        Order::Send { target, message } => {
            assert_eq!(target, "agent-two");
            is_task(message);
        }
        other => panic!("{other:?}"),
    }
    let broadcast = format!(r#"{{"type":"broadcast","payload":{{"message":{task}}}}}"#);
    match parse(broadcast.as_bytes()).unwrap().order {
        Order::Broadcast { message } => is_task(message),
        other => panic!("{other:?}"),
    }
    check(r#"{"type":"list_peers","payload":{}}"#, "ListPeers");
    check(r#"{"type":"list_peers"}"#, "ListPeers");
    check(r#"{"type":"status","payload":null}"#, "Status");
    check(
        r#"{"type":"connect","payload":{"target_peer_id":"agent-two"}}"#,
        r#"Connect { target: "agent-two" }"#,
    );
}

#[test]
fn notices_have_the_form_of_the_original() {
    let check = |notice: Notice, expect: &str| assert_eq!(&*notice.line(), format!("{expect}\n"));
    let message = RawValue::from_string(r#"{"type":"ping", "z":1,"a":1.50}"#.to_owned()).unwrap();
    check(
        Notice::Message { from: peer("agent-one"), message },
        r#"{"type":"message","payload":{"from_peer":"agent-one","message":{"type":"ping", "z":1,"a":1.50}}}"#,
    );
    check(
        Notice::PeerConnected(peer("agent-one")),
        r#"{"type":"peer_connected","payload":{"peer_id":"agent-one"}}"#,
    );
    check(
        Notice::PeerDisconnected(peer("agent-one")),
        r#"{"type":"peer_disconnected","payload":{"peer_id":"agent-one"}}"#,
    );
    check(Notice::Status(json!({ "state": "online" })), r#"{"type":"status","payload":{"state":"online"}}"#);
}

#[test]
fn answers_have_the_form_of_the_original_and_repeat_the_id() {
    let check = |line: &str, answer: fn(&Label<'_>) -> forms::Line, expect: &str| {
        let command = parse(line.as_bytes()).unwrap();
        assert_eq!(&*answer(&command.label), format!("{expect}\n"));
    };
    let list = |label: &Label<'_>| forms::peer_list(label, &[peer("agent-two")]);
    check(r#"{"type":"list_peers"}"#, list, r#"{"type":"peer_list","payload":{"peers":["agent-two"]}}"#);
    check(
        r#"{"type":"list_peers","id":"q7"}"#,
        list,
        r#"{"type":"peer_list","id":"q7","payload":{"peers":["agent-two"]}}"#,
    );
    check(
        r#"{"type":"status","id":12345678901234567890123}"#,
        |label| forms::status(label, &json!({})),
        r#"{"type":"status","id":12345678901234567890123,"payload":{}}"#,
    );
    check(
        r#"{"type":"broadcast","id":1,"payload":{"message":{"type":"ping"}}}"#,
        |label| forms::done(label, Some(3)),
        r#"{"type":"ok","id":1,"payload":{"command":"broadcast","peers":3}}"#,
    );
    check(
        r#"{"type":"connect","id":-1.5,"payload":{"target_peer_id":"x"}}"#,
        |label| forms::refused(label, &unknown("x")),
        r#"{"type":"error","id":-1.5,"payload":{"code":"unknown_peer","message":"no peer x is in the mesh now","command":"connect","peer":"x"}}"#,
    );
    assert_eq!(
        serde_json::from_str::<Value>(&forms::missed(4)).unwrap()["payload"]["count"],
        4,
        "programs can count"
    );
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    let check = |line: &str, code: &str, names: &str| {
        let mistake = parse(line.as_bytes()).expect_err(line);
        assert_eq!(mistake.refusal.code, code, "{line}: {mistake:?}");
        assert!(mistake.refusal.message.contains(names), "{line}: {mistake:?}");
        assert!(!mistake.refusal.message.contains("SECRET"), "{mistake:?}");
    };
    check("{", "malformed", "not valid JSON at column 1");
    check(r#"{"type":"send"} x"#, "malformed", "not valid JSON at column 17");
    check("[1,2]", "malformed", "not a JSON object");
    check(r#"["status",1,{}]"#, "malformed", "not a JSON object");
    check(r#""SECRET""#, "malformed", "not a JSON object");
    check("null", "malformed", "not a JSON object");
    check("{}", "malformed", "`type` must be the name of a command");
    check(r#"{"type":7}"#, "malformed", "`type` must be");
    check(r#"{"type":"status","type":"send"}"#, "malformed", "`type` is given twice");
    check(r#"{"type":"SECRET"}"#, "unknown_command", "there are `send`");
    check(r#"{"type":"status","id":{}}"#, "malformed", "`id` must be");
    check(&format!(r#"{{"type":"status","id":"{}"}}"#, "x".repeat(65)), "malformed", "at most 64");
    check(&format!(r#"{{"type":"status","id":{}}}"#, "1".repeat(65)), "malformed", "at most 64");
    check(r#"{"type":"send"}"#, "malformed", "`payload` must be an object");
    check(r#"{"type":"send","payload":["tab-1","tab-1",{}]}"#, "malformed", "`payload` must be an object");
    check(r#"{"type":"send","payload":{"message":{"type":"x"}}}"#, "malformed", "`payload.target_peer`");
    check(r#"{"type":"send","payload":{"target_peer":""}}"#, "malformed", "must not be empty");
    check(r#"{"type":"connect","payload":{"target_peer":"a"}}"#, "malformed", "`payload.target_peer_id`");
    check(r#"{"type":"connect","payload":{"target_peer_id":"registry"}}"#, "malformed", "the service itself");
    check(r#"{"type":"send","payload":{"target_peer":"a","target_peer":"b"}}"#, "malformed", "given twice");
    let message = |message: &str| format!(r#"{{"type":"broadcast","payload":{{"message":{message}}}}}"#);
    for wrong in ["null", "\"SECRET\"", "[\"SECRET\"]", "{}", r#"{"type":1}"#, r#"{"type":"a","type":"b"}"#] {
        check(&message(wrong), "malformed", "`payload.message` must be an object");
    }
    check(r#"{"type":"broadcast","payload":{}}"#, "malformed", "`payload.message`");
    assert!(parse(b"{\"type\":\"\xff\"}").unwrap_err().refusal.message.contains("not UTF-8 from byte 10"));
}

#[test]
fn a_refused_command_is_known_by_its_name_and_id() {
    let mistake = parse(br#"{"type":"fly","id":"q1","payload":{}}"#).unwrap_err();
    let line = forms::refused(&mistake.label, &mistake.refusal);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["id"], &line["payload"]["command"]), (&json!("q1"), &json!("fly")));
}

/// A page may send JSON in several lines; the bridge has one line for each.
#[test]
fn a_message_in_several_lines_becomes_one() {
    let text = "{\r\n  \"type\": \"chat\",\n  \"text\": \"two\\nlines\"\n}";
    let message = RawValue::from_string(text.to_owned()).unwrap();
    let line = Notice::Message { from: peer("tab"), message }.line();
    assert_eq!(line.matches(['\n', '\r']).count(), 1, "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["payload"]["message"], json!({ "type": "chat", "text": "two\nlines" }));
}

/// Deep nesting costs no stack, here or in what is sent on.
#[test]
fn a_message_may_be_nested_deeply() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let line = format!(r#"{{"type":"broadcast","payload":{{"message":{{"type":"x","payload":{deep}}}}}}}"#);
    assert!(matches!(parse(line.as_bytes()).unwrap().order, Order::Broadcast { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_command_or_a_clear_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        answer_is_one_line(&bytes);
    }

    /// Near what is right are the more interesting mistakes.
    #[test]
    fn a_damaged_command_is_a_command_or_a_clear_error(
        at in 0_usize..90, with in proptest::collection::vec(any::<u8>(), 0..4), without in 0_usize..6,
    ) {
        let whole = br#"{"type":"send","id":"q1","payload":{"target_peer":"agent-two","message":{"type":"ping"}}}"#;
        let mut line = whole.to_vec();
        let at = at.min(line.len());
        let end = (at + without).min(line.len());
        line.splice(at..end, with);
        answer_is_one_line(&line);
    }

    #[test]
    fn a_notice_is_one_line_and_says_what_the_peer_said(text in any::<String>(), number in any::<i64>()) {
        let said = json!({ "type": text, "n": number });
        let message = RawValue::from_string(serde_json::to_string_pretty(&said).unwrap()).unwrap();
        let line = Notice::Message { from: peer("tab"), message }.line();
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let heard: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&heard["payload"]["message"], &said);
    }
}

fn answer_is_one_line(bytes: &[u8]) {
    let line = match parse(bytes) {
        Ok(command) => forms::done(&command.label, None),
        Err(mistake) => forms::refused(&mistake.label, &mistake.refusal),
    };
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    serde_json::from_str::<Value>(&line).unwrap();
}
