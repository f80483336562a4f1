//! A network between two that fails when a test wants it.

mod faults;
mod lane;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::wait::LOOK;
use faults::Faults;

pub use faults::Direction;

/// How many connections are carried at once; more wait to be accepted.
const CONNECTIONS: usize = 4096;

/// Carries TCP connections to one address, and spoils them on demand.
///
/// A fault applies at once, to connections that are open as well, and until [`Self::heal`]. Faults add up, so a
/// network can be slow and then half open. It lives in the runtime in which it was made, and carries nothing any
/// more when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicUsize,
}

impl Proxy {
    /// A way to `target` without faults.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let (faults, watched) = watch::channel(Faults::default());
        let counts = Arc::<Counts>::default();
        let accepting = tokio::spawn(accept(listener, target, watched, Arc::clone(&counts)));
        Ok(Self { address, target, faults, counts, accepting })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL on the way through this proxy.
    pub fn through(&self, url: &str) -> String {
        url.replace(&self.target.to_string(), &self.address.to_string())
    }

    /// Resets all connections, and each new one as soon as it is accepted.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| {
            faults.is_cut = true;
            faults.cuts += 1;
        });
    }

    /// Nothing goes in this direction any more, while connections stay open. As on a real network nothing is lost
    /// on a connection either: what waits arrives when the way is healed.
    pub fn half_open(&self, stopped: Direction) {
        self.faults.send_modify(|faults| faults.stopped = Some(stopped));
    }

    /// What is sent arrives so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// No more than so many bytes in a second, per connection and direction; 0 is as good as 1.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.faults.send_modify(|faults| faults.rate = Some(bytes_per_second.max(1)));
    }

    /// No faults any more. What was reset stays so.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| *faults = Faults { cuts: faults.cuts, ..Faults::default() });
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.counts.open.load(Ordering::Acquire)
    }

    /// Connections that were accepted since the start, those included that were reset at once.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections go with it.
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                match accepted {
                    Ok((client, _)) => {
                        counts.accepted.fetch_add(1, Ordering::AcqRel);
                        let (faults, open) = (faults.clone(), Open::new(&counts));
                        connections.spawn(async move {
                            carry(client, target, faults).await;
                            drop(open);
                        });
                    }
                    // Out of files, or the client has gone already.
                    Err(_) => sleep(LOOK).await,
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as open.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Carries one connection to its end, whatever end that is.
async fn carry(mut client: TcpStream, target: SocketAddr, faults: watch::Receiver<Faults>) {
    let born = faults.borrow().cuts;
    let mut watched = faults.clone();
    let cut = watched.wait_for(|faults| faults.cuts != born || faults.is_cut);
    tokio::pin!(cut);
    let connected = tokio::select! {
        biased;
        _ = &mut cut => None,
        connected = TcpStream::connect(target) => connected.ok(),
    };
    let Some(mut server) = connected else { return reset(&client) };
    let broken = tokio::select! {
        biased;
        _ = cut => true,
        ended = lane::both(&mut client, &mut server, &faults) => ended.is_err(),
    };
    if broken {
        reset(&client);
        reset(&server);
    }
}

/// The stream ends with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is closed anyway.
    let _closed = stream.set_zero_linger();
}
