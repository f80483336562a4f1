//! `docs/protocol/mesh.md` says what the code does: its tables are generated here, its examples are read.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use heliograph_core::close::{Advice, CloseCode};
use heliograph_core::limits::{self, Limits};
use heliograph_core::message::{Capabilities, Undeliverable};
use heliograph_wire::mesh::{MAX_RESUME_TOKEN_BYTES, decode};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/protocol/mesh.md");

#[test]
fn close_codes_of_the_page_are_those_of_the_code() {
    let mut table = String::from("| code | reason | what to do |\n|---|---|---|\n");
    for code in CloseCode::ALL {
        writeln!(table, "| {} | {} | {} |", code.code(), code.reason(), advice(code.advice())).unwrap();
    }
    check_generated("close codes", &table);
}

#[test]
fn limits_of_the_page_are_those_of_the_code() {
    let limits = Limits::default();
    let rows = [
        ("a frame", bytes(limits.max_message_bytes)),
        ("the payload of an `ice_candidate`", bytes(limits::MAX_CANDIDATE_BYTES)),
        (
            "nesting of objects and arrays, the envelope included",
            format!("{} levels", limits::MAX_JSON_DEPTH),
        ),
        ("a `peer_id`", bytes(limits::MAX_NAME_BYTES)),
        ("a `type`", bytes(limits::MAX_KIND_BYTES)),
        ("an `id`", bytes(limits::MAX_MESSAGE_ID_BYTES)),
        ("`capabilities` of a `register`", format!("{} entries", limits::MAX_CAPABILITIES)),
        ("the `resume_token` of a `resume`", bytes(MAX_RESUME_TOKEN_BYTES)),
        ("frames in the long run", format!("{} per second", limits.max_messages_per_second)),
        ("frames at once after a pause", limits.message_burst.to_string()),
        ("from the upgrade to a token, where it comes by message", seconds(limits.authenticate_deadline)),
        ("from the upgrade to `register`", seconds(limits.register_deadline)),
        ("silence before the service pings", format!("{} ± 25 %", seconds(limits.ping_interval))),
        ("from that ping to a sign of life", seconds(limits.pong_deadline)),
        ("waiting for one client to read", bytes(limits.outbox_bytes)),
        ("the same in messages", limits.outbox_messages.to_string()),
        ("written to a client that may resume, and not shown to have arrived", bytes(limits::REPLAY_BYTES)),
        ("the same in messages", limits::REPLAY_ENTRIES.to_string()),
        (
            "messages of one client on their way to other nodes and not answered for; of more, the oldest is `expired`",
            limits::MAX_UNANSWERED.to_string(),
        ),
        ("until such a message is `expired`, after the time for resuming", seconds(limits::ANSWER_GRACE)),
    ];
    let mut table = String::from("| what | at most |\n|---|---|\n");
    for (what, most) in rows {
        writeln!(table, "| {what} | {most} |").unwrap();
    }
    check_generated("limits", &table);
}

#[test]
fn every_word_of_the_protocol_is_on_the_page() {
    let reasons = [
        Undeliverable::Unavailable,
        Undeliverable::BusUnavailable,
        Undeliverable::AuthorizationUnavailable,
        Undeliverable::QueueFull,
        Undeliverable::RateLimited,
        Undeliverable::TooLarge,
        Undeliverable::Malformed,
        Undeliverable::Expired,
    ];
    let words = Capabilities::OFFERED.names().chain(reasons.map(Undeliverable::as_str));
    for word in words.chain(["malformed", "wrong_sender", "unknown_type", "resume_too_late"]) {
        assert!(PAGE.contains(&format!("| `{word}` |")), "{word} has no row in a table");
    }
}

/// Lines of examples begin with `→` (to the service) or `←` (from it).
#[test]
fn examples_of_the_page_are_frames() {
    let examples = |arrow| PAGE.lines().filter_map(move |line| line.strip_prefix(arrow)).map(str::trim);
    for example in examples('→') {
        assert!(decode(&Bytes::from(example)).is_ok(), "{example}");
    }
    for example in examples('←') {
        let frame: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert!(frame["type"].is_string() && frame["peer_id"].is_string(), "{example}");
    }
    assert!(examples('→').count() >= 10 && examples('←').count() >= 21, "the examples are found");
}

fn check_generated(name: &str, expect: &str) {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->"));
    let committed =
        PAGE.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(table, _)| table);
    assert_eq!(committed, Some(expect), "the table of {name} should be:\n\n{begin}{expect}{end}\n");
}

fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::ComeBack => "come back at once, with jitter",
        Advice::ComeBackLater => "come back after a pause",
        Advice::Authenticate => "get a new token, then come back",
        Advice::StayAway => "do not come back by yourself",
    }
}

fn bytes(count: usize) -> String {
    match count {
        1024.. if count.is_multiple_of(1024) => format!("{} KiB", count / 1024),
        _ => format!("{count} bytes"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
