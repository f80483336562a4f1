//! The load balancer: HAProxy with the configuration that the project ships.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use heliograph_sandbox::{Folder, Port, Process, Program, find_program};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::gateway::Gateway;

const CONFIGURATION: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy/haproxy.cfg"));
/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Balancer {
    process: Process,
    address: SocketAddr,
    _reserved: Option<Port>,
}

impl Balancer {
    /// Starts it at `port`, or at a free one if that is 0.
    pub(crate) async fn start(port: u16, gateways: &[Gateway], folder: &Folder) -> Result<Self> {
        let reserved = (port == 0).then(Port::reserve).transpose()?;
        let address = reserved.as_ref().map_or((Ipv4Addr::LOCALHOST, port).into(), Port::address);
        TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}: choose another with --port"))?;
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, configuration(address, gateways))?;
        let process = Program::new(find_program("haproxy", "haproxy")?)
            .args(["-db", "-f"])
            .arg(&file)
            .log_file(&folder.path().join("haproxy.log"))
            .start()?;
        let mut balancer = Self { process, address, _reserved: reserved };
        balancer.wait_until_it_listens().await?;
        Ok(balancer)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn must_run(&mut self) -> Result<()> {
        self.process.must_run()
    }

    async fn wait_until_it_listens(&mut self) -> Result<()> {
        let give_up = Instant::now() + START;
        while let Err(error) = TcpStream::connect(self.address).await {
            self.must_run()?;
            if Instant::now() > give_up {
                return Err(error).context("the load balancer does not listen");
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The shipped configuration with addresses of our own.
fn configuration(address: SocketAddr, gateways: &[Gateway]) -> String {
    let is = |line: &str, word: &str| line.trim_start().starts_with(word);
    let mut lines: Vec<String> = CONFIGURATION
        .lines()
        // The gateways are the file's last lines.
        .filter(|line| !is(line, "server "))
        .map(|line| if is(line, "bind ") { format!("    bind {address}") } else { line.to_owned() })
        .collect();
    lines.extend(gateways.iter().map(|gateway| {
        format!("    server {} {} port {}", gateway.name(), gateway.address(), gateway.ops().port())
    }));
    lines.join("\n") + "\n"
}
