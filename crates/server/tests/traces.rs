//! Spans reach a collector: a real exporter in a process of its own, a small OTLP/HTTP sink here.

#![expect(clippy::unwrap_used, reason = "tests fail by panic, their helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use heliograph_server::config::{Config, Mode, Sources};
use heliograph_server::telemetry;

const HUSH: &str = "hunter2";

/// A request as the sink saw it.
struct Received {
    head: String,
    body: Vec<u8>,
}

impl Received {
    fn has(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

#[test]
fn spans_arrive_without_their_secrets() {
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", sink.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || sink.incoming().for_each(|stream| answer(&stream.unwrap(), &sender)));

    let log = child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_TRACES_SAMPLER", "always_on")]);

    let request = received.recv_timeout(Duration::from_secs(10)).expect("the collector gets a request");
    assert!(request.head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", request.head);
    for text in ["a_span_of_ours", "heliograph", "service.name", "an event in it", "visible"] {
        assert!(request.has(text), "no {text:?} in what arrived");
    }
    assert!(!request.has(HUSH) && !request.has("a_span_of_others"));
    assert!(log.contains("\"trace_id\":\""), "{log}");
    assert!(!log.contains(HUSH), "{log}");
}

#[test]
fn without_a_collector_nothing_is_sent() {
    let log = child(&[]);
    assert!(log.contains("an event in it") && !log.contains("trace_id"), "{log}");
}

#[test]
fn a_dead_collector_costs_a_line() {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{free}/v1/traces");
    let log =
        child(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint), ("OTEL_TRACES_SAMPLER", "always_on")]);
    assert_eq!(log.matches("traces cannot be delivered").count(), 1, "{log}");
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused() {
    let output =
        run_child(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && text.contains("only http/protobuf is spoken here"), "{text}");
}

/// The other process. The variables are read from a real environment, which a test cannot change for itself.
#[test]
#[ignore = "run by the tests above in a process of its own"]
fn traced_process() {
    let config = Config::load(Mode::Dev, &Sources::default()).unwrap();
    let guard = telemetry::init(&config.logging).unwrap();
    tracing::info_span!(target: "heliograph_test", "a_span_of_ours", token = HUSH, shown = "visible")
        .in_scope(|| {
            tracing::info!(target: "heliograph_test", secret = HUSH, "an event in it");
            tracing::info_span!(target: "hyper", "a_span_of_others").in_scope(|| {});
        });
    guard.shutdown();
}

/// What the other process writes to its log.
fn child(environment: &[(&str, &str)]) -> String {
    let output = run_child(environment);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{log}", String::from_utf8_lossy(&output.stdout));
    log
}

fn run_child(environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "traced_process", "--ignored", "--nocapture"]);
    let ambient = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("OTEL_"));
    ambient.for_each(|name| _ = command.env_remove(name));
    command.envs(environment.iter().copied()).output().unwrap()
}

fn answer(mut stream: &TcpStream, sender: &Sender<Received>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, length)| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    _ = sender.send(Received { head, body });
}
