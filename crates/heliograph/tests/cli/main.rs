//! The command line as scripts and people meet it: the real program, its exit codes and what it says.
#![expect(clippy::unwrap_used, reason = "tests fail by panic, their helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};

use tempfile::TempDir;

mod agent;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The program with an empty environment, in a directory of its own.
fn heliograph(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
    command.env_clear().envs(environment.iter().copied()).current_dir(dir.path()).args(arguments);
    command.output().unwrap()
}

/// What a good run prints.
fn stdout(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = heliograph(arguments, environment);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn check_failure(arguments: &[&str], environment: &[(&str, &str)], code: i32, expect: &[&str]) {
    let output = heliograph(arguments, environment);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for text in expect {
        assert!(stderr.contains(text), "{arguments:?} does not say {text:?}: {stderr}");
    }
}

#[test]
fn every_command_helps_with_an_example() {
    for command in [
        "",
        "dev",
        "serve",
        "migrate",
        "invite",
        "invite create",
        "invite list",
        "invite revoke",
        "peer",
        "peer list",
        "peer show",
        "peer approve",
        "peer reject",
        "peer revoke",
        "mesh",
        "mesh revoke",
        "key",
        "key create",
        "key list",
        "key revoke",
        "key import",
        "audit",
        "audit list",
        "audit verify",
        "agent",
        "agent run",
        "agent join",
        "agent status",
        "token",
        "config",
        "config check",
        "config show",
        "doctor",
        "docs",
    ] {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let help = stdout(&arguments, &[("HELIOGRAPH_KEY", "hunter2")]);
        assert!(help.contains("Example:\n"), "{command} --help has no example: {help}");
        assert!(!help.contains("hunter2"), "{command} --help shows the key");
    }
}

#[test]
fn wrong_usage_is_told_with_exit_code_2() {
    check_failure(&["dev", "--lisen", "x"], &[], 2, &["--lisen", "--listen"]);
    check_failure(&["pier"], &[], 2, &["pier", "peer"]);
    check_failure(
        &["dev", "--listen", "here"],
        &[],
        2,
        &["error: listen (flag --listen): \"here\" is not an address"],
    );
    check_failure(&["dev", "--set", "turn_secret=x"], &[], 2, &["a command line is visible to others"]);
    check_failure(&["peer", "list", "--server", "x"], &[], 2, &["--server \"x\" is not an address"]);
    check_failure(&["peer", "list"], &[], 2, &["this needs an API key: set HELIOGRAPH_KEY"]);
    check_failure(
        &["invite", "create", "--ttl", "soon"],
        &[("HELIOGRAPH_KEY", "k")],
        2,
        &["--ttl \"soon\" is not a duration"],
    );
    check_failure(
        &["key", "import", "nowhere.json"],
        &[("HELIOGRAPH_KEY", "k")],
        2,
        &["cannot read nowhere.json"],
    );
}

#[test]
fn wrong_configuration_is_told_with_exit_code_2() {
    let commands: [&[&str]; 5] =
        [&["dev"], &["serve"], &["migrate"], &["config", "check"], &["config", "show"]];
    for command in commands {
        let with_file = [command, &["--config", "nowhere.toml"]].concat();
        check_failure(&with_file, &[], 2, &["configuration file nowhere.toml: there is no such file"]);
        let misspelt = [("HELIOGRAPH_LEASE_TREM", "3s")];
        check_failure(
            command,
            &misspelt,
            2,
            &["HELIOGRAPH_LEASE_TREM", "did you mean HELIOGRAPH_LEASE_TERM?"],
        );
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "# mine\nlissten = \"127.0.0.1:1\"").unwrap();
    let path = file.path().to_str().unwrap();
    let expect = format!("error: lissten ({path} line 2): there is no such setting; did you mean listen?");
    check_failure(&["dev", "--config", path], &[], 2, &[&expect]);
    check_failure(&["dev"], &[("HELIOGRAPH_CONFIG", path)], 2, &[&expect]);
    check_failure(&["serve"], &[], 2, &["database_url (not set)", "signing_secret (not set)"]);
}

#[test]
fn configuration_is_shown_with_its_sources_and_without_its_secrets() {
    let url = "postgres://me:hunter2@db/x";
    let environment = [
        ("HELIOGRAPH_SIGNING_SECRET", SECRET),
        ("HELIOGRAPH_DATABASE_URL", url),
        ("HELIOGRAPH_REDIS_URL", "redis://:hunter2@cache"),
        ("HELIOGRAPH_TURN_SECRET", "hunter2"),
    ];
    for arguments in [
        &["config", "show", "--set", "lease_term=5s"][..],
        &["config", "show", "--set", "lease_term=5s", "--json"],
    ] {
        let shown = stdout(arguments, &environment);
        assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
        for text in
            ["postgres://me:•••@db/x", "environment HELIOGRAPH_TURN_SECRET", "5s", "flag --set", "default"]
        {
            assert!(shown.contains(text), "no {text:?} in {shown}");
        }
    }
    let shown = stdout(&["config", "show", "--json"], &environment);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["mode"], "serve");
    assert_eq!(
        stdout(&["config", "check"], &environment),
        "the configuration is good for `heliograph serve`\n"
    );
    assert_eq!(stdout(&["config", "check"], &[]), "the configuration is good for `heliograph dev`\n");
}

#[test]
fn a_server_that_is_away_is_told_with_exit_code_1() {
    let environment = [("HELIOGRAPH_SERVER", "http://127.0.0.1:9"), ("HELIOGRAPH_KEY", "k")];
    for arguments in [&["peer", "list"][..], &["token"], &["invite", "create"], &["audit", "verify"]] {
        check_failure(
            arguments,
            &environment,
            1,
            &["cannot reach http://127.0.0.1:9", "heliograph dev", "--server"],
        );
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let empty = [
        ("HELIOGRAPH_CONFIG", ""),
        ("HELIOGRAPH_SERVER", ""),
        ("HELIOGRAPH_KEY", ""),
        ("HELIOGRAPH_KEY_FILE", ""),
    ];
    assert_eq!(stdout(&["config", "check"], &empty), "the configuration is good for `heliograph dev`\n");
    check_failure(&["peer", "list"], &empty, 2, &["this needs an API key"]);
}

#[test]
fn keys_come_from_files() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"ak_filed\n").unwrap();
    let path = file.path().to_str().unwrap();
    let (server, requests) = fake_server(vec![(200, r#"{"peers": []}"#)]);
    assert_eq!(
        stdout(&["peer", "list"], &[("HELIOGRAPH_SERVER", &server), ("HELIOGRAPH_KEY_FILE", path)]),
        "no peers\n"
    );
    assert_eq!(requests.recv().unwrap().key.unwrap(), "ak_filed");
    let both = [("HELIOGRAPH_KEY", "k"), ("HELIOGRAPH_KEY_FILE", path)];
    check_failure(&["peer", "list"], &both, 2, &["are both set"]);
    check_failure(&["peer", "list", "--key-file", "nowhere"], &[], 2, &["cannot read the key file nowhere"]);
}

#[test]
fn the_reference_is_printed() {
    assert!(stdout(&["docs", "configuration"], &[]).starts_with("# Configuration\n"));
    assert!(stdout(&["docs", "toml"], &[]).contains("\n#lease_term = \"3s\"\n"));
}

/// A node in a directory of its own, as `heliograph dev` starts it.
struct Node {
    child: Child,
    server: String,
    key: String,
    dir: TempDir,
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_heliograph"))
            .args(["dev", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "warn"])
            .env_clear()
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut find = |word: &str| {
            let line = lines.by_ref().map(Result::unwrap).find(|line| line.trim_start().starts_with(word));
            line.unwrap()
                .split_whitespace()
                .find(|part| part.starts_with("http") || part.starts_with("ak_"))
                .unwrap()
                .to_owned()
        };
        let server = find("Page").trim_end_matches('/').to_owned();
        let key = find("Admin key");
        Self { child, server, key, dir }
    }

    fn ask(&self, arguments: &[&str]) -> String {
        stdout(arguments, &[("HELIOGRAPH_SERVER", &self.server), ("HELIOGRAPH_KEY", &self.key)])
    }

    /// A device that redeems a code; what it is told.
    fn pair(&self, code: &str) -> serde_json::Value {
        let body = serde_json::json!({ "code": code, "agent_name": "device" }).to_string();
        let answer = ureq::post(format!("{}/api/pairing/pair", self.server)).send(body).unwrap();
        serde_json::from_str(&answer.into_body().read_to_string().unwrap()).unwrap()
    }

    fn ask_json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.ask(&arguments)).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_node_is_administered() {
    let node = Node::start();

    let made = node.ask(&["invite", "create", "--ttl", "5m", "--uses", "2"]);
    assert!(made.contains("Code") && made.contains("Expires in  5m"), "{made}");
    let invite = node.ask_json(&["invite", "list"])["invites"][0]["id"].as_str().unwrap().to_owned();
    assert!(node.ask(&["invite", "revoke", &invite]).contains("can no longer be used"));

    let key = node.ask_json(&["key", "create", "camera-1", "--name", "Camera"]);
    assert!(node.ask(&["key", "list"]).contains("camera-1"));
    let token = node.ask(&["token", "--key", key["key"].as_str().unwrap()]);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");

    assert!(node.ask(&["peer", "show", "camera-1"]).contains("approved"));
    let revoked = node.ask(&["peer", "revoke", "camera-1"]);
    assert!(
        revoked.contains("everywhere") && revoked.contains("Acknowledged") && revoked.contains("gw-"),
        "{revoked}"
    );
    assert!(node.ask(&["peer", "list", "--status", "revoked"]).contains("camera-1"));
    assert!(!node.ask(&["peer", "list", "--status", "approved"]).contains("camera-1"));

    assert!(node.ask(&["audit", "list"]).contains("revoke"));
    assert!(node.ask(&["audit", "verify"]).starts_with("the log is whole"));

    let environment = [("HELIOGRAPH_SERVER", node.server.as_str()), ("HELIOGRAPH_KEY", node.key.as_str())];
    check_failure(
        &["peer", "show", "nobody"],
        &environment,
        1,
        &["no peer and no pairing has the id \"nobody\""],
    );
    check_failure(&["peer", "revoke", "camera-1"], &environment, 1, &["revoked"]);
    let stranger = [("HELIOGRAPH_SERVER", node.server.as_str()), ("HELIOGRAPH_KEY", "ak_wrong")];
    check_failure(&["peer", "list"], &stranger, 1, &["this API key is not known", "HELIOGRAPH_KEY"]);
}

#[test]
fn a_device_is_approved_by_either_id() {
    let node = Node::start();
    for by in ["id", "peer_id"] {
        let code = node.ask_json(&["invite", "create"])["code"].as_str().unwrap().to_owned();
        let paired = node.pair(&code);
        assert!(node.ask(&["peer", "list", "--status", "pending_approval"]).contains("device"));
        let approved = node.ask(&["peer", "approve", paired[by].as_str().unwrap()]);
        assert!(approved.contains("approved"), "{approved}");
        assert!(!approved.contains("dt_"), "the token is the device's: {approved}");
        assert!(node.ask(&["peer", "show", paired[by].as_str().unwrap()]).contains("approved"));
    }
}

#[test]
fn an_approval_can_wait_for_every_node() {
    let node = Node::start();
    let code = node.ask_json(&["invite", "create"])["code"].as_str().unwrap().to_owned();
    let paired = node.pair(&code);
    let approved = node.ask(&["peer", "approve", "--wait", paired["id"].as_str().unwrap()]);
    for text in ["Approved", paired["peer_id"].as_str().unwrap(), "everywhere", "Acknowledged", "gw-"] {
        assert!(approved.contains(text), "no {text} in {approved}");
    }
}

#[test]
fn an_invite_and_a_mesh_are_revoked_with_all_who_belong_to_them() {
    let node = Node::start();
    let made = node.ask_json(&["invite", "create", "--uses", "2"]);
    let (code, invite) = (made["code"].as_str().unwrap(), made["id"].as_str().unwrap());
    let (guest, waits) = (node.pair(code), node.pair(code));
    node.ask(&["peer", "approve", guest["id"].as_str().unwrap()]);
    let report = node.ask(&["invite", "revoke", invite, "--with-enrolled"]);
    let (guest, waits) = (guest["peer_id"].as_str().unwrap(), waits["peer_id"].as_str().unwrap());
    let lines = [format!("Peers revoked     1: {guest}"), format!("Devices rejected  1: {waits}")];
    for text in lines.iter().map(String::as_str).chain([invite, "everywhere", "gw-"]) {
        assert!(report.contains(text), "no {text} in {report}");
    }

    node.ask(&["key", "create", "camera-1", "--mesh", "lab"]);
    let environment = [("HELIOGRAPH_SERVER", node.server.as_str()), ("HELIOGRAPH_KEY", node.key.as_str())];
    check_failure(&["mesh", "revoke", "lab"], &environment, 2, &["say --yes"]);
    assert!(node.ask(&["peer", "show", "camera-1", "--mesh", "lab"]).contains("approved"));
    let report = node.ask(&["mesh", "revoke", "lab", "--yes"]);
    assert!(
        report.contains("mesh lab") && report.contains("1: camera-1") && !report.contains("Kept"),
        "{report}"
    );
    let report = node.ask(&["mesh", "revoke", "default", "--yes"]);
    assert!(report.contains("for whom your key stands"), "{report}");
    assert!(node.ask(&["peer", "list", "--mesh", "default", "--status", "approved"]).contains("admin"));
    check_failure(&["mesh", "revoke", "labb", "--yes"], &environment, 1, &["no mesh of this name"]);
}

const ORIGINAL_KEYS: &str = r#"{"keys": {"ak_one": {"peer_id": "a", "role": "agent"},
    "ak_two": {"peer_id": "b", "role": "agent", "mesh": "other"}}}"#;

#[test]
fn keys_of_an_original_installation_are_taken_over() {
    let node = Node::start();
    let file = key_file();
    let path = file.path().to_str().unwrap();
    assert_eq!(node.ask(&["key", "import", path]), "2 keys imported, 0 were there already\n");
    assert_eq!(node.ask(&["key", "import", path]), "0 keys imported, 2 were there already\n");
    assert_eq!(node.ask(&["token", "--key", "ak_two"]).trim().split('.').count(), 3);
}

#[test]
fn import_gives_each_key_with_its_secret() {
    let file = key_file();
    let (server, requests) = fake_server(vec![(201, "{}"), (200, "{}")]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    let said = stdout(&["key", "import", file.path().to_str().unwrap()], &environment);
    assert_eq!(said, "1 keys imported, 1 were there already\n");
    let bodies: Vec<serde_json::Value> = requests.iter().map(|request| request.body).collect();
    assert_eq!(
        (&bodies[0]["peer_id"], &bodies[0]["mesh"], &bodies[0]["secret"]),
        (&"a".into(), &"default".into(), &"ak_one".into())
    );
    assert_eq!(
        (&bodies[1]["peer_id"], &bodies[1]["mesh"], &bodies[1]["secret"]),
        (&"b".into(), &"other".into(), &"ak_two".into())
    );

    // A server that ignores the secret must not pass for one that took the key over.
    let (server, _requests) = fake_server(vec![(201, r#"{"key": "ak_its_own"}"#)]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    let arguments = ["key", "import", file.path().to_str().unwrap()];
    check_failure(&arguments, &environment, 1, &["key 1 of", "cannot take this one over"]);
}

#[test]
fn a_revocation_that_takes_long_is_followed() {
    let waiting = r#"{"peer_id": "a", "version": 7, "enforced": false, "acknowledged": ["gw-1"], "expired": [], "waited_ms": 1,
        "poll": "/api/pairing/changes/7"}"#;
    let done = r#"{"version": 7, "enforced": true, "acknowledged": ["gw-1"], "expired": ["gw-2"], "waited_ms": 3100}"#;
    let (server, requests) = fake_server(vec![(202, waiting), (202, waiting), (200, done)]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    let said = stdout(&["peer", "revoke", "a"], &environment);
    for text in ["a (version 7)", "everywhere", "gw-1", "gw-2", "3100 ms"] {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    let lines: Vec<String> = requests.iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "POST /api/pairing/a/revoke?wait=enforced HTTP/1.1",
            "GET /api/pairing/changes/7 HTTP/1.1",
            "GET /api/pairing/changes/7 HTTP/1.1"
        ]
    );

    let (server, _requests) = fake_server(vec![(202, waiting), (202, waiting)]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    check_failure(
        &["peer", "revoke", "a", "--timeout", "100ms"],
        &environment,
        1,
        &["not every node has confirmed it"],
    );

    let (server, _requests) = fake_server(vec![(202, waiting)]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    assert!(stdout(&["peer", "revoke", "a", "--wait", "none"], &environment).contains("not yet confirmed"));
}

#[test]
fn a_key_never_follows_a_redirection() {
    let (server, requests) = fake_server(vec![(302, "{}")]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    check_failure(
        &["peer", "list"],
        &environment,
        1,
        &["sends on to http://elsewhere.example/; give the right address"],
    );
    assert_eq!(requests.iter().count(), 1);
}

#[test]
fn lists_are_read_to_their_end_and_shown_without_tricks() {
    let page = |name: &str, cursor: &str| {
        format!(
            r#"{{"peers": [{{"peer_id": "{name}", "name": "x\u001b[2J", "sessions": []}}], "next_cursor": {cursor}}}"#
        )
    };
    let (first, second) = (page("one", r#""a b""#), page("two", "null"));
    let (server, requests) = fake_server(vec![(200, &first), (200, &second)]);
    let environment = [("HELIOGRAPH_SERVER", server.as_str()), ("HELIOGRAPH_KEY", "ak_admin")];
    let said = stdout(&["peer", "list"], &environment);
    assert!(said.contains("one") && said.contains("two") && !said.contains('\u{1b}'), "{said}");
    assert!(requests.iter().nth(1).unwrap().line.contains("&cursor=a%20b "));
}

fn key_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ORIGINAL_KEYS.as_bytes()).unwrap();
    file
}

/// A request as a [`fake_server`] saw it.
struct Request {
    line: String,
    key: Option<String>,
    body: serde_json::Value,
}

/// A server that gives these answers, one per connection, and then is gone. The channel ends with the last one.
fn fake_server(answers: Vec<(u16, &str)>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<(u16, String)> =
        answers.into_iter().map(|(status, body)| (status, body.to_owned())).collect();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (stream, _) = listener.accept().unwrap();
            _ = sender.send(read_request(&stream));
            let head = "location: http://elsewhere.example/\r\nconnection: close";
            write!(&stream, "HTTP/1.1 {status} x\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .unwrap();
        }
    });
    (server, requests)
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
    };
    let length = header("content-length:").map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let key = header("x-api-key:").map(|key| key.trim().to_owned());
    Request { line: lines.swap_remove(0), key, body: serde_json::from_slice(&body).unwrap_or_default() }
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let node = Node::start();
    let environment = [("HELIOGRAPH_SERVER", node.server.as_str()), ("HELIOGRAPH_KEY", node.key.as_str())];
    let ports = ["--set", "listen=127.0.0.1:0", "--set", "ops_listen=127.0.0.1:0"];
    let report = stdout(&[&["doctor"], &ports[..]].concat(), &environment);
    for text in
        ["ok    configuration", "ok    data directory", "ok    clock", "ok    key", "note  ICE servers"]
    {
        assert!(report.contains(text), "no {text:?} in {report}");
    }
    let output = heliograph(&["doctor", "--set", "lease_term=1ms"], &environment);
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("bad   configuration") && report.contains("lease_term"), "{report}");
}

#[test]
fn migration_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("x.db").display());
    for _ in 0..2 {
        assert_eq!(
            stdout(&["migrate"], &[("HELIOGRAPH_DATABASE_URL", &url)]),
            "the database is at this version\n"
        );
    }
    check_failure(&["migrate"], &[], 2, &["database_url (not set)"]);
    check_failure(
        &["migrate"],
        &[("HELIOGRAPH_DATABASE_URL", "postgres://127.0.0.1:9/x")],
        1,
        &["cannot be reached"],
    );
}

#[test]
fn a_start_that_cannot_succeed_says_why_and_what_to_do() {
    let dev = |extra: [&str; 2], expect: &[&str]| {
        let ports = ["dev", "--ops-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        // The later of two flags counts for the command line as for people; so each case names its own.
        let arguments: Vec<&str> = if extra[0] == "--listen" {
            [&ports[..3], &extra[..]].concat()
        } else {
            [&ports[..], &extra[..]].concat()
        };
        check_failure(&arguments, &[], 1, expect);
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    dev(["--listen", &address], &[&address, "in use", "--listen"]);

    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("data").display().to_string();
    dev(["--data-dir", &below_a_file], &[&below_a_file, "--data-dir"]);

    let node = Node::start();
    let shared = node.dir.path().join("heliograph-data").display().to_string();
    dev(["--data-dir", &shared], &[&shared, "in use by another heliograph process"]);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("heliograph.db"), "this is not a database, however long it may be")
        .unwrap();
    let garbage = dir.path().display().to_string();
    dev(["--data-dir", &garbage], &["heliograph.db"]);
}
