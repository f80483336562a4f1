//! The way between processes: one connection to Redis that publishes and one that subscribes.
//!
//! As fast as it gets: commands are written into a buffer under a short lock, whoever writes takes all that is there
//! and writes it at once, a lot, and no message waits for a reply. While two lots are unanswered the next one grows, which
//! was measured to cost a tenth less than to write at every opportunity. Payloads of what arrives stay in the buffer
//! that they were read into.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use anyhow::{Context, bail};
use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::Relay;
use crate::resp::{Reply, command, decode};

/// Bound of what waits to be written, in bytes; beyond it messages are dropped.
const MAX_WAITING: usize = 64 * 1024 * 1024;
/// Most lots of publishes that are written and not wholly answered.
const MAX_LOTS: usize = 2;
/// A read buffer has room for many messages, so that few buffers are made; a new one is made when less than
/// `MIN_ROOM` bytes are left.
const READ: usize = 64 * 1024;
const MIN_ROOM: usize = 8 * 1024;

/// Commands that wait to be written.
#[derive(Default)]
struct Pipe {
    waiting: Mutex<Lot>,
    waker: AtomicWaker,
}

/// Commands as they are written.
#[derive(Default)]
struct Lot {
    bytes: BytesMut,
    commands: usize,
}

impl Pipe {
    fn push(&self, parts: &[&[u8]]) {
        {
            // A lot is whole at every step but within a command, and nothing in there panics.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.bytes.len() > MAX_WAITING {
                return;
            }
            command(&mut waiting.bytes, parts);
            waiting.commands += 1;
        }
        self.waker.wake();
    }

    /// Takes all that waits, in exchange for an empty lot.
    async fn take(&self, lot: &mut Lot) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.commands == 0 {
                return Poll::Pending;
            }
            std::mem::swap(&mut *waiting, lot);
            Poll::Ready(())
        })
        .await;
    }

    /// Writes what waits; where somebody counts the answers, no more than they allow.
    async fn write_to(
        &self,
        mut stream: OwnedWriteHalf,
        unanswered: Option<&Unanswered>,
    ) -> anyhow::Result<()> {
        let mut lot = Lot::default();
        loop {
            lot.bytes.clear();
            lot.commands = 0;
            if let Some(unanswered) = unanswered {
                unanswered.room().await;
            }
            self.take(&mut lot).await;
            if let Some(unanswered) = unanswered {
                unanswered.lock().push_back(lot.commands);
            }
            stream.write_all(&lot.bytes).await.context("cannot write to Redis")?;
        }
    }
}

/// How many answers are still to come, lot by lot.
#[derive(Default)]
struct Unanswered {
    lots: Mutex<VecDeque<usize>>,
    waker: AtomicWaker,
}

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        // Numbers are whole at every step.
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another lot may be written.
    async fn room(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.lock().len() < MAX_LOTS { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn answered(&self) {
        let mut lots = self.lock();
        let Some(first) = lots.front_mut() else { return };
        *first -= 1;
        if *first == 0 {
            lots.pop_front();
            drop(lots);
            self.waker.wake();
        }
    }
}

/// What the relay uses.
pub(crate) struct Link {
    publishing: Arc<Pipe>,
    subscribing: Arc<Pipe>,
}

impl Link {
    pub(crate) fn publish(&self, channel: &[u8], payload: &[u8]) {
        self.publishing.push(&[b"PUBLISH", channel, payload]);
    }

    pub(crate) fn subscribe(&self, channel: &str) {
        self.subscribing.push(&[b"SUBSCRIBE", channel.as_bytes()]);
    }

    pub(crate) fn unsubscribe(&self, channel: &str) {
        self.subscribing.push(&[b"UNSUBSCRIBE", channel.as_bytes()]);
    }
}

/// The two connections.
pub(crate) struct Lines {
    publishing: (Arc<Pipe>, TcpStream),
    subscribing: (Arc<Pipe>, TcpStream),
}

/// Connects twice.
pub(crate) async fn connect(redis: SocketAddr) -> anyhow::Result<(Link, Lines)> {
    let (publishing, subscribing) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
    let lines = Lines {
        publishing: (Arc::clone(&publishing), open(redis).await?),
        subscribing: (Arc::clone(&subscribing), open(redis).await?),
    };
    Ok((Link { publishing, subscribing }, lines))
}

async fn open(redis: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream =
        TcpStream::connect(redis).await.with_context(|| format!("cannot connect to Redis at {redis}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Lines {
    /// Runs until one of them ends.
    pub(crate) async fn run(self, relay: Arc<Relay>) -> anyhow::Result<()> {
        let ((publishing, out), (subscribing, inward)) = (self.publishing, self.subscribing);
        let ((replies, out), (pushes, requests)) = (out.into_split(), inward.into_split());
        let unanswered = Arc::<Unanswered>::default();
        let answers = Arc::clone(&unanswered);
        // Tasks of their own: a worker that has one of them does not hold up the others.
        let publish = tokio::spawn(async move { publishing.write_to(out, Some(&unanswered)).await });
        let confirm = tokio::spawn(read(replies, move |reply| confirm(&answers, &reply)));
        let subscribe = tokio::spawn(async move { subscribing.write_to(requests, None).await });
        let receive = tokio::spawn(read(pushes, move |push| receive(&relay, push)));
        tokio::select! {
            ended = publish => ended?,
            ended = confirm => ended?,
            ended = subscribe => ended?,
            ended = receive => ended?,
        }
    }
}

/// Hands all that arrives to `take`.
async fn read(
    mut stream: OwnedReadHalf,
    mut take: impl FnMut(Reply) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() - buffer.len() < MIN_ROOM {
            buffer.reserve(READ);
        }
        if stream.read_buf(&mut buffer).await.context("cannot read from Redis")? == 0 {
            bail!("Redis closed a connection");
        }
        while let Some(reply) = decode(&mut buffer)? {
            take(reply)?;
        }
    }
}

/// How many received a message does not matter here, but that Redis took it does.
fn confirm(unanswered: &Unanswered, reply: &Reply) -> anyhow::Result<()> {
    let Reply::Integer(_) = reply else { bail!("Redis answered to PUBLISH with {reply:?}") };
    unanswered.answered();
    Ok(())
}

fn receive(relay: &Relay, push: Reply) -> anyhow::Result<()> {
    let Reply::Array(parts) = push else { bail!("Redis pushed {push:?}") };
    let mut parts = parts.into_iter();
    let (Some(Reply::Text(Some(kind))), Some(Reply::Text(Some(channel)))) = (parts.next(), parts.next())
    else {
        bail!("Redis pushed what is no message");
    };
    let payload = match (&kind[..], parts.next()) {
        (b"message", Some(Reply::Text(Some(payload)))) => payload,
        // The client's sign that it can be reached.
        (b"subscribe", _) => Bytes::new(),
        _ => return Ok(()),
    };
    // A client that left meanwhile is nobody.
    let _gone = relay.deliver(&channel, payload);
    Ok(())
}
