//! Agents as processes, and local programs that speak to them over their bridges.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heliograph_sandbox::{Folder, Process, Program};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::{PATIENCE, eventually, in_time};

/// A running `heliograph agent run`. Ends when dropped; its log is printed if that is because a test fails.
#[derive(Debug)]
pub struct Agent {
    process: Mutex<Process>,
    program: Program,
    name: String,
    socket: PathBuf,
    _folder: Folder,
}

impl Agent {
    /// Starts it for the peer of `key` at the server at `server` (`http://…`), and waits until its bridge is there.
    pub async fn start(name: &str, server: &str, key: &str) -> Self {
        Self::start_with(name, server, key, &[]).await
    }

    /// With more arguments.
    pub async fn start_with(name: &str, server: &str, key: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new("agent").unwrap_or_else(|error| panic!("{error:#}"));
        let socket = folder.path().join("agent.sock");
        let program = Program::new(binary())
            .args(["agent", "run", "--server", server, "--socket"])
            .arg(&socket)
            .args(arguments)
            .folder(folder.path())
            // What is set for whoever runs the tests is not for the agents.
            .without_env("HELIOGRAPH_")
            .env("HELIOGRAPH_KEY", key)
            .env(
                "HELIOGRAPH_LOG",
                std::env::var("HELIOGRAPH_TEST_LOG").unwrap_or_else(|_| "info".to_owned()),
            );
        let process = Mutex::new(program.start().unwrap_or_else(|error| panic!("{error:#}")));
        let agent = Self { process, program, name: name.to_owned(), socket, _folder: folder };
        agent.wait_for_bridge().await;
        agent
    }

    async fn wait_for_bridge(&self) {
        eventually("the agent's bridge is there", async || {
            self.process().must_run().unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
            UnixStream::connect(&self.socket).await.ok().map(drop)
        })
        .await;
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its bridge is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// A program that attaches to it.
    pub async fn attach(&self) -> LocalProgram {
        LocalProgram::attach(&self.name, &self.socket).await
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        self.process().kill().unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Starts it again after its end, and waits until its bridge is there.
    pub async fn start_again(&self) {
        *self.process() = self.program.start().unwrap_or_else(|error| panic!("{error:#}"));
        self.wait_for_bridge().await;
    }

    /// Asks it to end (SIGTERM); how it ended.
    pub async fn stop(&self) -> ExitStatus {
        self.process().terminate().unwrap_or_else(|error| panic!("{error:#}"));
        self.ended().await
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> ExitStatus {
        eventually("the agent ends", async || {
            self.process().ended().unwrap_or_else(|error| panic!("{error:#}"))
        })
        .await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent {}\n{}", self.name, self.log());
        }
    }
}

/// The product's binary: agents are part of its command line.
fn binary() -> PathBuf {
    let path = std::env::var_os("HELIOGRAPH_BIN").map(PathBuf::from);
    path.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!("HELIOGRAPH_BIN has to name the built binary: cargo build --package heliograph")
    })
}

/// A program on the same machine as an agent, attached to its bridge.
#[derive(Debug)]
pub struct LocalProgram {
    name: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl LocalProgram {
    /// Attaches to the bridge at `socket`.
    pub async fn attach(name: &str, socket: &Path) -> Self {
        let stream = in_time("the bridge takes a program", UnixStream::connect(socket)).await;
        let (reader, writer) = stream.unwrap_or_else(|error| panic!("{name}: {error}")).into_split();
        Self { name: name.to_owned(), lines: BufReader::new(reader).lines(), writer }
    }

    /// Says something; `line` without its end.
    pub async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        let said = self.writer.write_all(line.as_bytes());
        in_time("the bridge reads", said).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends a message to a peer.
    pub async fn send(&mut self, target: &str, message: &Value) {
        self.say(
            &json!({"type": "send", "payload": {"target_peer": target, "message": message}}).to_string(),
        )
        .await;
    }

    /// What the bridge says next: the type and the payload.
    pub async fn next(&mut self) -> (String, Value) {
        self.next_within(PATIENCE)
            .await
            .unwrap_or_else(|| panic!("{}: nothing within {PATIENCE:?}", self.name))
    }

    /// What the bridge says next, if it does within `bound`.
    pub async fn next_within(&mut self, bound: Duration) -> Option<(String, Value)> {
        let line = tokio::time::timeout(bound, self.lines.next_line()).await.ok()?;
        let line = line.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let line = line.unwrap_or_else(|| panic!("{}: the bridge is gone", self.name));
        let mut notice: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let kind = notice["type"].as_str().unwrap_or_else(|| panic!("{line}: no type")).to_owned();
        Some((kind, notice["payload"].take()))
    }

    /// The payload of the next notice of this type; what comes before it is passed over.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let wait = async {
            loop {
                let (came, payload) = self.next().await;
                if came == kind {
                    return payload;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {kind} within {PATIENCE:?}"))
    }

    /// The next message: from whom, and what.
    pub async fn message(&mut self) -> (String, Value) {
        let mut payload = self.expect("message").await;
        (payload["from_peer"].as_str().unwrap_or_default().to_owned(), payload["message"].take())
    }

    /// Waits until there is a channel to `peer`.
    pub async fn connected(&mut self, peer: &str) {
        while self.expect("peer_connected").await["peer_id"] != peer {}
    }

    /// Waits until there is none any more.
    pub async fn disconnected(&mut self, peer: &str) {
        while self.expect("peer_disconnected").await["peer_id"] != peer {}
    }
}
