//! How a command fails: a readable line, and an exit code that scripts can tell apart.

use std::io::{self, Write};
use std::process::ExitCode;

use heliograph_server::config::Problems;

use crate::output::plain;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2, a line for each thing that is wrong.
    Usage(Vec<String>),
    /// It was tried and failed: exit code 1.
    Failed(anyhow::Error),
    /// Whoever read our output went away, as `head` does. No failure of ours.
    ReaderGone,
}

impl Failure {
    /// Wrong usage.
    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self::Usage(vec![line.into()])
    }

    /// The same, with the place where it happened in front.
    pub(crate) fn within(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.context(place())),
            other => other,
        }
    }

    /// Writes what is wrong to stderr.
    pub(crate) fn report(self) -> ExitCode {
        let (lines, code) = match self {
            Self::ReaderGone => return ExitCode::SUCCESS,
            Self::Usage(lines) => (lines, 2),
            Self::Failed(error) => (vec![format!("{error:#}")], 1),
        };
        let mut stderr = io::stderr().lock();
        for line in lines {
            // If stderr is gone too, there is nobody left to tell.
            _ = writeln!(stderr, "error: {}", plain(&line));
        }
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Usage(problems.as_slice().iter().map(ToString::to_string).collect())
    }
}

impl From<io::Error> for Failure {
    /// An error of our own output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(anyhow::Error::new(error).context("cannot write the output")),
        }
    }
}
