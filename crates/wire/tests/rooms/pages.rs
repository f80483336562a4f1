//! The protocol pages say what the code does: their examples are read and held against what is written.

use bytes::Bytes;
use heliograph_core::limits::MAX_PROFILE_BYTES;
use heliograph_wire::{Dialect, rendezvous, rtc};
use serde_json::Value;

const RENDEZVOUS: &str = include_str!("../../../../docs/protocol/rendezvous.md");
const RTC: &str = include_str!("../../../../docs/protocol/rtc-signaller.md");

/// Lines of examples begin with `→` (to the service) or `←` (from it).
fn examples(page: &'static str, arrow: char) -> Vec<&'static str> {
    page.lines().filter_map(|line| line.strip_prefix(arrow)).map(str::trim).collect()
}

fn check_read(dialect: Dialect, page: &'static str, at_least: usize) {
    let sent = examples(page, '→');
    for example in &sent {
        assert!(dialect.decode(&Bytes::from(*example)).is_ok(), "{example}");
    }
    assert!(sent.len() >= at_least, "the examples are found");
}

#[test]
fn what_clients_send_on_the_pages_is_read() {
    check_read(Dialect::Rendezvous, RENDEZVOUS, 4);
    check_read(Dialect::RtcSignaller, RTC, 4);
}

#[test]
fn what_clients_get_on_the_pages_is_what_is_written() {
    let table =
        [include_str!("../golden/rendezvous_service.txt"), include_str!("../golden/rendezvous.txt")].concat();
    let got = examples(RENDEZVOUS, '←');
    for example in &got {
        let frame: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        let kind = format!(r#"{{"type":{}"#, frame["type"]);
        assert!(table.contains(&kind), "the table of golden frames has one that begins with {kind}");
    }
    assert!(got.len() >= 7, "the examples are found");
    for example in examples(RTC, '←') {
        let command = example.split('|').next().unwrap();
        assert!(["/roominfo", "/announce", "/leave"].contains(&command), "{example}");
    }
}

#[test]
fn bounds_of_the_pages_are_those_of_the_code() {
    let rdv = rendezvous::MANNERS.in_rooms().unwrap();
    let rtc = rtc::MANNERS.in_rooms().unwrap();
    let kib = format!("at most {} KiB", MAX_PROFILE_BYTES / 1024);
    assert!(RENDEZVOUS.contains(&kib) && RTC.contains(&kib));
    assert!(RENDEZVOUS.contains(&format!("has to come within {} s", rdv.patience.as_secs())));
    assert!(RTC.contains(&format!("is given {} s to come back", rtc.grace.as_secs())));
    assert_eq!(rtc.patience.as_secs(), 60, "the page says a minute");
    for (page, manner) in [(RENDEZVOUS, rdv), (RTC, rtc)] {
        let longest = heliograph_core::limits::MAX_NAME_BYTES - manner.rooms.len();
        assert!(page.contains(&format!("1 to {longest}")), "names of rooms have up to {longest} bytes");
    }
}

#[test]
fn every_word_of_an_error_is_on_the_page() {
    use heliograph_core::message::Undeliverable as U;
    let all = [
        U::Unavailable,
        U::BusUnavailable,
        U::AuthorizationUnavailable,
        U::QueueFull,
        U::RateLimited,
        U::TooLarge,
        U::Malformed,
        U::Expired,
    ];
    for word in all.map(U::as_str) {
        assert!(RENDEZVOUS.contains(&format!("`{word}`")), "{word}");
    }
}
