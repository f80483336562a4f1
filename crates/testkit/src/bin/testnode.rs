//! A node, configured by its environment alone: for tests that kill it, pause it or look at its memory. In `dev` mode, or
//! with the argument `serve` in that.

use heliograph_server::config::{Config, Mode, Sources};

/// As the real binary: what is measured here should be what users get.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let mode = match std::env::args().nth(1).as_deref() {
        None => Mode::Dev,
        Some("serve") => Mode::Serve,
        Some(other) => anyhow::bail!("{other}: say serve, or nothing"),
    };
    let config = Config::load(mode, &Sources::from_process(None, vec![]));
    heliograph_server::run(mode, config.map_err(|problems| anyhow::anyhow!("{problems}"))?)
}
