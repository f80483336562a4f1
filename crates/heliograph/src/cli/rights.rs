//! What can be typed about rights: invites, peers, meshes, keys, and the log of their changes.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{ListArgs, ServerArgs, Wait, WaitArgs};

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
