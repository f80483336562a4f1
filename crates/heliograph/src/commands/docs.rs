//! `docs`: pages that are made from the source, for `cargo xtask docs`.

use heliograph_server::config::reference;

use crate::cli::Docs;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(page: &Docs) -> Result<(), Failure> {
    let text = match page {
        Docs::Configuration => reference::markdown(),
        Docs::Toml => reference::toml(),
    };
    Ok(output::page(&text)?)
}
