//! What can be typed with every question to a server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which server to ask, and as whom.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's address; or `HELIOGRAPH_SERVER` [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// An API key of role admin; better `HELIOGRAPH_KEY`, since other users see command lines
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// A file with the key; or `HELIOGRAPH_KEY_FILE`
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub(crate) key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a list is about.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Only of this mesh
    #[arg(long)]
    pub(crate) mesh: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 1_000)]
    pub(crate) limit: usize,
}

/// Whether to wait until a change holds everywhere.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until every node has confirmed, or not at all
    #[arg(long, value_enum, default_value_t = Wait::Enforced)]
    pub(crate) wait: Wait,
    /// Longest wait
    #[arg(long, default_value = "60s")]
    pub(crate) timeout: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    Enforced,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
