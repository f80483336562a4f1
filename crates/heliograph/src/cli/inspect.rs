//! What can be typed to look at a node and its configuration.

use clap::{Args, Subcommand, ValueEnum};
use heliograph_server::config::Mode;

use super::{ConfigArgs, ServerArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say what is wrong; exit code 2 if anything is
    #[command(after_help = "Example:\n  heliograph config check --config heliograph.toml --mode serve")]
    Check(InspectArgs),
    /// Show every value and where it comes from; secrets stay hidden
    #[command(after_help = "Example:\n  heliograph config show --json")]
    Show {
        #[command(flatten)]
        inspect: InspectArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which configuration is looked at.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// For which command; not given: `serve` when a database URL is set, else `dev`
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    Dev,
    Serve,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Dev => Self::Dev,
            ModeArg::Serve => Self::Serve,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    /// Ready for clients, instead of alive: storage, bus and authorization are looked at too
    #[arg(long)]
    pub(crate) ready: bool,
    /// Ask this address instead: any answer of 200 will do
    #[arg(long, value_name = "URL", conflicts_with = "ready")]
    pub(crate) url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Docs {
    /// The page docs/configuration.md
    Configuration,
    /// A heliograph.toml with all defaults, commented out
    Toml,
}
