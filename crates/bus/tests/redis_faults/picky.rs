//! A proxy that can make the subscribers' connections of the moment silent, and leaves all others alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Which way bytes vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

#[derive(Default)]
struct Faults {
    /// How often connections were silenced. One that is older than the last time loses its bytes.
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Faults {
    fn count(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }
}

/// The proxy.
pub(crate) struct Picky {
    pub(crate) address: SocketAddr,
    faults: Arc<Faults>,
    accepting: JoinHandle<()>,
}

impl Picky {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = Arc::<Faults>::default();
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&faults)));
        Self { address, faults, accepting }
    }

    /// What subscribers' connections that are open now carry this way vanishes from now on.
    pub(crate) fn silence_subscribers(&self, way: Way) {
        self.faults.count(way).fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Picky {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, faults: Arc<Faults>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let subscriber = Arc::new(AtomicBool::new(false));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(carry(
            from_client,
            to_server,
            Way::ToServer,
            Arc::clone(&faults),
            Arc::clone(&subscriber),
        ));
        tokio::spawn(carry(from_server, to_client, Way::ToClient, Arc::clone(&faults), subscriber));
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    faults: Arc<Faults>,
    subscriber: Arc<AtomicBool>,
) {
    let begun = faults.count(way).load(Ordering::SeqCst);
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        if way == Way::ToServer && bytes.windows(9).any(|word| word == b"SUBSCRIBE") {
            subscriber.store(true, Ordering::SeqCst);
        }
        let silenced = subscriber.load(Ordering::SeqCst) && faults.count(way).load(Ordering::SeqCst) > begun;
        if !silenced && to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
