//! The command line: `dev` and `serve` run a node, everything else asks one or looks at the configuration.

use std::process::ExitCode;

use clap::Parser;

mod api;
mod cli;
mod commands;
mod failure;
mod output;

// Half of glibc's resident memory with many small sockets.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command.unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
