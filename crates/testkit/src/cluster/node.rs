//! A node of a cluster: a process of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heliograph_sandbox::{Process, Program, Proxy};
use serde_json::Value;

use crate::access::Access;

/// How many lines of its log a node shows when a test fails.
const SHOWN: usize = 100;

/// How long a start may take: whoever has thousands of keys to bring into the database needs some time for it.
const STARTED_WITHIN: Duration = Duration::from_mins(2);

/// What stands between a node and its servers.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) redis: Option<Proxy>,
    pub(super) database: Option<Proxy>,
}

/// A process that serves. Ends when dropped; its log is printed if that is because a test fails.
#[derive(Debug)]
pub struct Node {
    process: Mutex<Process>,
    access: Access,
    gateway: String,
    ways: Ways,
    /// All that it logs, if that is kept.
    log_file: Option<PathBuf>,
}

impl Deref for Node {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl Node {
    /// Starts it and waits until it says where it serves. It may not be ready yet.
    pub(super) async fn start(mut program: Program, ways: Ways, log_file: Option<PathBuf>) -> Self {
        if let Some(file) = &log_file {
            program = program.log_file(file);
        }
        let process = program.start().unwrap_or_else(|error| panic!("{error:#}"));
        let process = Mutex::new(process);
        let give_up = tokio::time::Instant::now() + STARTED_WITHIN;
        let serving = loop {
            let log = {
                let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
                process.must_run().unwrap_or_else(|error| panic!("{error:#}"));
                log_file.as_deref().map_or_else(|| process.log(), read)
            };
            if let Some(serving) = log.lines().find_map(serving) {
                break serving;
            }
            assert!(tokio::time::Instant::now() < give_up, "does not serve after {STARTED_WITHIN:?}: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let access = Access::to(serving.listen, serving.ops);
        Self { process, access, gateway: serving.gateway, ways, log_file }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name among the nodes.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// What it logged: the end of it, or all in a cluster that logs writes.
    pub fn log(&self) -> String {
        self.log_file.as_deref().map_or_else(|| self.process().log(), read)
    }

    /// Stops it where it is (SIGSTOP): its sockets stay open and answer nothing.
    pub fn pause(&self) {
        done(self.process().pause());
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        done(self.process().resume());
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        done(self.process().kill());
    }

    /// Asks it to end (SIGTERM): it drains.
    pub fn terminate(&self) {
        done(self.process().terminate());
    }

    /// Waits until it has ended.
    pub async fn ended(&self, within: Duration) -> ExitStatus {
        let give_up = tokio::time::Instant::now() + within;
        loop {
            if let Some(status) = done(self.process().ended()) {
                return status;
            }
            assert!(tokio::time::Instant::now() < give_up, "{} did not end within {within:?}", self.gateway);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The way to Redis, in a cluster with ways that fail.
    pub fn way_to_redis(&self) -> &Proxy {
        self.ways.redis.as_ref().unwrap_or_else(|| panic!("this cluster has no ways that fail"))
    }

    /// The way to Postgres, in a cluster with ways that fail.
    pub fn way_to_database(&self) -> &Proxy {
        self.ways.database.as_ref().unwrap_or_else(|| panic!("this cluster has no ways that fail"))
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.ops().get("/readyz").await.status == 200
    }

    /// Its resident memory, in bytes.
    pub async fn resident_bytes(&self) -> i64 {
        self.metric("process_resident_memory_bytes").await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("---- log of {}\n{}", self.gateway, shown.join("\n"));
        }
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
}

fn done<T>(result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}

/// What a node says when it begins to serve.
struct Serving {
    gateway: String,
    listen: SocketAddr,
    ops: SocketAddr,
}

/// Reads it from a line of a log in JSON, if that is the one.
fn serving(line: &str) -> Option<Serving> {
    let line: Value = serde_json::from_str(line).ok()?;
    // Whatever the format does with fields, they are on the line or in an object on it.
    let field = |name: &str| {
        let inner = line.as_object()?.values().find_map(|value| value.get(name));
        line.get(name).or(inner)?.as_str().map(str::to_owned)
    };
    (field("message")? == "serving").then_some(())?;
    Some(Serving {
        gateway: field("gateway")?,
        listen: field("listen")?.parse().ok()?,
        ops: field("ops")?.parse().ok()?,
    })
}
