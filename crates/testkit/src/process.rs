//! A node as a process of its own, which can be killed and whose memory is its own.

use std::ops::Deref;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::in_time;
use crate::server::{Settings, environment};

/// A process that serves. Killed when dropped.
pub struct NodeProcess {
    child: Child,
    access: Access,
    log: JoinHandle<String>,
}

impl Deref for NodeProcess {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl NodeProcess {
    /// Starts `program`, which runs a node in `dev` mode on `data`, and waits until it serves.
    pub async fn start(program: &str, data: &Path, settings: Settings<'_>) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(environment(data, settings))
            .env("HELIOGRAPH_LISTEN", "127.0.0.1:0")
            .env("HELIOGRAPH_OPS_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let (out, mut err) = (child.stdout.take(), child.stderr.take());
        let log = tokio::spawn(async move {
            let mut log = vec![];
            if let Some(err) = &mut err {
                let _cut_off = err.read_to_end(&mut log).await;
            }
            String::from_utf8_lossy(&log).into_owned()
        });
        let out = out.unwrap_or_else(|| panic!("no stdout"));
        match in_time("the node serves", addresses(out)).await {
            Some(access) => {
                access.wait_until_ready().await;
                Self { child, access, log }
            }
            None => panic!("the node did not start: {}", log.await.unwrap_or_default()),
        }
    }

    /// Ends it as `kill -9` does; what it had logged.
    pub async fn kill(mut self) -> String {
        self.child.kill().await.unwrap_or_else(|error| panic!("{error}"));
        in_time("the log ends", &mut self.log).await.unwrap_or_default()
    }

    /// Its resident memory, in bytes.
    pub async fn resident_bytes(&self) -> i64 {
        self.metric("process_resident_memory_bytes").await
    }
}

/// Reads the addresses from what a node in `dev` mode says first, and keeps reading so that it never blocks.
async fn addresses(out: ChildStdout) -> Option<Access> {
    let mut lines = BufReader::new(out).lines();
    let (mut public, mut ops) = (None, None);
    while let Ok(Some(line)) = lines.next_line().await {
        let address =
            line.split_once("http://").and_then(|(_, rest)| rest.split('/').next()?.trim().parse().ok());
        if line.contains("/metrics") {
            ops = address.or(ops);
        } else {
            public = public.or(address);
        }
        if let (Some(address), Some(ops)) = (public, ops) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(Access::to(address, ops));
        }
    }
    None
}
