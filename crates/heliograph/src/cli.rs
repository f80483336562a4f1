//! What can be typed.

use clap::{Parser, Subcommand};

pub(crate) use agent::{Agent, JoinArgs, LocalArgs, RunArgs, StatusArgs};
pub(crate) use inspect::{Config, Docs, DoctorArgs, HealthArgs, InspectArgs};
pub(crate) use node::{ConfigArgs, NodeArgs};
pub(crate) use rights::{Audit, Invite, Key, Mesh, Peer, PeerArgs};
pub(crate) use server::{ListArgs, ServerArgs, TokenArgs, Wait, WaitArgs};

mod agent;
mod inspect;
mod node;
mod rights;
mod server;

/// Clustered WebRTC signaling. Without a command: `heliograph dev`.
#[derive(Debug, Parser)]
#[command(
    name = "heliograph",
    version,
    after_help = "Example:\n  heliograph                 start on this machine and print the page's address\n  heliograph dev --help      and what can be changed about that"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run embedded: one process, a database file, nothing else needed
    #[command(after_help = "Example:\n  heliograph dev --listen 127.0.0.1:9000 --data-dir /tmp/heliograph")]
    Dev(NodeArgs),
    /// Run a node for others; needs a database and a signing secret
    #[command(
        after_help = "Example:\n  heliograph serve --config /etc/heliograph.toml\n  HELIOGRAPH_DATABASE_URL=sqlite:///var/lib/heliograph.db \\\n    HELIOGRAPH_SIGNING_SECRET_FILE=/run/secrets/signing heliograph serve"
    )]
    Serve(NodeArgs),
    /// Bring the database to this version; safe to run from several places at once
    #[command(
        after_help = "Example:\n  HELIOGRAPH_DATABASE_URL=sqlite:///var/lib/heliograph.db heliograph migrate"
    )]
    Migrate(ConfigArgs),
    /// Codes with which devices pair
    #[command(subcommand, after_help = "Example:\n  heliograph invite create --ttl 10m")]
    Invite(Invite),
    /// Devices and other peers: approve, reject, revoke
    #[command(subcommand, after_help = "Example:\n  heliograph peer list --status pending_approval")]
    Peer(Peer),
    /// Meshes as a whole
    #[command(subcommand, after_help = "Example:\n  heliograph mesh revoke test-lab")]
    Mesh(Mesh),
    /// API keys
    #[command(subcommand, after_help = "Example:\n  heliograph key create camera-1 --role agent")]
    Key(Key),
    /// The log of all changes
    #[command(subcommand, after_help = "Example:\n  heliograph audit verify")]
    Audit(Audit),
    /// DataChannels for programs on this machine, over a local socket
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph agent join 7K3QX-9AB2M --server https://signal.example\n  heliograph agent status"
    )]
    Agent(Agent),
    /// Print a session token for a key, for scripts and load tests
    #[command(
        after_help = "Example:\n  curl \"http://127.0.0.1:8080/ws?token=$(heliograph token --key ak_…)\" …"
    )]
    Token(TokenArgs),
    /// Look at the configuration
    #[command(subcommand, after_help = "Example:\n  heliograph config check --config heliograph.toml")]
    Config(Config),
    /// Check configuration, storage, ports, clocks and a running server, and say what to do
    #[command(after_help = "Example:\n  heliograph doctor --server https://signal.example")]
    Doctor(DoctorArgs),
    /// Ask a node once whether it is alive, or ready; exit code 1 if not
    #[command(
        after_help = "Example:\n  heliograph health                 the node whose configuration is here, for HEALTHCHECK\n  heliograph health --ready\n  heliograph health --url http://gateway-1:9464/readyz"
    )]
    Health(HealthArgs),
    /// Generated pages
    #[command(
        subcommand,
        hide = true,
        after_help = "Example:\n  heliograph docs configuration > docs/configuration.md"
    )]
    Docs(Docs),
}

impl Default for Command {
    fn default() -> Self {
        Self::Dev(NodeArgs::default())
    }
}
