//! A node in `dev` mode, configured by its environment alone: for tests that kill it or look at its memory.

use heliograph_server::config::{Config, Mode, Sources};

/// As the real binary: what is measured here should be what users get.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let config = Config::load(Mode::Dev, &Sources::from_process(None, vec![]));
    heliograph_server::run(Mode::Dev, config.map_err(|problems| anyhow::anyhow!("{problems}"))?)
}
