//! Servers as processes of their own, which end with their handles.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::http::Connection;
use crate::peers::{Peer, key_file};
use crate::target::{Dialect, Target};

/// How long a server may take to start: it may have ten thousand keys to import.
const START: Duration = Duration::from_mins(1);
/// Signs the tokens of a run. Not a secret: the server lives for minutes, on loopback.
const SECRET: &str = "load-generator-secret-of-no-worth-0123456789abcdef";

/// A running server; dropping it ends the process and removes its data.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: TempDir,
    target: Target,
    /// How long it took until it was ready.
    pub started_in: Duration,
}

/// What an ended server stored; it goes with this.
#[derive(Debug)]
pub struct Data(TempDir);

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or it ends now; its data goes either way.
        let _already_gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    /// Where and what it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Starts the bare relay.
    pub fn bare(program: &Path) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Self::around(child, Dialect::Bare, unknown)?;
        let output = server.child.stdout.take().context("no output to read the address from")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").context("the bare relay did not start")?;
        server.target.address = address.parse()?;
        server.started_in = begun.elapsed();
        Ok(server)
    }

    /// Starts the product in embedded mode with `peers` enrolled and rate limits off, and waits until it is ready.
    ///
    /// Enrolling thousands takes a while, so a server may take over the `data` of an earlier one
    /// ([`Self::into_data`]) that had the same peers.
    pub async fn product(program: &Path, peers: &[Peer], data: Option<&Data>) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let directory = tempfile::tempdir()?;
        if let Some(Data(earlier)) = data {
            copy(&earlier.path().join("data"), &directory.path().join("data"))?;
        }
        let (listen, ops) = (free_address()?, free_address()?);
        let log = std::fs::File::create(directory.path().join("log"))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // What the caller configured for another server must not change this one.
            if name.to_str().is_some_and(|name| name.starts_with("HELIOGRAPH_") || name.starts_with("OTEL_"))
            {
                command.env_remove(name);
            }
        }
        command
            .args(["dev", "--listen", &listen.to_string(), "--ops-listen", &ops.to_string()])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .env("HELIOGRAPH_SIGNING_SECRET", SECRET)
            .env("HELIOGRAPH_MAX_MESSAGES_PER_SECOND", "0")
            .env("HELIOGRAPH_MAX_UPGRADES_PER_SECOND", "0")
            .env("HELIOGRAPH_MAX_SOCKETS_PER_ADDRESS", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if data.is_none() {
            let keys = directory.path().join("api_keys.json");
            std::fs::write(&keys, key_file(peers))?;
            command.env("HELIOGRAPH_API_KEYS_FILE", &keys);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self::around(child, Dialect::Mesh { secret: SECRET.to_owned() }, listen)?;
        server.directory = directory;
        server.until_ready(ops, begun).await?;
        server.started_in = begun.elapsed();
        Ok(server)
    }

    /// Ends the process and keeps what it stored. It is not asked to stop: what it answered for is on disk.
    pub fn into_data(mut self) -> anyhow::Result<Data> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(Data(std::mem::replace(&mut self.directory, tempfile::tempdir()?)))
    }

    fn around(child: Child, dialect: Dialect, address: SocketAddr) -> anyhow::Result<Self> {
        let target = Target { dialect, address, pid: child.id() };
        Ok(Self { child, directory: tempfile::tempdir()?, target, started_in: Duration::ZERO })
    }

    async fn until_ready(&mut self, ops: SocketAddr, begun: Instant) -> anyhow::Result<()> {
        while begun.elapsed() < START {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at its start ({status}):\n{}", self.log());
            }
            if let Ok(mut connection) = Connection::open(ops).await
                && let Ok(answer) = connection.request("GET", "/readyz", "").await
                && answer.status == 200
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the server was not ready within {} s:\n{}", START.as_secs(), self.log());
    }

    /// The end of what the product wrote.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Copies the files of a folder; a data directory has no folders in it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// An address that nobody listens on, as far as one can know.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
