//! One Redis server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::client::{self, Reply};
use super::{Role, Settings};
use crate::find;
use crate::port::Port;
use crate::process::{Process, Program};
use crate::wait::until;

/// One Redis server, running or not.
#[derive(Debug)]
pub struct RedisNode {
    process: Option<Process>,
    port: Port,
    /// Where we speak without TLS to one that wants TLS of its clients.
    plain: Option<Port>,
    folder: PathBuf,
    settings: Settings,
}

impl RedisNode {
    /// Starts one; it may not answer yet.
    pub(super) fn start_new(folder: &Path, settings: Settings) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let plain = settings.tls.then(Port::reserve).transpose()?;
        let mut node =
            Self { process: None, port: Port::reserve()?, plain, folder: folder.to_owned(), settings };
        node.launch()?;
        Ok(node)
    }

    /// Starts it at another port, as this one's is taken.
    pub(super) fn start_elsewhere(&mut self) -> Result<()> {
        self.port = Port::reserve()?;
        self.plain = self.settings.tls.then(Port::reserve).transpose()?;
        self.launch()
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Whether it was started and not killed.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The id of its process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Runs a command; an error reply is an error.
    pub async fn command(&self, arguments: &[&str]) -> Result<Reply> {
        let at = self.plain.as_ref().unwrap_or(&self.port).address();
        client::command(at, self.settings.password.as_deref(), arguments).await
    }

    /// What it calls itself: `master`, `slave` or `sentinel`.
    pub(super) async fn role(&self) -> Result<String> {
        let role = self.command(&["ROLE"]).await?;
        Ok(role.list().first().map(|role| role.text().to_owned()).unwrap_or_default())
    }

    /// The port of the node that it replicates, if it is a replica.
    pub(super) async fn follows(&self) -> Result<Option<u16>> {
        let info = self.command(&["INFO", "replication"]).await?;
        Ok(info.field("master_port").and_then(|port| port.parse().ok()))
    }

    /// Whether it is a master or has all that its master had when it was told to replicate it.
    pub(super) async fn is_in_sync(&self) -> Result<bool> {
        let info = self.command(&["INFO", "replication"]).await?;
        Ok(info.field("role") == Some("master") || info.field("master_link_status") == Some("up"))
    }

    /// Starts it again at its address and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_until_it_answers().await
    }

    pub(super) async fn wait_until_it_answers(&mut self) -> Result<()> {
        until("Redis answers", async || {
            self.process.as_mut().context("Redis is not running")?.must_run()?;
            Ok(self.command(&["PING"]).await.ok())
        })
        .await?;
        Ok(())
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Stops it where it is.
    pub(super) fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("Redis is not running")?.pause()
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("Redis is not running")?.resume()
    }

    fn launch(&mut self) -> Result<()> {
        if self.process.as_mut().is_some_and(|process| matches!(process.ended(), Ok(None))) {
            bail!("Redis is running");
        }
        let port = self.port.number().to_string();
        let mut program = Program::new(find::program("redis-server", "redis-server")?);
        program = match self.settings.role {
            Role::Data => program.args(["--save", "", "--appendonly", "no"]),
            Role::Sentinel => program.arg(self.sentinel_file()?).arg("--sentinel"),
        };
        program = match &self.plain {
            Some(plain) => program.args(["--tls-port", &port, "--port", &plain.number().to_string()]),
            None => program.args(["--port", &port]),
        };
        let program = program.args(["--bind", "127.0.0.1", "--dir"]).arg(&self.folder);
        self.process = Some(program.args(&self.settings.arguments).folder(&self.folder).start()?);
        Ok(())
    }

    /// A Sentinel wants a file to which it writes what it learns.
    fn sentinel_file(&self) -> Result<PathBuf> {
        let file = self.folder.join("sentinel.conf");
        if !file.is_file() {
            std::fs::write(&file, "").with_context(|| file.display().to_string())?;
        }
        Ok(file)
    }
}
