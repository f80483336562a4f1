use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` writes, a line each.
fn lines(style: Style, log: impl FnOnce()) -> Vec<String> {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .with_ansi(style == Style::Colour)
        .fmt_fields(Fields::new(style))
        .event_format(Lines::new(style));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

/// The line without its time.
fn check_text(log: impl FnOnce(), expect: &str) {
    let lines = lines(Style::Plain, log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].split_once(' ').unwrap().1, expect);
}

fn json(log: impl FnOnce()) -> Value {
    let lines = lines(Style::Json, log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

#[test]
fn text_is_a_message_with_fields_and_spans() {
    check_text(
        || {
            let _outer = tracing::info_span!("upgrade", dialect = "mesh").entered();
            let inner = tracing::info_span!("session", peer = tracing::field::Empty);
            inner.record("peer", "a");
            let _inner = inner.entered();
            tracing::info!(target: "t", count = 3, ratio = 0.5, done = true, name = "a b", "it {}", "works");
        },
        " INFO t: it works count=3 ratio=0.5 done=true name=\"a b\" in session{peer=\"a\"} in upgrade{dialect=\"mesh\"}",
    );
}

#[test]
fn json_is_an_object_with_fields_and_spans() {
    let line = json(|| {
        let outer = tracing::info_span!("upgrade", dialect = "mesh", peer = tracing::field::Empty).entered();
        outer.record("peer", "a\"b");
        tracing::warn!(target: "t", count = 3, nan = f64::NAN, debug = ?Some("x"), "it {}", "works");
    });
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "t");
    assert_eq!(line["message"], "it works");
    assert_eq!(line["fields"], serde_json::json!({"count": 3, "nan": "NaN", "debug": "Some(\"x\")"}));
    assert_eq!(line["spans"], serde_json::json!([{"name": "upgrade", "dialect": "mesh", "peer": "a\"b"}]));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn without_message_fields_and_spans_it_is_still_an_object() {
    let line = json(|| tracing::info!(count = 1));
    assert_eq!(line["fields"]["count"], 1);
    let line = json(|| tracing::info!("x"));
    assert_eq!(line["fields"], serde_json::json!({}));
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    const HUSH: &str = "hunter2";
    let log = || {
        let span = tracing::info_span!("a", token = HUSH, code = tracing::field::Empty);
        span.record("code", HUSH);
        let _span = span.entered();
        tracing::info!(key = HUSH, secret = ?HUSH, sdp = %HUSH, candidate = HUSH, authorization = HUSH, device_token = HUSH, code = 523_831, "x");
    };
    for style in [Style::Plain, Style::Colour, Style::Json] {
        let lines = lines(style, log);
        assert!(!lines[0].contains(HUSH) && !lines[0].contains("523831"), "{lines:?}");
        assert_eq!(lines[0].matches("•••").count(), 9, "{lines:?}");
    }
}

#[test]
fn values_cannot_forge_lines() {
    let evil = "a\n2026-11-21 INFO all is well\u{1b}[2J";
    let log = || {
        let _span = tracing::info_span!("s", %evil).entered();
        tracing::info!(%evil, quoted = evil, debug = ?evil, "m {evil}");
    };
    for style in [Style::Plain, Style::Json] {
        let lines = lines(style, log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
    }
    assert_eq!(json(log)["fields"]["evil"], evil);
}
