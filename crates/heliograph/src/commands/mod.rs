//! One file per command. To add one: a variant in [`crate::cli`], a file here, a line below.

use serde_json::Value;

use crate::api::List;
use crate::cli::Command;
use crate::failure::Failure;
use crate::output;

mod agent;
mod audit;
mod config;
mod docs;
mod doctor;
mod health;
mod invite;
mod key;
mod mesh;
mod node;
mod peer;
mod revocation;
mod token;

/// Does what was asked.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => node::dev(&args),
        Command::Serve(args) => node::serve(&args),
        Command::Migrate(args) => node::migrate(&args),
        Command::Invite(invite) => invite::run(invite),
        Command::Peer(peer) => peer::run(peer),
        Command::Mesh(mesh) => mesh::run(mesh),
        Command::Key(key) => key::run(key),
        Command::Audit(audit) => audit::run(audit),
        Command::Agent(agent) => agent::run(agent),
        Command::Token(args) => token::run(&args),
        Command::Config(config) => config::run(&config),
        Command::Doctor(args) => doctor::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Docs(page) => docs::run(&page),
    }
}

/// Prints a list: as a table, with a word when there is more, or as JSON.
fn show(
    list: &List,
    as_json: bool,
    head: &[&str],
    cells: impl Fn(&Value) -> Vec<String>,
    nothing: &str,
) -> Result<(), Failure> {
    if as_json {
        return Ok(output::json(&list.to_json())?);
    }
    let rows: Vec<_> = list.rows.iter().map(cells).collect();
    output::table(head, &rows, nothing)?;
    if list.more {
        output::line("there are more; raise --limit")?;
    }
    Ok(())
}
