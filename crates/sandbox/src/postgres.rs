//! Postgres.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::sync::OnceCell;

use crate::find;
use crate::folder::Folder;
use crate::port::Port;
use crate::process::{Process, Program};
use crate::wait::{PATIENCE, until};

/// How often a port that somebody took in the last moment is replaced by another.
const ATTEMPTS: u32 = 3;

/// A Postgres server with an empty data folder, reached over TCP by the user `postgres` without a password.
///
/// Nothing is written through to the disk (`fsync=off`): what it holds survives [`Self::stop_immediately`], which
/// is a crash of the server, not a crash of the machine.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder, so that it ends before its data goes.
    process: Option<Process>,
    programs: PathBuf,
    port: Port,
    folder: Folder,
    databases: AtomicU32,
}

impl Postgres {
    /// A server of one's own, ready for connections.
    ///
    /// Its programs are searched in `HELIOGRAPH_POSTGRES_BIN`, the search path and where Debian has them.
    pub async fn start() -> Result<Self> {
        let programs = find::folder_of("initdb", "HELIOGRAPH_POSTGRES_BIN", &debian_folders(), "postgresql")?;
        let folder = Folder::new("postgres")?;
        folder.give_away()?;
        let mut postgres =
            Self { process: None, programs, port: Port::reserve()?, folder, databases: AtomicU32::new(0) };
        postgres.make_data().await?;
        for _ in 1..ATTEMPTS {
            match postgres.start_again().await {
                Err(error) if error.to_string().contains("Address already in use") => {
                    postgres.port = Port::reserve()?;
                }
                result => return result.map(|()| postgres),
            }
        }
        postgres.start_again().await.map(|()| postgres)
    }

    /// One server for all that need no more than a [`Self::database`] of their own. It cannot be stopped, and ends
    /// with this process.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> Result<String> {
        let name = format!("heliograph_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.query("postgres", &format!("CREATE DATABASE {name}")).await?;
        Ok(format!("postgres://postgres@{}/{name}", self.address()))
    }

    /// Runs SQL in a database, by its name or URL, as `psql` does; a line per row, columns divided by `|`.
    pub async fn query(&self, database: &str, sql: &str) -> Result<String> {
        let name = database.rsplit('/').next().unwrap_or(database);
        let program = if self.programs.join("psql").is_file() {
            self.programs.join("psql")
        } else {
            find::program("psql", "postgresql-client")?
        };
        let psql = Program::new(program)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.number().to_string(), "-d", name, "-c", sql])
            .without_env("PG");
        Ok(psql.run().await?.trim_end().to_owned())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The id of its first process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it as a crash of the server does: connections break, nothing is put in order. It starts again by
    /// [`Self::start_again`]. One that is paused is woken for its end.
    pub async fn stop_immediately(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("Postgres is not running") };
        process.signal(Signal::QUIT)?;
        // A paused one has to go on to end; one that was not paused may have ended already.
        let _ended_already = process.resume();
        process.wait(PATIENCE).await?;
        Ok(())
    }

    /// Starts it at the same address on the same data, and waits until it is ready for connections.
    pub async fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("Postgres is running");
        }
        let data = self.folder.path().join("data");
        let mut process = Program::new(self.programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(self.settings().iter().flat_map(|setting| ["-c".to_owned(), setting.clone()]))
            .folder(self.folder.path())
            .without_env("PG")
            // It tells its own processes to end, and gives its shared memory back.
            .last_word(Signal::QUIT)
            .unprivileged()
            .start()?;
        let id = process.id().to_string();
        until("Postgres is ready", async || {
            process.must_run()?;
            let status = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let is_ready =
                status.lines().next() == Some(&id) && status.lines().last().map(str::trim) == Some("ready");
            Ok(is_ready.then_some(()))
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// [`Self::stop_immediately`] and [`Self::start_again`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop_immediately().await?;
        self.start_again().await
    }

    /// Stops all of its processes where they are (SIGSTOP): connections stay open and get no answer, and new ones
    /// are accepted by the kernel and get none either.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("Postgres is not running")?.pause()
    }

    /// Lets all of its processes go on (SIGCONT).
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("Postgres is not running")?.resume()
    }

    async fn make_data(&self) -> Result<()> {
        let initdb = Program::new(self.programs.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(self.folder.path().join("data"))
            .folder(self.folder.path())
            .without_env("PG")
            .unprivileged();
        initdb.run().await.map(|_| ())
    }

    /// Enough connections for several nodes and for many tests at once, and little room.
    fn settings(&self) -> [String; 8] {
        [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port.number()),
            "unix_socket_directories=".to_owned(),
            "max_connections=300".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "fsync=off".to_owned(),
            "max_wal_size=256MB".to_owned(),
            "min_wal_size=32MB".to_owned(),
        ]
    }
}

/// Where Debian has the programs, the newest version first.
fn debian_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}
