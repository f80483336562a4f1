//! What can be typed after `agent`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Run the agent until SIGTERM or SIGINT
    ///
    /// Without flags it takes HELIOGRAPH_SERVER with HELIOGRAPH_KEY or HELIOGRAPH_KEY_FILE, then the variables of the
    /// original sidecar (SIGNALING_URL, TOKEN_URL, API_KEY, IPC_SOCKET, TURN_URL with TURN_SECRET or TURN_USERNAME and
    /// TURN_PASSWORD, ICE_TRANSPORT_POLICY), then what `agent join` has left.
    #[command(
        after_help = "Example:\n  HELIOGRAPH_KEY_FILE=key heliograph agent run --server https://signal.example\n  heliograph agent run                 as the device that `agent join` has made of this machine"
    )]
    Run(RunArgs),
    /// Pair this machine by an invite code, wait for the approval, then run
    ///
    /// Can be interrupted and typed again: it goes on where it was, although a code can be used once.
    #[command(
        after_help = "Example:\n  heliograph agent join 7K3QX-9AB2M --server https://signal.example\n  heliograph agent join 7K3QX-9AB2M --name camera-door --no-run"
    )]
    Join(JoinArgs),
    /// Ask a running agent how it stands, and with whom it is connected
    #[command(
        after_help = "Example:\n  heliograph agent status\n  heliograph agent status --json | jq .peers"
    )]
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The service's address; or `HELIOGRAPH_SERVER` [default: where the token is from, else http://localhost:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// An API key or device token; better a file or `HELIOGRAPH_KEY`, since other users see command lines
    #[arg(long, value_name = "KEY", conflicts_with_all = ["key_file", "device_token_file"])]
    pub(crate) key: Option<String>,
    /// A file with an API key or device token; or `HELIOGRAPH_KEY_FILE`
    #[arg(long, value_name = "FILE", conflicts_with = "device_token_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// A file with a device token, such as `agent join` writes
    #[arg(long, value_name = "FILE")]
    pub(crate) device_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) local: LocalArgs,
}

/// How the agent runs on this machine.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Where local programs find it; or `IPC_SOCKET` [default: heliograph/agent.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Connect through TURN servers alone: counterparts learn no address of this machine
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Log filter, such as info or info,heliograph_agent=debug; or `HELIOGRAPH_LOG`, `RUST_LOG`
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Log format: auto, text, json; or `HELIOGRAPH_LOG_FORMAT`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The invite code; not needed to go on after an interruption
    pub(crate) code: Option<String>,
    /// The service's address; or `HELIOGRAPH_SERVER` [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// How an administrator recognizes this machine [default: its host name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where the device token is kept [default: heliograph/agent.token in the user's state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Only get the token
    #[arg(long)]
    pub(crate) no_run: bool,
    /// Longest wait for the approval, such as 10m; not given: as long as it takes
    #[arg(long)]
    pub(crate) timeout: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) local: LocalArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Where the agent is found; or `IPC_SOCKET` [default: as for `agent run`]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
