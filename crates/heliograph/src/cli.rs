//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use heliograph_server::config::{Flag, Mode, Sources};

pub(crate) use agent::{Agent, JoinArgs, LocalArgs, RunArgs, StatusArgs};

mod agent;

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

/// Where the configuration is.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file; or `HELIOGRAPH_CONFIG`. Its keys are in docs/configuration.md
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting that is no secret; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Settings of a node that are often given by hand.
#[derive(Debug, Default, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Public listener: sockets, token exchange, pairing, admin API, console
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Health and metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    ops_listen: Option<String>,
    /// Move admin API and console off the public listener
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// What the node keeps for itself
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// Log filter, such as info or info,heliograph_gateway=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log format: auto, text, json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ConfigArgs {
    /// These flags over the environment and the file.
    pub(crate) fn sources(&self) -> Sources {
        let flags = self.set.iter().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Flag { name: "--set".into(), key: key.trim().into(), value: value.into() }
        });
        Sources::from_process(self.config.clone(), flags.collect())
    }
}

impl NodeArgs {
    /// These flags over the environment and the file.
    pub(crate) fn sources(&self) -> Sources {
        let mut sources = self.config.sources();
        let given = [
            ("--listen", &self.listen),
            ("--ops-listen", &self.ops_listen),
            ("--admin-listen", &self.admin_listen),
            ("--data-dir", &self.data_dir),
            ("--log", &self.log),
            ("--log-format", &self.log_format),
        ];
        for (name, value) in given {
            let Some(value) = value.clone() else { continue };
            let key = name.trim_start_matches('-').replace('-', "_");
            sources.flags.push(Flag { name: name.into(), key, value });
        }
        sources
    }
}

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

#[derive(Debug, Subcommand)]
pub(crate) enum Invite {
    /// Make a code
    #[command(after_help = "Example:\n  heliograph invite create --mesh default --ttl 10m --uses 1")]
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// The mesh that devices join; not given: the key's own
        #[arg(long)]
        mesh: Option<String>,
        /// How long the code can be used, such as 10m
        #[arg(long, default_value = "10m")]
        ttl: String,
        /// How many devices can use it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// Six digits instead of ten letters: easier to type, and to guess
        #[arg(long)]
        digits: bool,
    },
    /// List codes (they are not shown again, only what became of them)
    #[command(after_help = "Example:\n  heliograph invite list --json")]
    List(ListArgs),
    /// Take a code back
    #[command(
        after_help = "Example:\n  heliograph invite revoke inv_0123456789ab\n  heliograph invite revoke inv_0123456789ab --with-enrolled"
    )]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The invite's id
        id: String,
        /// Also take the right away from everybody who came by it, everywhere
        #[arg(long)]
        with_enrolled: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mesh {
    /// Take the rights of all its peers and keys away, and its open invites; your own stay
    #[command(
        after_help = "Example:\n  heliograph mesh revoke test-lab\n  heliograph mesh revoke test-lab --yes --wait none"
    )]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The mesh
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
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

#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// List peers
    #[command(after_help = "Example:\n  heliograph peer list --status approved")]
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Only those of this status: pending_approval, approved, rejected, revoked
        #[arg(long)]
        status: Option<String>,
    },
    /// Show one peer and its sessions
    #[command(after_help = "Example:\n  heliograph peer show agent-0123456789ab")]
    Show(PeerArgs),
    /// Let a waiting device in; it fetches its token itself
    #[command(
        after_help = "Example:\n  heliograph peer approve 0123456789ab\n  heliograph peer approve 0123456789ab --wait"
    )]
    Approve {
        #[command(flatten)]
        peer: PeerArgs,
        /// Wait until every node knows it, so that it reaches everybody at once [possible values: enforced, none]
        #[arg(
            long,
            value_enum,
            hide_possible_values = true,
            hide_default_value = true,
            num_args = 0..=1,
            require_equals = true,
            default_value_t = Wait::None,
            default_missing_value = "enforced"
        )]
        wait: Wait,
        /// Longest wait
        #[arg(long, default_value = "60s")]
        timeout: String,
    },
    /// Turn a waiting device down
    #[command(after_help = "Example:\n  heliograph peer reject 0123456789ab")]
    Reject(PeerArgs),
    /// Take the right away, everywhere, and wait until that holds
    #[command(
        after_help = "Example:\n  heliograph peer revoke camera-1\n  heliograph peer revoke camera-1 --wait none"
    )]
    Revoke {
        #[command(flatten)]
        peer: PeerArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// Which peer.
#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Peer id or pairing id
    pub(crate) id: String,
    /// The mesh of the peer id; not given: the key's own
    #[arg(long)]
    pub(crate) mesh: Option<String>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key; it is shown this once
    #[command(
        after_help = "Example:\n  heliograph key create camera-1 --role agent --name \"Camera at the door\""
    )]
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// The peer that the key stands for
        peer_id: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Role::Agent)]
        role: Role,
        /// A name for people
        #[arg(long, default_value = "")]
        name: String,
        /// Its mesh; not given: that of the key that asks
        #[arg(long)]
        mesh: Option<String>,
    },
    /// List keys, without the keys themselves
    #[command(after_help = "Example:\n  heliograph key list")]
    List(ListArgs),
    /// Take a key away; with the last key of a peer goes the peer's right
    #[command(after_help = "Example:\n  heliograph key revoke key_0123456789ab")]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The key's id (not the key)
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Take over the keys of an original installation; can be repeated
    #[command(after_help = "Example:\n  heliograph key import api_keys.json")]
    Import {
        #[command(flatten)]
        server: ServerArgs,
        /// The original's api_keys.json
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    Agent,
    Admin,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List changes
    #[command(after_help = "Example:\n  heliograph audit list --limit 20")]
    List(ListArgs),
    /// Check that nothing in the log was changed afterwards
    #[command(after_help = "Example:\n  heliograph audit verify")]
    Verify {
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

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
