//! The subscriber of one shard: one connection, whose reader only hands on what arrives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::complaint::Complaint;
use super::connect::{Connection, READ_BYTES, Stream};
use super::inbound::Arrival;
use super::keys::Partition;
use super::line::{Broken, Line, pause};
use super::node::Shared;
use super::options::Form;
use super::resp::{Malformed, Value, command, parse};
use super::subscriptions::{Confirmed, Generation};

/// How often a subscriber is tried: it asks for a sign of life, and publishes to itself.
const TRY: Duration = Duration::from_secs(1);
/// How long Redis may leave a command unanswered, or what was published to itself may take.
const SILENCE: Duration = Duration::from_secs(3);
/// Commands that are written and not confirmed. While they are under way more gathers for the next ones.
const MAX_COMMANDS: usize = 4;

/// Subscribes on a shard until the line is stopped.
pub(crate) async fn run(shared: Arc<Shared>, line: Arc<Line>) {
    let mut complaint = Complaint::new("subscribe");
    loop {
        tokio::select! {
            ended = connection(&shared, &line, &mut complaint) => {
                let lasting = matches!(&ended, Broken::Connect(error) if error.is_lasting());
                complaint.about(&line.shard.address, &ended, lasting);
            }
            () = line.stop.cancelled() => return,
        }
        shared.topology.suspect();
        tokio::select! {
            () = pause() => {}
            () = line.stop.cancelled() => return,
        }
    }
}

/// One connection, from opening it to its end.
async fn connection(shared: &Arc<Shared>, line: &Arc<Line>, complaint: &mut Complaint) -> Broken {
    let connection = match shared.topology.connector().open_primary(&line.shard.address).await {
        Ok(connection) => connection,
        Err(error) => return error.into(),
    };
    if !line.fits(connection.server) {
        return Broken::OtherVersion;
    }
    shared.metrics.subscriber_connects.inc();
    let mut subscriber = Subscriber::new(shared, line, connection);
    subscriber.restart();
    loop {
        if let Err(broken) = subscriber.turn(complaint).await {
            return broken;
        }
    }
}

fn next_generation() -> Generation {
    static LAST: AtomicU64 = AtomicU64::new(0);
    Generation(LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

/// A connection, and what was said on it.
struct Subscriber<'a> {
    shared: &'a Shared,
    line: &'a Line,
    generation: Generation,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// The commands that are being written, and how far.
    bytes: Vec<u8>,
    written: usize,
    /// The partitions whose channels are said here.
    partitions: Arc<Vec<Partition>>,
    /// The channel on which the node listens for itself.
    probe: Option<(Partition, Vec<u8>)>,
    /// Confirmations that each command will have yet; the oldest first.
    commands: VecDeque<usize>,
    /// When Redis last confirmed something, or began to owe it.
    progress: Instant,
    /// When the sign of life was asked for that was not given yet.
    asked: Option<Instant>,
    /// Whether something was lost and is not all said and confirmed again.
    unsettled: bool,
    /// Once all is said: how many commands of those that say it are not confirmed.
    awaited: Option<usize>,
    /// Partitions of which Redis unsubscribed channels on its own.
    lost: Vec<Partition>,
    tries: Interval,
}

impl<'a> Subscriber<'a> {
    fn new(shared: &'a Shared, line: &'a Line, connection: Connection) -> Self {
        let (read, write) = split(connection.stream);
        let mut tries = interval(TRY);
        tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        line.probe.restart();
        Self {
            shared,
            line,
            generation: next_generation(),
            read,
            write,
            buffer: connection.buffer,
            bytes: vec![],
            written: 0,
            partitions: Arc::default(),
            probe: None,
            commands: VecDeque::new(),
            progress: Instant::now(),
            asked: None,
            unsettled: true,
            awaited: None,
            lost: vec![],
            tries,
        }
    }

    /// Says everything of the partitions that are new here.
    fn restart(&mut self) {
        let now = self.line.partitions.load_full();
        if Arc::ptr_eq(&now, &self.partitions) {
            return;
        }
        let before = std::mem::replace(&mut self.partitions, now);
        for &partition in self.partitions.iter().filter(|partition| !before.contains(partition)) {
            self.shared.subscriptions.restart(partition, self.generation);
            (self.unsettled, self.awaited) = (true, None);
        }
        self.listen_for_oneself();
    }

    fn listen_for_oneself(&mut self) {
        let served = self.probe.as_ref().is_some_and(|(partition, _)| self.partitions.contains(partition));
        if !served {
            let partition = self.partitions.first().copied();
            self.probe =
                partition.map(|partition| (partition, self.shared.prefix.probe(partition, &self.shared.id)));
            if let Some((_, channel)) = &self.probe {
                self.bytes.extend_from_slice(&command(&[self.word(), channel]));
                self.owe(1);
            }
            self.line.probe.restart();
        }
    }

    fn word(&self) -> &'static [u8] {
        if self.line.shard.sharded_pubsub { b"SSUBSCRIBE" } else { b"SUBSCRIBE" }
    }

    fn owe(&mut self, confirmations: usize) {
        if confirmations > 0 {
            if self.commands.is_empty() {
                self.progress = Instant::now();
            }
            self.commands.push_back(confirmations);
        }
    }

    /// Does the next thing that can be done.
    async fn turn(&mut self, complaint: &mut Complaint) -> Result<(), Broken> {
        self.write_commands();
        self.settle(complaint);
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        let writing = self.written < self.bytes.len();
        tokio::select! {
            written = self.write.write(&self.bytes[self.written..]), if writing => {
                self.written += match written? {
                    0 => return Err(Broken::Closed),
                    written => written,
                };
                if self.written == self.bytes.len() {
                    self.bytes.clear();
                    self.written = 0;
                    timeout(SILENCE, self.write.flush()).await.map_err(|_| Broken::Silent)??;
                }
            }
            read = self.read.read_buf(&mut self.buffer) => {
                if read? == 0 {
                    return Err(Broken::Closed);
                }
                self.take_in()?;
            }
            () = self.line.wake.notified() => self.restart(),
            _ = self.tries.tick() => self.try_out()?,
        }
        Ok(())
    }

    /// Says what changed, unless enough is under way.
    fn write_commands(&mut self) {
        while self.bytes.is_empty() && self.commands.len() < MAX_COMMANDS {
            let one_slot = matches!(self.shared.topology.connector().options().form, Form::Cluster(_));
            let form = (self.line.shard.sharded_pubsub, one_slot);
            let subscriptions = &self.shared.subscriptions;
            let said = subscriptions.write_commands(&self.partitions, self.generation, form, &mut self.bytes);
            self.owe(said.subscribed);
            self.owe(said.unsubscribed);
            if self.bytes.is_empty() && !subscriptions.is_pending(&self.partitions) {
                return;
            }
        }
    }

    /// Notices when everything that was lost is back. What others want meanwhile is not waited for.
    fn settle(&mut self, complaint: &mut Complaint) {
        if !self.unsettled {
            return;
        }
        if self.awaited.is_none() && !self.shared.subscriptions.is_pending(&self.partitions) {
            self.awaited = Some(self.commands.len());
        }
        if self.awaited == Some(0) {
            (self.unsettled, self.awaited) = (false, None);
            complaint.over(&self.line.shard.address);
            self.line.receiving.store(true, Ordering::Release);
            self.shared.topology.changed();
        }
    }

    /// Asks for a sign of life, and publishes something that has to come back.
    fn try_out(&mut self) -> Result<(), Broken> {
        let late = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() > SILENCE);
        let owing = (!self.commands.is_empty()).then_some(self.progress);
        if late(self.asked) || late(owing) {
            return Err(Broken::Silent);
        }
        if late(self.line.probe.missing_since()) {
            return Err(Broken::Deaf);
        }
        self.say_lost();
        self.shared
            .metrics
            .subscriptions
            .set(i64::try_from(self.shared.subscriptions.len()).unwrap_or(i64::MAX));
        if self.asked.is_none() {
            self.bytes.extend_from_slice(&command(&[b"PING"]));
            self.asked = Some(Instant::now());
        }
        if let Some((_, channel)) = self.probe.as_ref().filter(|_| !self.unsettled) {
            self.line.outbound.probe(channel, self.line.probe.next());
        }
        Ok(())
    }

    /// Takes everything off the buffer that is all there.
    fn take_in(&mut self) -> Result<(), Broken> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut taken = Ok(());
        while taken.is_ok() {
            let Some((value, length)) = parse(&buffer)? else { break };
            taken = self.take_value(&value);
            buffer.advance(length);
        }
        self.buffer = buffer;
        taken
    }

    fn take_value(&mut self, value: &Value<'_>) -> Result<(), Broken> {
        match value {
            Value::Push(elements) => match elements.as_slice() {
                [Value::Text(b"smessage" | b"message"), Value::Text(channel), Value::Text(frame)] => {
                    self.take_message(channel, frame);
                    Ok(())
                }
                [Value::Text(b"ssubscribe" | b"subscribe"), Value::Text(channel), ..] => {
                    self.confirm(channel, true);
                    Ok(())
                }
                [Value::Text(b"sunsubscribe" | b"unsubscribe"), Value::Text(channel), ..] => {
                    self.confirm(channel, false);
                    Ok(())
                }
                _ => Ok(()),
            },
            Value::Text(b"PONG") => {
                self.asked = None;
                Ok(())
            }
            Value::Error(error) => {
                let code = error.split(|&byte| byte == b' ').next().unwrap_or_default();
                Err(Broken::Refused(String::from_utf8_lossy(code).into_owned()))
            }
            _ => Err(Malformed.into()),
        }
    }

    fn take_message(&self, channel: &[u8], frame: &[u8]) {
        if self.probe.as_ref().is_some_and(|(_, probe)| probe == channel) {
            if let Some(number) = std::str::from_utf8(frame).ok().and_then(|text| text.parse().ok()) {
                self.line.probe.heard(number);
            }
            return;
        }
        if let Some(partition) = Partition::of_name(&self.shared.prefix, channel) {
            self.shared.receive(Arrival::new(partition, channel, frame));
        }
    }

    fn confirm(&mut self, channel: &[u8], subscribed: bool) {
        let Some(partition) = Partition::of_name(&self.shared.prefix, channel) else { return };
        let confirmed = if self.probe.as_ref().is_some_and(|(_, probe)| probe == channel) {
            if subscribed { Confirmed::Asked } else { Confirmed::Lost }
        } else {
            self.shared.subscriptions.confirm(partition, channel, subscribed, self.generation)
        };
        // Only what was asked for is ever subscribed, be it that another line took the channel over since.
        if subscribed || confirmed == Confirmed::Asked {
            self.confirmed_one();
        } else {
            self.lost.push(partition);
            self.shared.topology.suspect();
        }
    }

    /// Another node serves the slot of what Redis unsubscribed on its own, and its line says it as soon as the layout
    /// shows that. By now it would; what is still ours is to be said here.
    fn say_lost(&mut self) {
        for partition in std::mem::take(&mut self.lost) {
            if self.partitions.contains(&partition) {
                self.shared.subscriptions.restart(partition, self.generation);
                (self.unsettled, self.awaited) = (true, None);
                self.probe.take_if(|(probe, _)| *probe == partition);
            }
        }
        self.listen_for_oneself();
    }

    fn confirmed_one(&mut self) {
        self.progress = Instant::now();
        if let Some(open) = self.commands.front_mut() {
            *open -= 1;
            if *open == 0 {
                self.commands.pop_front();
                self.awaited = self.awaited.map(|awaited| awaited.saturating_sub(1));
            }
        }
    }
}

impl Drop for Subscriber<'_> {
    fn drop(&mut self) {
        self.line.receiving.store(false, Ordering::Release);
        self.shared.subscriptions.forget(self.generation);
        // What was said here may be another line's to say.
        self.shared.wake_all();
    }
}
