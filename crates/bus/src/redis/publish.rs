//! The publisher of one shard: one connection, few large writes.
//!
//! It takes all that waits and writes it at once, and takes the next lot while at most one more is unanswered: so the
//! more comes, the larger the lots become and the less each message costs, and when little comes nothing waits.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep_until};

use super::complaint::Complaint;
use super::connect::{ANSWER_TIMEOUT, Connection, Stream};
use super::keys::Partition;
use super::line::{Broken, Line, pause};
use super::node::Shared;
use super::outbound::{Batch, Note};
use super::resp::{Value, parse};
use super::subscriptions::Own;
use crate::{Destination, Lost, Witness};

/// Most lots that are written and not wholly answered.
const MAX_LOTS: usize = 2;
/// Room for answers: `:1\r\n` each.
const READ_BYTES: usize = 16 * 1024;

/// Publishes on a shard until the line is stopped.
pub(crate) async fn run(shared: Arc<Shared>, line: Arc<Line>) {
    let mut complaint = Complaint::new("publish");
    loop {
        let Some(ended) = unless_stopped(&line, connection(&shared, &line, &mut complaint)).await else {
            return;
        };
        let lasting = matches!(&ended, Broken::Connect(error) if error.is_lasting());
        complaint.about(&line.shard.address, &ended, lasting);
        shared.topology.suspect();
        if unless_stopped(&line, pause()).await.is_none() {
            return;
        }
    }
}

async fn unless_stopped<T>(line: &Line, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = line.stop.cancelled() => None,
    }
}

/// One connection, from opening it to its end.
async fn connection(shared: &Shared, line: &Line, complaint: &mut Complaint) -> Broken {
    let connection = match shared.topology.connector().open_primary(&line.shard.address).await {
        Ok(connection) => connection,
        Err(error) => return error.into(),
    };
    if !line.fits(connection.server) {
        return Broken::OtherVersion;
    }
    shared.metrics.publisher_connects.inc();
    complaint.over(&line.shard.address);
    line.outbound.open();
    let mut publisher = Publisher::new(shared, line, connection);
    loop {
        if let Err(broken) = publisher.turn().await {
            return broken;
        }
    }
}

/// Writes some bytes; flushes when there are none.
async fn write_on(write: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> Result<usize, Broken> {
    if bytes.is_empty() {
        write.flush().await?;
        return Ok(0);
    }
    match write.write(bytes).await? {
        0 => Err(Broken::Closed),
        written => Ok(written),
    }
}

/// A connection, and what is on its way there.
struct Publisher<'a> {
    shared: &'a Shared,
    line: &'a Line,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// The lot that is being written, and how far.
    bytes: Vec<u8>,
    written: usize,
    flushed: bool,
    /// Notes of what is written or being written; the oldest first.
    lots: VecDeque<std::vec::IntoIter<Note>>,
    /// When something was last written or answered.
    progress: Instant,
    channel: Vec<u8>,
}

impl<'a> Publisher<'a> {
    fn new(shared: &'a Shared, line: &'a Line, connection: Connection) -> Self {
        let (read, write) = split(connection.stream);
        Self {
            shared,
            line,
            read,
            write,
            buffer: connection.buffer,
            bytes: vec![],
            written: 0,
            flushed: true,
            lots: VecDeque::new(),
            progress: Instant::now(),
            channel: vec![],
        }
    }

    /// Does the next thing that can be done.
    async fn turn(&mut self) -> Result<(), Broken> {
        let writing = self.written < self.bytes.len();
        let may_take = !writing && self.flushed && self.lots.len() < MAX_LOTS;
        if may_take && self.take() {
            return Ok(());
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        tokio::select! {
            written = write_on(&mut self.write, &self.bytes[self.written..]), if writing || !self.flushed => {
                self.written += written?;
                self.flushed = !writing;
                self.progress = Instant::now();
            }
            read = self.read.read_buf(&mut self.buffer) => {
                if read? == 0 {
                    return Err(Broken::Closed);
                }
                self.progress = Instant::now();
                self.settle()?;
            }
            () = self.line.outbound.filled(), if may_take => {}
            () = sleep_until(self.progress + ANSWER_TIMEOUT), if !self.lots.is_empty() => {
                return Err(Broken::Silent);
            }
        }
        Ok(())
    }

    /// Takes what waits.
    fn take(&mut self) -> bool {
        let mut batch = Batch { bytes: std::mem::take(&mut self.bytes), notes: vec![] };
        let taken = self.line.outbound.take(&mut batch);
        if taken {
            self.shared.metrics.batch.observe(batch.notes.len() as f64);
            self.lots.push_back(batch.notes.into_iter());
            self.progress = Instant::now();
        }
        (self.bytes, self.written) = (batch.bytes, 0);
        taken
    }

    /// Matches answers to what they answer.
    fn settle(&mut self) -> Result<(), Broken> {
        while let Some((value, length)) = parse(&self.buffer)? {
            let receivers = match &value {
                Value::Push(_) => None,
                Value::Number(receivers) => Some(Ok(*receivers)),
                Value::Error(error) => Some(Err(String::from_utf8_lossy(error).into_owned())),
                _ => return Err(super::resp::Malformed.into()),
            };
            self.buffer.advance(length);
            if let Some(receivers) = receivers {
                let note = self.next_note().ok_or(super::resp::Malformed)?;
                self.answered(note, receivers);
            }
        }
        Ok(())
    }

    fn next_note(&mut self) -> Option<Note> {
        let note = self.lots.front_mut()?.next();
        // A lot that is answered makes room for the next at once.
        if self.lots.front().is_some_and(|lot| lot.len() == 0) {
            self.lots.pop_front();
        }
        note
    }

    fn answered(&mut self, note: Note, receivers: Result<i64, String>) {
        match (note, receivers) {
            (Note::Probe(number), Ok(_)) => self.line.probe.accepted(number),
            (Note::Signal(destination, witness), Ok(receivers)) => {
                self.shared.metrics.waiting.dec();
                self.received(&destination, witness, receivers);
            }
            (Note::TakeOver(heir), Ok(receivers)) => {
                self.shared.metrics.waiting.dec();
                self.shared.metrics.outcome(receivers > 0).inc();
                if receivers <= 0 {
                    self.shared.nobody_hands_over(&heir);
                }
            }
            (Note::Other, Ok(receivers)) => {
                self.shared.metrics.waiting.dec();
                self.shared.metrics.outcome(receivers > 0).inc();
            }
            (note, Err(error)) => {
                let code = error.split(' ').next().unwrap_or_default();
                tracing::debug!(code, redis = %self.line.shard.address, "redis: a publish was refused");
                self.shared.topology.suspect();
                self.shared.failed(note);
            }
        }
    }

    /// The count says how many received it, this node's own subscription among them; but what a node sent itself it
    /// does not take.
    fn received(&mut self, destination: &Destination, witness: Witness, receivers: i64) {
        let lost = match receivers {
            ..=0 => Some(Lost::Offline),
            1 => {
                self.channel.clear();
                self.shared.prefix.write_channel(&mut self.channel, destination);
                let partition = Partition::of_destination(destination);
                match self.shared.subscriptions.own(partition, &self.channel) {
                    Own::No => None,
                    Own::Yes => Some(Lost::Offline),
                    // It may have been us, or another one; the sender tries again sooner than it waits for ever.
                    Own::Perhaps => Some(Lost::Down),
                }
            }
            _ => None,
        };
        self.shared.metrics.outcome(lost.is_none()).inc();
        if let Some(lost) = lost {
            self.shared.returned(destination, witness, lost);
        }
    }
}

impl Drop for Publisher<'_> {
    /// What was not answered is lost, as far as anyone can tell: it is never sent again, lest it arrive twice or after
    /// what was sent later.
    fn drop(&mut self) {
        let waiting = self.line.outbound.close();
        let lost = std::mem::take(&mut self.lots).into_iter().flatten();
        lost.chain(waiting).for_each(|note| self.shared.failed(note));
    }
}
