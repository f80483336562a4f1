//! One Redis node that serves partitions, and the commands that are asked of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use deadpool_redis::{Connection, Pool, PoolError};
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connect::{ANSWER_TIMEOUT, ConnectError, Connector, LANES, Server};
use super::options::Address;

/// One Redis node. The same value for as long as the node serves.
pub(crate) struct Shard {
    pub(crate) address: Address,
    /// What it said of itself.
    pub(crate) server: Server,
    /// Whether messages go by `SPUBLISH`, those of scripts among them.
    pub(crate) sharded_pubsub: bool,
    pool: Pool,
    lanes: [ArcSwapOption<Connection>; LANES],
    next: AtomicUsize,
    opening: Mutex<()>,
}

impl Shard {
    pub(crate) fn new(connector: &Connector, address: Address, server: Server) -> Result<Self, ConnectError> {
        Ok(Self {
            pool: connector.pool(&address)?,
            sharded_pubsub: server.sharded_pubsub && !connector.options().plain_publish,
            address,
            server,
            lanes: Default::default(),
            next: AtomicUsize::new(0),
            opening: Mutex::default(),
        })
    }

    /// A connection for one command or pipeline.
    ///
    /// Connections are taken from the pool once and then shared: they carry any number of commands at once, and taking
    /// one per command would cost a second round trip, by which the pool looks whether the connection is alive.
    pub(crate) async fn lane(&self) -> Result<Lane<'_>, RedisError> {
        let slot = &self.lanes[self.next.fetch_add(1, Ordering::Relaxed) % LANES];
        if let Some(open) = slot.load_full() {
            return Ok(Lane { open, slot });
        }
        let opening = async {
            let _one_at_a_time = self.opening.lock().await;
            if let Some(open) = slot.load_full() {
                return Ok(open);
            }
            let opened = self.pool.get().await.map(Arc::new).map_err(|error| match error {
                PoolError::Backend(error) => error,
                other => io::Error::new(io::ErrorKind::TimedOut, other.to_string()).into(),
            })?;
            slot.store(Some(Arc::clone(&opened)));
            Ok::<_, RedisError>(opened)
        };
        let late = || io::Error::from(io::ErrorKind::TimedOut).into();
        let open = timeout(ANSWER_TIMEOUT, opening).await.unwrap_or_else(|_| Err(late()))?;
        Ok(Lane { open, slot })
    }
}

/// A connection while a command uses it.
pub(crate) struct Lane<'a> {
    open: Arc<Connection>,
    slot: &'a ArcSwapOption<Connection>,
}

impl Lane<'_> {
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        MultiplexedConnection::clone(&self.open)
    }

    /// Nobody is to use it any more: it broke, or it does not answer.
    pub(crate) fn discard(self) {
        let current = self.slot.load_full();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.open)) {
            self.slot.store(None);
        }
        drop(current);
        // The last one keeps it from going back to the pool, which would try it once more.
        let _closed = Arc::into_inner(self.open).map(Connection::take);
    }
}
