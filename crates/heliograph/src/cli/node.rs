//! What can be typed of a node: where its configuration is, and what of it is often given by hand.

use std::path::PathBuf;

use clap::Args;
use heliograph_server::config::{Flag, Sources};

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
