//! Which Redis node serves which partition, kept current.
//!
//! One mechanism for all forms: one server is one shard, Sentinel is one shard whose address changes, Cluster is some
//! shards. Whoever talks to Redis talks to a shard, over plain connections.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation, ServerErrorKind,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::complaint::Complaint;
use super::connect::{ConnectError, Connector};
use super::keys::{PARTITIONS, Partition};
use super::layout::{Layout, look};
use super::options::{Address, Options};
use super::shard::Shard;
use crate::BusError;

/// How often to look when nothing seems wrong.
const LOOK: Duration = Duration::from_secs(15);
/// Least time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a command waits for a new layout after it was sent to the wrong node.
const MOVE: Duration = Duration::from_secs(1);

/// The shards at one moment.
pub(crate) struct Map {
    owners: [Option<Arc<Shard>>; PARTITIONS as usize],
    /// Each of the owners once.
    pub(crate) shards: Vec<Arc<Shard>>,
}

impl Map {
    fn empty() -> Self {
        Self { owners: [const { None }; PARTITIONS as usize], shards: vec![] }
    }

    /// Who serves a partition.
    pub(crate) fn shard(&self, partition: Partition) -> Option<&Arc<Shard>> {
        self.owners[partition.index()].as_ref()
    }

    /// The partitions of a shard.
    pub(crate) fn partitions<'a>(&'a self, shard: &'a Arc<Shard>) -> impl Iterator<Item = Partition> + 'a {
        Partition::all().filter(|&p| self.shard(p).is_some_and(|owner| Arc::ptr_eq(owner, shard)))
    }

    /// The same shards where nothing changed, new ones elsewhere.
    fn next(&self, connector: &Connector, layout: &Layout) -> Result<Self, ConnectError> {
        let mut next = Self::empty();
        for (owner, address) in next.owners.iter_mut().zip(&layout.owners) {
            let Some(address) = address else { continue };
            let known = find(&next.shards, address, layout).or_else(|| find(&self.shards, address, layout));
            let shard = match known {
                Some(shard) => shard,
                None => Arc::new(Shard::new(connector, address.clone(), layout.server)?),
            };
            if !next.shards.iter().any(|known| Arc::ptr_eq(known, &shard)) {
                next.shards.push(Arc::clone(&shard));
            }
            *owner = Some(shard);
        }
        Ok(next)
    }

    fn same_as(&self, other: &Self) -> bool {
        self.owners.iter().zip(&other.owners).all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        })
    }
}

fn find(shards: &[Arc<Shard>], address: &Address, layout: &Layout) -> Option<Arc<Shard>> {
    shards.iter().find(|shard| shard.address == *address && shard.server == layout.server).cloned()
}

/// Which Redis node serves which partition.
pub(crate) struct Topology {
    connector: Arc<Connector>,
    map: ArcSwap<Map>,
    /// Counts layouts.
    layouts: watch::Sender<u64>,
    changes: watch::Sender<u64>,
    suspicion: Notify,
    stop: CancellationToken,
}

impl Topology {
    /// Starts to look, and goes on until [`Self::stop`]. Redis may be away: then there are no shards yet. An error is
    /// one that somebody has to mend.
    pub(crate) fn connect(options: Options) -> Result<Arc<Self>, BusError> {
        let connector = Connector::new(options).map_err(|error| BusError::Unavailable(error.to_string()))?;
        let topology = Arc::new(Self {
            connector: Arc::new(connector),
            map: ArcSwap::from_pointee(Map::empty()),
            layouts: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            suspicion: Notify::new(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(keep_looking(Arc::clone(&topology)));
        Ok(topology)
    }

    /// Ends looking.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Who opens connections.
    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// All shards and what they serve.
    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// Who serves a partition; `None` while nobody is known to.
    pub(crate) fn shard(&self, partition: Partition) -> Option<Arc<Shard>> {
        self.map.load().shard(partition).cloned()
    }

    /// Grows with each new layout.
    pub(crate) fn layouts(&self) -> watch::Receiver<u64> {
        self.layouts.subscribe()
    }

    /// Grows whenever what Redis holds may not be what it held: a partition is served by another server, or a
    /// connection was lost and is back. Look again, say again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes [`Self::changes`] grow.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Something is wrong with the layout, it seems: look now.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Runs a script in a partition.
    pub(crate) async fn invoke<T: FromRedisValue>(
        &self,
        partition: Partition,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, BusError> {
        self.ask(partition, Question::Script(script)).await
    }

    /// Runs a command in a partition.
    pub(crate) async fn query<T: FromRedisValue>(
        &self,
        partition: Partition,
        command: &Cmd,
    ) -> Result<T, BusError> {
        self.ask(partition, Question::Command(command)).await
    }

    /// Runs a pipeline in a partition. An error in one of its commands is an error of all.
    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
    ) -> Result<T, BusError> {
        self.ask(partition, Question::Pipeline(pipeline)).await
    }

    /// Asks the partition's shard. If that one no longer serves it, asks the one that does, once: such an answer says
    /// that nothing was done. After any other failure it is unknown what was done, so nothing is tried again.
    async fn ask<T: FromRedisValue>(
        &self,
        partition: Partition,
        question: Question<'_>,
    ) -> Result<T, BusError> {
        let mut layouts = self.layouts();
        layouts.mark_unchanged();
        let failure = match self.ask_once(partition, question).await {
            Err(failure) if is_move(&failure) => failure,
            answer => return answer.map_err(|error| unavailable(&error)),
        };
        let _same_layout = timeout(MOVE, layouts.changed()).await;
        tracing::debug!(%failure, "redis: asking again after a move");
        self.ask_once(partition, question).await.map_err(|error| unavailable(&error))
    }

    async fn ask_once<T: FromRedisValue>(
        &self,
        partition: Partition,
        question: Question<'_>,
    ) -> RedisResult<T> {
        let Some(shard) = self.shard(partition) else {
            return Err((ErrorKind::Io, "no Redis node serves this partition").into());
        };
        let lane = shard.lane().await.inspect_err(|_| self.suspect())?;
        let answer = question.put_to(lane.connection()).await;
        if let Err(error) = &answer {
            if is_move(error) {
                self.suspect();
            } else if error.is_unrecoverable_error() || error.is_timeout() {
                lane.discard();
                self.suspect();
            }
        }
        answer
    }
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Question<'_> {
    async fn put_to<T: FromRedisValue>(self, mut connection: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::Script(script) => script.invoke_async(&mut connection).await,
            Self::Command(command) => command.query_async(&mut connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(&mut connection).await,
        }
    }
}

/// Whether the server says that another one serves this, or none at the moment: it did nothing.
fn is_move(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
        )
    )
}

fn unavailable(error: &RedisError) -> BusError {
    // Details of an error may repeat arguments of a command; the kind and code do not.
    BusError::Unavailable(match error.code() {
        Some(code) => format!("Redis answered {code}"),
        None => error.category().to_owned(),
    })
}

async fn keep_looking(topology: Arc<Topology>) {
    let mut known = vec![];
    let mut complaint = Complaint::new("layout");
    loop {
        let looked = tokio::select! {
            looked = look(&topology.connector, &known) => looked,
            () = topology.stop.cancelled() => return,
        };
        let found = looked.and_then(|layout| topology.adopt(layout));
        let wait = match found {
            Ok(nodes) => {
                known = nodes;
                complaint.over(&topology.connector.options());
                LOOK
            }
            Err(error) => {
                complaint.about(&topology.connector.options(), &error, error.is_lasting());
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            () = topology.stop.cancelled() => return,
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = topology.suspicion.notified() => {}
            () = topology.stop.cancelled() => return,
        }
    }
}

impl Topology {
    /// Makes a layout the current one; answers whom to ask the next time.
    fn adopt(&self, layout: Layout) -> Result<Vec<Address>, ConnectError> {
        let current = self.map.load();
        let next = current.next(&self.connector, &layout)?;
        if !next.same_as(&current) {
            let nodes: Vec<_> = next.shards.iter().map(|shard| shard.address.to_string()).collect();
            tracing::info!(?nodes, "redis: layout");
            self.map.store(Arc::new(next));
            self.layouts.send_modify(|count| *count += 1);
        }
        Ok(layout.known)
    }
}
