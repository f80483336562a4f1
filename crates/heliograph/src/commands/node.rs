//! `dev`, `serve`, `migrate`: what runs on the node itself.

use heliograph_server::config::{Config, MigrationConfig, Mode};

use crate::cli::{ConfigArgs, NodeArgs};
use crate::failure::Failure;
use crate::output;

pub(crate) fn dev(args: &NodeArgs) -> Result<(), Failure> {
    run(Mode::Dev, args)
}

pub(crate) fn serve(args: &NodeArgs) -> Result<(), Failure> {
    run(Mode::Serve, args)
}

fn run(mode: Mode, args: &NodeArgs) -> Result<(), Failure> {
    let config = Config::load(mode, &args.sources())?;
    Ok(heliograph_server::run(mode, config)?)
}

pub(crate) fn migrate(args: &ConfigArgs) -> Result<(), Failure> {
    let config = MigrationConfig::load(&args.sources())?;
    heliograph_server::migrate(&config)?;
    Ok(output::line("the database is at this version")?)
}
