//! Programs as processes that can be paused, ended and watched.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::sleep;

use crate::folder::{NOBODY, is_root};
use crate::tail::Tail;
use crate::wait::{LOOK, PATIENCE};
use crate::{find, spawner};

/// How long a program may take to end by itself when its handle is dropped.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long its output may take to arrive after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to start, and how.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    forget: Vec<String>,
    folder: Option<PathBuf>,
    log_file: Option<PathBuf>,
    unprivileged: bool,
    last_word: Signal,
}

impl Program {
    /// The program at `path`, with this process's environment and folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: vec![],
            environment: vec![],
            forget: vec![],
            folder: None,
            log_file: None,
            unprivileged: false,
            last_word: Signal::KILL,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Keeps variables of this process's environment whose names begin with `prefix` from it: what the caller set
    /// for another server must not change this one.
    #[must_use]
    pub fn without_env(mut self, prefix: &str) -> Self {
        self.forget.push(prefix.to_owned());
        self
    }

    /// The folder that it works in.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Adds all that it writes to a file for people, in place of keeping the end of it in memory.
    #[must_use]
    pub fn log_file(mut self, file: &Path) -> Self {
        self.log_file = Some(file.to_owned());
        self
    }

    /// As `nobody` when this process is root's.
    #[must_use]
    pub(crate) fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// The signal that ends it when its handle is dropped or this process ends, in place of SIGKILL.
    #[must_use]
    pub(crate) fn last_word(mut self, signal: Signal) -> Self {
        self.last_word = signal;
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Process> {
        let path = self.path.display();
        let mut child = self
            .command()
            .and_then(|command| Ok(spawner::spawn(command)?))
            .with_context(|| format!("cannot start {path}"))?;
        let (output, log) = (child.stdout.take(), child.stderr.take());
        let mut process = Process {
            pid: pid_of(&child),
            child,
            name: self.path.file_name().unwrap_or_default().display().to_string(),
            last_word: self.last_word,
            output: Tail::default(),
            log: Tail::default(),
            log_file: self.log_file.clone(),
        };
        // From here on an error ends the program too.
        process.output = output.map(Tail::of).transpose()?.unwrap_or_default();
        process.log = log.map(Tail::of).transpose()?.unwrap_or_default();
        Ok(process)
    }

    /// Runs it to its end, within a bound; what it printed. An error has what it complained about.
    pub async fn run(&self) -> Result<String> {
        let mut process = self.start()?;
        let status = process.wait(PATIENCE).await?;
        if !status.success() {
            bail!("{} failed ({status}): {}", process.name, process.log().trim_end());
        }
        Ok(process.output())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(find::program("setpriv", "util-linux")?);
        let name = if self.last_word == Signal::QUIT { "QUIT" } else { "KILL" };
        command.args(["--pdeathsig", name]);
        if self.unprivileged && is_root() {
            command.arg(format!("--reuid={NOBODY}")).arg(format!("--regid={NOBODY}")).arg("--clear-groups");
        }
        command.arg("--").arg(&self.path).args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            let unwanted = |prefix: &String| name.to_string_lossy().starts_with(prefix);
            if self.forget.iter().any(unwanted) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        // A group of its own: Ctrl-C in a terminal goes to this process, which then ends its programs in order.
        command.process_group(0).stdin(Stdio::null());
        let (output, log) = match &self.log_file {
            Some(file) => {
                let file = File::options().create(true).append(true).open(file)?;
                (Stdio::from(file.try_clone()?), Stdio::from(file))
            }
            None => (Stdio::piped(), Stdio::piped()),
        };
        command.stdout(output).stderr(log);
        Ok(command)
    }
}

/// A running program; dropping it ends it. It ends too when this process ends, however that comes about.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Option<Pid>,
    name: String,
    last_word: Signal,
    output: Tail,
    log: Tail,
    log_file: Option<PathBuf>,
}

impl Process {
    /// Its process id, also when it has ended.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it wrote to its standard output.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The end of what it wrote to its standard error.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the end of its log if it has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_words()),
        }
    }

    /// Waits until it has ended; an error if that takes longer than `bound`.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let give_up = Instant::now() + bound;
        loop {
            if let Some(status) = self.ended()? {
                self.output_is_read().await;
                return Ok(status);
            }
            if Instant::now() >= give_up {
                bail!("{} did not end within {} s", self.name, bound.as_secs());
            }
            sleep(LOOK).await;
        }
    }

    /// Stops it and the programs that it started where they are (SIGSTOP): sockets stay open and answer nothing.
    pub fn pause(&mut self) -> Result<()> {
        // First the one that starts others.
        self.signal(Signal::STOP)?;
        self.signal_children(Signal::STOP)
    }

    /// Lets it and the programs that it started go on (SIGCONT).
    pub fn resume(&mut self) -> Result<()> {
        self.signal_children(Signal::CONT)?;
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM), as an operator does.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Ends it at once, with the programs that it started (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        let Some(pid) = self.pid.filter(|_| matches!(self.child.try_wait(), Ok(None))) else { return Ok(()) };
        kill_process_group(pid, Signal::KILL).with_context(|| format!("cannot end {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal. A process that has ended is not there to get it, and its number may be another's by now.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.must_run()?;
        let pid = self.pid.context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    fn last_words(&self) -> String {
        match &self.log_file {
            Some(file) => format!("see {}", file.display()),
            None => format!("{}{}", self.output(), self.log()),
        }
    }

    fn signal_children(&self, signal: Signal) -> Result<()> {
        for child in children(self.id()).context("cannot see what it started")? {
            // It may have ended by now.
            let _gone = kill_process(child, signal);
        }
        Ok(())
    }

    /// What it wrote last may still be on its way to us when it has ended. Whatever it started may hold the pipes.
    async fn output_is_read(&self) {
        let give_up = Instant::now() + LAST_WORDS;
        while self.log_file.is_none()
            && Instant::now() < give_up
            && !(self.output.is_complete() && self.log.is_complete())
        {
            sleep(LOOK).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.last_word != Signal::KILL && self.signal(self.last_word).is_ok() && self.resume().is_ok() {
            let give_up = Instant::now() + FAREWELL;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < give_up {
                std::thread::sleep(LOOK);
            }
        }
        // If it cannot be ended now, the kernel does it when this process ends.
        let _not_now = self.kill();
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The processes that `parent` started and that run.
fn children(parent: u32) -> std::io::Result<Vec<Pid>> {
    let mut children = vec![];
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything, come the state and the parent (proc(5)).
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if after_name.split_whitespace().nth(1).and_then(|id| id.parse().ok()) == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}
