//! `agent`: joining, also over interruptions, asking how it stands, running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::*;

/// How long a command may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A machine of somebody: a home, and nothing else in its environment.
struct Machine {
    home: TempDir,
}

/// A command that runs on it.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Machine {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn token(&self) -> PathBuf {
        self.path(".local/state/heliograph/agent.token")
    }

    fn pairing(&self) -> PathBuf {
        self.path(".local/state/heliograph/agent.token.pairing")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heliograph"));
        let home = self.home.path();
        command.env_clear().env("HOME", home).env("TMPDIR", home).current_dir(home).args(arguments);
        command
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[])
    }

    fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Exit code, stdout, stderr.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    fn fails(&self, arguments: &[&str], code: i32, expect: &[&str]) {
        let (got, stdout, stderr) = self.run(arguments);
        assert_eq!(got, Some(code), "{arguments:?}: {stdout}{stderr}");
        for text in expect {
            assert!(stderr.contains(text), "{arguments:?} does not say {text:?}: {stderr}");
        }
    }

    /// Begins to join; the pairing's id, once the server knows of it.
    fn begin(&self, server: &str, code: Option<&str>) -> (Running, String) {
        let arguments = ["agent", "join", "--no-run", "--json", "--server", server, "--name", "door"];
        let mut running = self.start(&[&arguments[..], code.as_slice()].concat());
        let first: Value = serde_json::from_str(&running.lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(first["status"], "pending_approval", "{first}");
        (running, first["id"].as_str().unwrap().to_owned())
    }

    /// Where an agent is found that was told of no place.
    fn socket(&self) -> PathBuf {
        self.path(&format!("heliograph-{}/agent.sock", rustix::process::geteuid().as_raw()))
    }

    /// Waits until `status` says so.
    fn status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        for tries in 0.. {
            let output = self.command(&["agent", "status", "--json"]).output().unwrap();
            match serde_json::from_slice(&output.stdout) {
                Ok(status) if is_so(&status) => return status,
                _ => assert!(tries < 600, "not {what}: {output:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Value::Null
    }
}

fn is_online(status: &Value) -> bool {
    status["state"] == "online"
}

fn has_channel(status: &Value) -> bool {
    status["peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer["channel"] == "open"))
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Exit code, the rest of stdout, stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (over, is_over) = mpsc::channel::<()>();
        let process = Pid::from_child(&self.child);
        let watch = std::thread::spawn(move || {
            let is_late = is_over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
            is_late.then(|| kill_process(process, Signal::KILL))
        });
        let mut stderr = String::new();
        let stdout: Vec<_> = self.lines.by_ref().map(Result::unwrap).collect();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        drop(over);
        assert!(watch.join().unwrap().is_none(), "it did not end within {PATIENCE:?}: {stdout:?} {stderr}");
        (self.child.wait().unwrap().code(), stdout.join("\n"), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn invite(node: &Node) -> String {
    node.ask_json(&["invite", "create"])["code"].as_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_machine_joins_once_it_is_approved() {
    let (node, machine) = (Node::start(), Machine::new());
    let code = invite(&node);
    let (joining, id) = machine.begin(&node.server, Some(&code));
    assert_eq!(mode(&machine.pairing()), 0o600);
    let other = ["agent", "join", "--no-run", "--server", &node.server];
    machine.fails(&other, 1, &["another `heliograph agent join` waits"]);
    assert!(node.ask(&["peer", "approve", &id]).contains("approved"));

    let (exit, said, trouble) = joining.end();
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{trouble}"));
    assert_eq!((exit, said["status"].as_str()), (Some(0), Some("approved")), "{trouble}");
    assert_eq!(said["token_file"], machine.token().to_str().unwrap());
    assert!(!machine.pairing().exists());
    assert_eq!((mode(&machine.token()), mode(machine.token().parent().unwrap())), (0o600, 0o700));
    let kept: Value = serde_json::from_slice(&fs::read(machine.token()).unwrap()).unwrap();
    assert_eq!((kept["server"].as_str(), &kept["peer_id"]), (Some(node.server.as_str()), &said["peer_id"]));
    assert!(node.ask(&["peer", "show", &id]).contains("door"));
    assert!(!node.ask(&["token", "--key", kept["device_token"].as_str().unwrap()]).is_empty());

    // The same command, as a machine types it whenever it starts: nothing is used up, nothing is asked for.
    let again = machine.succeeds(&["agent", "join", &code, "--no-run", "--server", &node.server]);
    assert!(again.contains("has joined") && !again.contains("dt_"), "{again}");
    // The token is for its server alone.
    let elsewhere = ["agent", "join", "X", "--no-run", "--server", "http://127.0.0.1:9"];
    machine.fails(&elsewhere, 2, &["holds a device token of", "--token-file"]);

    // A machine that lost its right joins anew.
    node.ask(&["peer", "revoke", &id]);
    let (joining, new_id) = machine.begin(&node.server, Some(&invite(&node)));
    node.ask(&["peer", "approve", &new_id]);
    let (exit, _, trouble) = joining.end();
    assert!(exit == Some(0) && trouble.contains("no longer takes the token"), "{trouble}");
    let new: Value = serde_json::from_slice(&fs::read(machine.token()).unwrap()).unwrap();
    assert_ne!(new["device_token"], kept["device_token"]);
}

#[test]
fn joining_goes_on_after_an_interruption_with_the_code_or_without() {
    let node = Node::start();
    for with_code in [true, false] {
        let (machine, code) = (Machine::new(), invite(&node));
        let (joining, id) = machine.begin(&node.server, Some(&code));
        // Not INT: what a shell without job control runs in the background has that one ignored from the start.
        joining.signal(Signal::TERM);
        assert_eq!(joining.end().0, None, "ended by the signal");
        assert!(!machine.token().exists());
        node.ask(&["peer", "approve", &id]);
        let (joining, same) = machine.begin(&node.server, with_code.then_some(code.as_str()));
        assert_eq!((joining.end().0, same), (Some(0), id));
        assert!(machine.token().exists() && !machine.pairing().exists());
    }
    // Who gives up in time loses nothing either.
    let machine = Machine::new();
    let arguments = ["agent", "join", "--no-run", "--timeout", "100ms", "--server", &node.server];
    machine.fails(&[&arguments[..], &[&invite(&node)]].concat(), 1, &["the same command goes on"]);
    assert!(machine.pairing().exists());
    let other = invite(&node);
    machine.fails(&[&arguments[..], &[&other]].concat(), 1, &["the new code stays unused"]);
    assert!(!Machine::new().begin(&node.server, Some(&other)).1.is_empty());
}

#[test]
fn a_machine_that_is_turned_down_is_told_why() {
    let (node, machine) = (Node::start(), Machine::new());
    let (joining, id) = machine.begin(&node.server, Some(&invite(&node)));
    node.ask(&["peer", "reject", &id]);
    let (exit, _, trouble) = joining.end();
    assert!(exit == Some(1) && trouble.contains(&format!("has rejected pairing {id}")), "{trouble}");
    assert!(!machine.pairing().exists() && !machine.token().exists());

    let join = |code| ["agent", "join", code, "--no-run", "--server", &node.server];
    machine.fails(&join("!!!"), 1, &["malformed_code"]);
    machine.fails(&join("7K3QX9AB2M"), 1, &["does not take this code", "ask for a new one"]);
    machine.fails(&["agent", "join", "--no-run", "--server", &node.server], 2, &["needs an invite code"]);
    let is_limited = |_| machine.run(&join("7K3QX9AB2M")).2.contains("try again in");
    assert!((0..20).any(is_limited), "guessing is not slowed down");
    assert!(!machine.pairing().exists(), "no code was used up");
}

#[test]
fn a_server_that_is_away_is_asked_again() {
    let paired = r#"{"id": "p1", "peer_id": "agent-1", "status": "pending_approval", "claim_token": "ct_1"}"#;
    let (pending, approved) =
        (r#"{"status": "pending_approval"}"#, r#"{"status": "approved", "device_token": "dt_hunter2"}"#);
    let answers = vec![(200, paired), (503, "{}"), (200, pending), (200, approved)];
    let (server, requests) = fake_server(answers);
    let machine = Machine::new();
    let said =
        machine.succeeds(&["agent", "join", "CODE", "--no-run", "--server", &server, "--name", "door"]);
    for text in ["as agent-1", "heliograph peer approve p1", "still waiting: ", "Approved. agent-1"] {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    assert!(!said.contains("hunter2") && !said.contains("ct_1"), "{said}");
    let requests: Vec<_> = requests.iter().collect();
    assert_eq!(requests[0].body, json!({ "code": "CODE", "agent_name": "door" }));
    assert_eq!(requests[3].line, "GET /api/pairing/p1/status?wait=30 HTTP/1.1");
    assert!(fs::read_to_string(machine.token()).unwrap().contains("dt_hunter2"));

    // The one who approved has taken the token.
    let (server, _requests) = fake_server(vec![(200, paired), (200, r#"{"status": "approved"}"#)]);
    let machine = Machine::new();
    let expect = ["went to somebody else", "revoke agent-1"];
    machine.fails(&["agent", "join", "CODE", "--no-run", "--server", &server], 1, &expect);
    assert!(!machine.pairing().exists() && !machine.token().exists());

    // A server that is none, and one that is not there.
    let (server, _requests) = fake_server(vec![(200, "{}")]);
    machine.fails(&["agent", "join", "C", "--no-run", "--server", &server], 1, &["is it heliograph?"]);
    machine.fails(&["agent", "join", "C", "--server", "http://127.0.0.1:9"], 1, &["cannot reach"]);
}

#[test]
fn wrong_usage_of_the_agent_is_told_with_exit_code_2() {
    let machine = Machine::new();
    let here = machine.path("s").to_str().unwrap().to_owned();
    let run = |arguments: &[&str], expect: &[&str]| {
        machine.fails(&[&["agent", "run", "--socket", &here], arguments].concat(), 2, expect);
    };
    run(&["--server", "here"], &["--server is not an address"]);
    run(&["--server", "http://127.0.0.1:9"], &["there is no credential", "agent join"]);
    run(&["--key-file", "nowhere"], &["cannot read nowhere"]);
    run(&["--key", "k", "--key-file", "k"], &["cannot be used with"]);
    run(&["--log", "=,="], &["--log \"=,=\" is not a log filter"]);
    run(&["--log-format", "xml"], &["--log-format \"xml\""]);
    machine.fails(&["agent", "join", "C", "--timeout", "soon"], 2, &["--timeout \"soon\" is not a duration"]);
    let nowhere = ["agent", "join", "C", "--no-run"];
    check_failure(&nowhere, &[], 2, &["neither HOME nor XDG_STATE_HOME", "--token-file"]);
    let policy = [("ICE_TRANSPORT_POLICY", "relays"), ("API_KEY", "k")];
    check_failure(&["agent", "run"], &policy, 2, &["write relay or all"]);
}

/// A bridge that says these lines to whoever asks, once.
fn fake_bridge(path: &Path, lines: &'static str) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).unwrap();
        (&stream).write_all(lines.as_bytes()).unwrap();
        asked
    })
}

#[test]
fn a_running_agent_is_asked_how_it_stands() {
    let machine = Machine::new();
    let check = |name: &str, lines, arguments: &[&str], code, expect: &[&str]| {
        let bridge = fake_bridge(&machine.path(name), lines);
        let (got, stdout, stderr) =
            machine.run(&[&["agent", "status", "--socket", name], arguments].concat());
        assert_eq!(bridge.join().unwrap(), "{\"type\":\"status\"}\n");
        assert_eq!(got, Some(code), "{stdout}{stderr}");
        for text in expect {
            assert!((stdout.clone() + &stderr).contains(text), "no {text:?} in {stdout}{stderr}");
        }
        stdout
    };
    let online = concat!(
        "{\"type\":\"peer_connected\",\"payload\":{\"peer_id\":\"b\"}}\n",
        "{\"type\":\"status\",\"payload\":{\"state\":\"online\",\"peer_id\":\"a\",\"server\":\"ws://h/ws\",\"running_s\":130,",
        "\"programs\":2,\"version\":\"0.1.0\",\"relay_only\":true,\"peers\":[{\"peer_id\":\"b\\u001b[2J\",\"present\":true,",
        "\"connection\":\"connected\",\"channel\":\"open\",\"local\":\"host\",\"remote\":\"relay\",\"bytes_sent\":7,",
        "\"bytes_received\":8,\"ended\":null}]}}\n"
    );
    let expect = ["online", "ws://h/ws", "2m", "1 open, 1 peers", "TURN servers alone", "connected", "relay"];
    let shown = check("online", online, &[], 0, &expect);
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = check("json", online, &["--json"], 0, &[]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["peers"][0]["bytes_received"], 8);
    let waiting =
        "{\"type\":\"status\",\"payload\":{\"state\":\"waiting\",\"retry_in_ms\":1500,\"peers\":[]}}\n";
    check("waiting", waiting, &[], 0, &["waiting, tries again within 2s", "0 open, 0 peers"]);
    let stopped = "{\"type\":\"status\",\"payload\":{\"state\":\"stopped\",\"reason\":\"revoked\"}}\n";
    check("stopped", stopped, &[], 0, &["stopped: revoked"]);

    let refused =
        "{\"type\":\"error\",\"payload\":{\"code\":\"too_many_programs\",\"message\":\"no room\"}}\n";
    check("full", refused, &[], 1, &["gives no status: no room"]);
    check("other", "HTTP/1.1 400 Bad Request\n", &[], 1, &["does not speak JSON lines"]);
    check("gone", "{\"type\":\"stat", &[], 1, &["ended the connection"]);
    machine.fails(&["agent", "status", "--socket", "gone"], 1, &["no agent answers at gone", "agent run"]);
    machine.fails(
        &["agent", "status", "--socket", "nowhere"],
        1,
        &["no agent answers at nowhere", "--socket"],
    );
}

#[test]
fn an_agent_runs_until_it_is_told_to_end() {
    let (node, machine) = (Node::start(), Machine::new());
    let key = node.ask_json(&["key", "create", "alice"])["key"].as_str().unwrap().to_owned();
    fs::write(machine.path("key"), &key).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let running = machine.start(&["agent", "run", "--server", &node.server, "--key-file", "key"]);
        let status = machine.status("online", is_online);
        assert_eq!(status["peer_id"], "alice");
        assert_eq!((mode(&machine.socket()), mode(machine.socket().parent().unwrap())), (0o600, 0o700));
        assert!(machine.succeeds(&["agent", "status"]).contains("0 open, 0 peers"));
        running.signal(signal);
        let (exit, _, log) = running.end();
        assert_eq!(exit, Some(0), "{log}");
        assert!(log.contains("--key-file key") && !log.contains(&key), "{log}");
        assert!(!machine.socket().exists());
    }
    fs::write(machine.path("key"), "ak_nobody").unwrap();
    let run = ["agent", "run", "--server", &node.server, "--key-file", "key"];
    machine.fails(&run, 1, &["error: ", "the credential was refused"]);
}

#[test]
fn a_machine_that_joined_runs_then_and_ever_after_until_it_is_revoked() {
    let (node, machine, other) = (Node::start(), Machine::new(), Machine::new());
    let code = invite(&node);
    let mut joining = machine.start(&["agent", "join", &code, "--server", &node.server, "--json"]);
    let asked: Value = serde_json::from_str(&joining.lines.next().unwrap().unwrap()).unwrap();
    node.ask(&["peer", "approve", asked["id"].as_str().unwrap()]);
    assert_eq!(machine.status("online", is_online)["peer_id"], asked["peer_id"]);
    joining.signal(Signal::TERM);
    assert_eq!(joining.end().0, Some(0));

    let running = machine.start(&["agent", "run"]);
    let key = node.ask_json(&["key", "create", "bob"])["key"].as_str().unwrap().to_owned();
    let others = other.start_with(&["agent", "run", "--server", &node.server], &[("API_KEY", &key)]);
    machine.status("connected", has_channel);
    other.status("connected", has_channel);

    node.ask(&["peer", "revoke", asked["id"].as_str().unwrap()]);
    let (exit, _, log) = running.end();
    assert!(exit == Some(1) && log.contains("revoked"), "{exit:?} {log}");
    other.status("disconnected", |status| !has_channel(status));
    others.signal(Signal::TERM);
    assert_eq!(others.end().0, Some(0));
}
