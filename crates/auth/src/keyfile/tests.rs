use proptest::prelude::*;

use super::*;

#[test]
fn file_of_the_original_is_read() {
    let entries = parse_key_file(
        r#"{"keys":{"ak_dev_001":{"peer_id":"agent-001","role":"agent"},
                    "ak_adm":{"peer_id":"boss","role":"admin","mesh":"home","note":"ours"}}}"#,
    )
    .unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.secret.expose(), e.peer.as_str(), e.role.as_str(), e.mesh.as_str()))
        .collect();
    assert_eq!(seen, [("ak_dev_001", "agent-001", "agent", "default"), ("ak_adm", "boss", "admin", "home")]);
}

#[test]
fn empty_file_has_no_keys() {
    assert!(parse_key_file(r#"{"keys":{}}"#).unwrap().is_empty());
}

#[test]
fn entries_are_named_by_their_place_in_the_file() {
    let text = r#"{"keys":{"ak_z":{"peer_id":"a","role":"agent"},"ak_b":{"peer_id":"b","role":"agent"},"ak_a":{"role":"agent"}}}"#;
    let error = parse_key_file(text).unwrap_err();
    assert_eq!(error, KeyFileError::Entry { position: 3, problem: EntryProblem::Missing("peer_id") });
    assert_eq!(error.to_string(), "key 3 of the file: lacks `peer_id`");
}

#[test]
fn every_problem_is_told_without_the_key() {
    check(r#""k": {"peer_id": "a"}"#, EntryProblem::Missing("role"));
    check(r#""k": {"role": "a"}"#, EntryProblem::Missing("peer_id"));
    check(r#""k": {"peer_id": 7, "role": "a"}"#, EntryProblem::NotText("peer_id"));
    check(r#""k": {"peer_id": "a", "role": null}"#, EntryProblem::NotText("role"));
    check(r#""k": {"peer_id": "a", "role": "b", "mesh": []}"#, EntryProblem::NotText("mesh"));
    check(r#""k": {"peer_id": "", "role": "b"}"#, EntryProblem::BadName("peer_id", InvalidName::Empty));
    check(r#""k": {"peer_id": "a", "role": ""}"#, EntryProblem::BadName("role", InvalidName::Empty));
    let bad_mesh = EntryProblem::BadName("mesh", InvalidName::BadCharacter);
    check(r#""k": {"peer_id": "a", "role": "b", "mesh": "\n"}"#, bad_mesh);
    check(r#""k": "agent-001""#, EntryProblem::NotAnObject);
    check(r#""": {"peer_id": "a", "role": "b"}"#, EntryProblem::BadKey);
    check(r#""a b": {"peer_id": "a", "role": "b"}"#, EntryProblem::BadKey);
    check(&format!(r#""{}": {{"peer_id": "a", "role": "b"}}"#, "k".repeat(4097)), EntryProblem::BadKey);
}

fn check(entry: &str, expected: EntryProblem) {
    let error = parse_key_file(&format!("{{\"keys\": {{{entry}}}}}")).unwrap_err();
    assert_eq!(error, KeyFileError::Entry { position: 1, problem: expected });
}

#[test]
fn repeated_key_is_an_error() {
    let entry = r#""ak_1": {"peer_id": "a", "role": "b"}"#;
    let error = parse_key_file(&format!("{{\"keys\": {{{entry}, {entry}}}}}")).unwrap_err();
    assert_eq!(error, KeyFileError::Entry { position: 2, problem: EntryProblem::Twice });
}

#[test]
fn what_is_no_key_file_is_told_by_place() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys": []}"#,
        r#"{"keys": "ak_secret"}"#,
        r#"{"keys": {"ak_secret": }}"#,
        r#"{"ak_secret"#,
    ] {
        let error = parse_key_file(text).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAKeyFile { .. }), "{text}");
        assert!(!format!("{error} {error:?}").contains("ak_secret"), "{error}");
    }
    let error = parse_key_file("{\n\"keys\": 5}").unwrap_err();
    assert!(matches!(error, KeyFileError::NotAKeyFile { line: 2, .. }), "{error:?}");
}

#[test]
fn debug_of_an_entry_hides_the_key() {
    let entries = parse_key_file(r#"{"keys":{"ak_dev_001":{"peer_id":"a","role":"b"}}}"#).unwrap();
    assert!(!format!("{entries:?}").contains("ak_dev_001"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = parse_key_file(&text);
        let _ = parse_key_file(&format!(r#"{{"keys":{{{text}}}}}"#));
    }
}
