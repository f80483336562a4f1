//! Running other programs.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// One run of a program.
pub(crate) struct Run {
    command: Command,
    text: OsString,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(root());
        let mut text = program.as_ref().to_owned();
        for argument in arguments {
            text.push(" ");
            text.push(argument);
        }
        Self { command, text }
    }

    pub(crate) fn cargo(arguments: &[&str]) -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn at(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn quiet(mut self) -> Self {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self
    }

    /// Runs it to its end; an error if it fails.
    pub(crate) fn go(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot run {}", self.text.display()))?;
        if !status.success() {
            bail!("{} failed ({status})", self.text.display());
        }
        Ok(())
    }

    /// Runs it in place of this process, so that it gets the signals that are meant for it. Comes back only if it
    /// cannot be started.
    pub(crate) fn instead_of_this(mut self) -> Result<()> {
        Err(self.command.exec()).with_context(|| format!("cannot run {}", self.text.display()))
    }

    /// Runs it to its end and answers what it printed.
    pub(crate) fn output(mut self) -> Result<Vec<u8>> {
        let output = self.command.output().with_context(|| format!("cannot run {}", self.text.display()))?;
        if !output.status.success() {
            bail!("{} failed ({})", self.text.display(), output.status);
        }
        Ok(output.stdout)
    }
}
