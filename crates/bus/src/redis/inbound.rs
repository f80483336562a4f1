//! What arrived and waits to be taken in.
//!
//! The subscribers' readers only copy it here. A channel always goes to the same worker, so its order is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::frame::{Decoded, decode};
use super::keys::Partition;
use super::node::Shared;

/// Most parcels that wait for one worker.
const MAX_PARCELS: usize = 16_384;
/// Most bytes that wait for one worker.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most workers.
const MAX_WORKERS: usize = 8;

/// A frame as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) partition: Partition,
    /// Channel and frame in one piece, so that a message costs one allocation.
    bytes: Bytes,
    channel: usize,
}

impl Arrival {
    pub(crate) fn new(partition: Partition, channel: &[u8], frame: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(channel.len() + frame.len());
        bytes.extend_from_slice(channel);
        bytes.extend_from_slice(frame);
        Self { partition, bytes: Bytes::from(bytes), channel: channel.len() }
    }

    pub(crate) fn channel(&self) -> &[u8] {
        &self.bytes[..self.channel]
    }

    pub(crate) fn frame(&self) -> Bytes {
        self.bytes.slice(self.channel..)
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<(VecDeque<Arrival>, usize)>,
    filled: Notify,
}

impl Queue {
    fn push(&self, arrival: Arrival) -> Result<(), Arrival> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (arrivals, bytes) = &mut *waiting;
        if arrivals.len() >= MAX_PARCELS || *bytes + arrival.bytes.len() > MAX_BYTES {
            return Err(arrival);
        }
        *bytes += arrival.bytes.len();
        arrivals.push_back(arrival);
        let first = arrivals.len() == 1;
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Swaps what waits with `spent`, which becomes the next queue.
    fn take(&self, spent: &mut VecDeque<Arrival>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.0, spent);
        waiting.1 = 0;
    }
}

/// The queues of all workers.
pub(crate) struct Inbound {
    queues: Vec<Arc<Queue>>,
}

impl Inbound {
    /// As many as there are processors.
    pub(crate) fn new() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        Self { queues: (0..workers).map(|_| Arc::default()).collect() }
    }

    /// Hands an arrival to its worker; gives it back if too much waits there.
    pub(crate) fn push(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.queues[arrival.partition.index() % self.queues.len()].push(arrival)
    }

    /// Starts the workers.
    pub(crate) fn start(&self, shared: &Arc<Shared>, stop: &CancellationToken) {
        for queue in &self.queues {
            tokio::spawn(work(Arc::clone(shared), Arc::clone(queue), stop.clone()));
        }
    }
}

async fn work(shared: Arc<Shared>, queue: Arc<Queue>, stop: CancellationToken) {
    let mut arrivals = VecDeque::new();
    loop {
        tokio::select! {
            () = queue.filled.notified() => {}
            () = stop.cancelled() => return,
        }
        loop {
            queue.take(&mut arrivals);
            if arrivals.is_empty() {
                break;
            }
            for arrival in arrivals.drain(..) {
                take_in(&shared, &arrival);
            }
            // Others have to run too, however much arrives.
            tokio::task::yield_now().await;
        }
    }
}

fn take_in(shared: &Shared, arrival: &Arrival) {
    // Nobody wants it any more: it was on its way when the channel was given up.
    let Some(destination) = shared.subscriptions.destination(arrival.partition, arrival.channel()) else {
        return;
    };
    match decode(&arrival.frame(), &shared.id) {
        Decoded::Parcel(parcel) => {
            shared.metrics.arrived.inc();
            shared.arrived(&destination, parcel);
        }
        Decoded::Echo => {}
        Decoded::Unknown => shared.metrics.dropped_unknown.inc(),
        Decoded::Malformed => shared.metrics.dropped_malformed.inc(),
    }
}
