//! The measured servers as processes of their own, which end with their handles.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use heliograph_sandbox::{Folder, Port, Process, Program};

use crate::http::Connection;
use crate::peers::{Peer, key_file};
use crate::target::{Dialect, Target};

/// How long a server may take to start: it may have ten thousand keys to import.
const START: Duration = Duration::from_mins(3);
/// Between two looks at whether it is ready.
const LOOK: Duration = Duration::from_millis(20);
/// Signs the tokens of a run. Not a secret: the server lives for minutes, on loopback.
const SECRET: &str = "load-generator-secret-of-no-worth-0123456789abcdef";

/// The key of whoever administers a measured product; as much worth.
pub const ADMIN_KEY: &str = "ak_loadgenerator_administrator_0123456789";

/// A running server; dropping it ends the process and removes its data.
#[derive(Debug)]
pub struct Server {
    // Before the folder, so that it ends before its data goes.
    process: Process,
    folder: Folder,
    /// Its ports stay reserved; the bare relay takes one itself.
    ports: Option<Ports>,
    target: Target,
    /// How long it took until it was ready.
    pub started_in: Duration,
}

#[derive(Debug)]
struct Ports {
    public: Port,
    ops: Port,
}

/// What an ended server stored; it goes with this.
#[derive(Debug)]
pub struct Data(Folder);

/// What the nodes of a cluster share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// URL of the database.
    pub database: String,
    /// URL of Redis.
    pub redis: String,
}

/// Which limits a product has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Those per connection and per address are off.
    Off,
    /// As it comes.
    Default,
}

impl Server {
    /// Where and what it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its listener for health and metrics; the bare relay has none.
    pub fn ops(&self) -> Option<SocketAddr> {
        self.ports.as_ref().map(|ports| ports.ops.address())
    }

    /// Starts the bare relay: alone, or as one of several that share the Redis server at an address.
    pub async fn bare(program: &Path, redis: Option<SocketAddr>) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut command = Program::new(program).args(["--listen", "127.0.0.1:0"]);
        if let Some(redis) = redis {
            command = command.args(["--redis", &redis.to_string()]);
        }
        let dialect = Dialect::Bare { linked: redis.is_some() };
        let folder = Folder::new("bare-relay")?;
        let mut server = Self::around(&command, folder, None, dialect)?;
        server.target.address = server.announced(begun).await?;
        server.started_in = begun.elapsed();
        Ok(server)
    }

    /// Starts the product in embedded mode with `peers` enrolled and rate limits off, and waits until it is ready.
    ///
    /// Enrolling thousands takes a while, so a server may take over the `data` of an earlier one
    /// ([`Self::into_data`]) that had the same peers.
    pub async fn product(program: &Path, peers: &[Peer], data: Option<&Data>) -> anyhow::Result<Self> {
        let folder = Folder::new("product")?;
        if let Some(Data(earlier)) = data {
            copy(&earlier.path().join("data"), &folder.path().join("data"))?;
        }
        let enrol = if data.is_none() { Some(peers) } else { None };
        Self::start(configured(program, "dev", Limits::Off), folder, enrol).await
    }

    /// Starts a node of a cluster and waits until it is ready; `enrol` has it import the keys of peers before.
    pub async fn node(
        program: &Path,
        shared: &Shared,
        limits: Limits,
        enrol: Option<&[Peer]>,
    ) -> anyhow::Result<Self> {
        let command = configured(program, "serve", limits)
            .env("HELIOGRAPH_AUTO_MIGRATE", "true")
            .env("HELIOGRAPH_DATABASE_URL", &shared.database)
            .env("HELIOGRAPH_REDIS_URL", &shared.redis);
        Self::start(command, Folder::new("node")?, enrol).await
    }

    async fn start(command: Program, folder: Folder, enrol: Option<&[Peer]>) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let ports = Ports { public: Port::reserve()?, ops: Port::reserve()? };
        let mut command = command
            .args(["--listen", &ports.public.address().to_string()])
            .args(["--ops-listen", &ports.ops.address().to_string()])
            .arg("--data-dir")
            .arg(folder.path().join("data"));
        if let Some(peers) = enrol {
            let keys = folder.path().join("api_keys.json");
            std::fs::write(&keys, key_file(peers))?;
            command = command.env("HELIOGRAPH_API_KEYS_FILE", &keys);
        }
        let (address, ops) = (ports.public.address(), ports.ops.address());
        let dialect = Dialect::Mesh { secret: SECRET.to_owned() };
        let mut server = Self::around(&command, folder, Some(ports), dialect)?;
        server.target.address = address;
        server.until_ready(ops, begun).await?;
        server.started_in = begun.elapsed();
        Ok(server)
    }

    fn around(
        command: &Program,
        folder: Folder,
        ports: Option<Ports>,
        dialect: Dialect,
    ) -> anyhow::Result<Self> {
        let process = command.start()?;
        let target = Target { dialect, address: (Ipv4Addr::UNSPECIFIED, 0).into(), pid: process.id() };
        Ok(Self { process, folder, ports, target, started_in: Duration::ZERO })
    }

    /// Ends the process and keeps what it stored. It is not asked to stop: what it answered for is on disk.
    pub fn into_data(mut self) -> anyhow::Result<Data> {
        self.process.kill()?;
        Ok(Data(self.folder))
    }

    /// Asks the process to end, and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate()?;
        self.process.wait(START).await?;
        Ok(())
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    /// The address that the bare relay says it listens on.
    async fn announced(&mut self, begun: Instant) -> anyhow::Result<SocketAddr> {
        while begun.elapsed() < START {
            let output = self.process.output();
            if let Some((line, _)) = output.split_once('\n') {
                let address = line.strip_prefix("listening on ").context("the bare relay did not start")?;
                return Ok(address.parse()?);
            }
            self.process.must_run()?;
            tokio::time::sleep(LOOK).await;
        }
        bail!("the bare relay did not start within {} s", START.as_secs());
    }

    async fn until_ready(&mut self, ops: SocketAddr, begun: Instant) -> anyhow::Result<()> {
        while begun.elapsed() < START {
            self.process.must_run()?;
            if let Ok(mut connection) = Connection::open(ops).await
                && let Ok(answer) = connection.request("GET", "/readyz", "").await
                && answer.status == 200
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("the server was not ready within {} s:\n{}", START.as_secs(), self.process.log());
    }
}

/// The product, with nothing but what a benchmark wants it to know.
fn configured(program: &Path, mode: &str, limits: Limits) -> Program {
    // What the caller configured for another server must not change this one.
    let command = Program::new(program)
        .without_env("HELIOGRAPH_")
        .without_env("OTEL_")
        .arg(mode)
        .env("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY", ADMIN_KEY)
        .env("HELIOGRAPH_SIGNING_SECRET", SECRET)
        .env("HELIOGRAPH_ROOMS", "open");
    match limits {
        Limits::Default => command,
        Limits::Off => ["MESSAGES_PER_SECOND", "UPGRADES_PER_SECOND", "SOCKETS_PER_ADDRESS"]
            .into_iter()
            .fold(command, |command, limit| command.env(format!("HELIOGRAPH_MAX_{limit}"), "0")),
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
