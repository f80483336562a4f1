//! From start to end: bind, assemble, serve, wait for a signal, drain, flush.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use heliograph_auth::secret::Secret;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::assemble::{Assembled, assemble};
use crate::config::{Config, ListenConfig, Mode};
use crate::node::{Listeners, Node};
use crate::telemetry;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Runs a node until SIGTERM or SIGINT. Blocks, with a runtime of its own.
pub fn run(mode: Mode, config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let guard = {
        let _entered = runtime.enter();
        telemetry::init(&config.logging)?
    };
    let result = runtime.block_on(serve_until_signal(mode, config));
    guard.shutdown();
    result
}

async fn serve_until_signal(mode: Mode, config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let listeners = bind(&config.listen)?;
    let Assembled { parts, new_admin_key } = assemble(mode, config).await?;
    let node = Node::serve(listeners, parts).context("cannot serve")?;
    tracing::info!(gateway = %node.gateway().id(), listen = %node.public_address(), ops = %node.ops_address(), "serving");
    if mode == Mode::Dev {
        welcome(&node, new_admin_key.as_ref()).context("cannot print the address")?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(sessions = node.gateway().sessions(), "stopping; once more to stop at once");
    tokio::select! {
        () = node.shutdown() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

fn bind(listen: &ListenConfig) -> Result<Listeners> {
    Ok(Listeners {
        public: listen_on(listen.listen, "listen")?,
        ops: listen_on(listen.ops_listen, "ops_listen")?,
        admin: listen.admin_listen.map(|address| listen_on(address, "admin_listen")).transpose()?,
    })
}

fn listen_on(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| {
        let flag = setting.replace('_', "-");
        match error.kind() {
            ErrorKind::AddrInUse => {
                anyhow!(
                    "{address} is in use by another program: stop it, or choose another address with --{flag}"
                )
            }
            _ => anyhow!("cannot listen on {address} ({setting}): {error}"),
        }
    })
}

/// What a newcomer needs to see: where the page is, and the key that is shown once.
fn welcome(node: &Node, new_admin_key: Option<&Secret>) -> std::io::Result<()> {
    let (page, ops) = (node.public_address(), node.ops_address());
    let key = match new_admin_key {
        Some(key) => format!("{}   (shown this once, keep it)", key.expose()),
        None => "as printed at the first start (lost it? set HELIOGRAPH_BOOTSTRAP_ADMIN_KEY)".to_owned(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n  Heliograph is ready.\n")?;
    writeln!(out, "  Page       http://{page}/   (open it in two tabs)")?;
    writeln!(out, "  Console    http://{page}/console")?;
    writeln!(out, "  Metrics    http://{ops}/metrics")?;
    writeln!(out, "  Admin key  {key}\n")?;
    out.flush()
}
