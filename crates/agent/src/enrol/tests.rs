use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn server() -> ServerUrl {
    ServerUrl::parse("", "https://signal.example").unwrap()
}

fn kept(token: &str) -> Kept {
    Kept { server: server(), peer_id: "agent-1".into(), device_token: Secret::new(token) }
}

fn pairing(id: &str) -> Pairing {
    Pairing {
        server: server(),
        code: Secret::new("AB\"C"),
        id: id.into(),
        peer_id: "agent-1".into(),
        claim_token: Secret::new("ct_1"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_token_is_kept_for_the_user_alone() {
    let home = tempfile::tempdir().unwrap();
    let (folder, path) = (home.path().join("a/b"), home.path().join("a/b/agent.token"));
    assert!(Kept::read(&path).unwrap().is_none());
    kept("dt_1").write(&path).unwrap();
    assert_eq!((mode(&path), mode(&folder), mode(&home.path().join("a"))), (0o600, 0o700, 0o700));
    let read = Kept::read(&path).unwrap().unwrap();
    assert_eq!(
        (read.server, read.peer_id.as_str(), read.device_token.expose()),
        (server(), "agent-1", "dt_1")
    );
    kept("dt_2").write(&path).unwrap();
    assert_eq!(Kept::read(&path).unwrap().unwrap().device_token.expose(), "dt_2");
    assert_eq!(names(&folder), ["agent.token"]);
}

#[test]
fn what_others_or_a_killed_process_left_is_not_written_to() {
    let home = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (home.path().join("agent.token"), home.path().join("elsewhere"));
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, home.path().join("agent.token.new")).unwrap();
    fs::write(&path, "older").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    kept("dt_1").write(&path).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert_eq!(
        (mode(&path), names(home.path())),
        (0o600, vec!["agent.token".to_owned(), "elsewhere".to_owned()])
    );
}

#[test]
fn a_damaged_token_is_told_without_being_quoted() {
    let long = format!("{{\"server\": \"{}\"", "x".repeat(100_000));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("agent.token");
    for text in [
        "",
        "dt_hunter2",
        "{\"device_token\": \"dt_hunter2\"}",
        &long,
        r#"{"server":"https://h","peer_id":"p","device_token":"hunter2"}"#,
        r#"{"server":"hunter2","peer_id":"p","device_token":"dt_x"}"#,
        r#"{"server":"https://h","peer_id":"p","device_token":"dt_\u0000hunter2"}"#,
    ] {
        fs::write(&path, text).unwrap();
        let said = Kept::read(&path).expect_err(text).to_string();
        assert!(said.contains("agent.token") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_pairing_is_kept_until_it_has_come_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("heliograph/agent.token");
    let file = home.path().join("heliograph/agent.token.pairing");

    // One that never had a pairing leaves nothing.
    assert!(PairingFile::open(&token).unwrap().pairing().is_none());
    assert!(!file.exists());

    let mut first = PairingFile::open(&token).unwrap();
    first.keep(pairing("a-longer-id")).unwrap();
    assert_eq!(first.keep(pairing("id")).unwrap().id, "id");
    assert_eq!(mode(&file), 0o600);
    let said = PairingFile::open(&token).unwrap_err().to_string();
    assert!(said.contains("another `heliograph agent join`"), "{said}");
    drop(first);

    let again = PairingFile::open(&token).unwrap();
    let found = again.pairing().unwrap();
    assert_eq!((found.id.as_str(), found.peer_id.as_str(), &found.server), ("id", "agent-1", &server()));
    assert_eq!((found.code.expose(), found.claim_token.expose()), ("AB\"C", "ct_1"));
    again.forget().unwrap();
    assert!(!file.exists());
}

#[test]
fn a_damaged_pairing_is_told_without_being_quoted() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("agent.token");
    let file = home.path().join("agent.token.pairing");
    fs::write(&file, "{\"claim_token\": \"hunter2\"").unwrap();
    let said = PairingFile::open(&token).unwrap_err().to_string();
    assert!(
        said.contains("it is not JSON") && said.contains("remove it") && !said.contains("hunter2"),
        "{said}"
    );
    assert!(file.exists(), "it may still be mended by hand");
}

#[test]
fn the_token_lies_in_the_users_state() {
    let check = |variables: &[(&str, &str)], expect: Option<&str>| {
        let pairs = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let around = Surroundings { variables: pairs.collect(), user: 0 };
        assert_eq!(default_path(&around).unwrap(), expect.map(PathBuf::from));
    };
    check(&[], None);
    check(&[("HOME", "/h")], Some("/h/.local/state/heliograph/agent.token"));
    check(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")], Some("/s/heliograph/agent.token"));
}
