//! Pairs of agents on two nodes: how long until their channel is open, and what it carries.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use heliograph_sandbox::{Folder, Process, Program};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::peers::Peer;
use crate::stats::Samples;
use crate::target::Service;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for the bridge of an agent that starts.
const LOOK: Duration = Duration::from_millis(2);
/// Length of the text in a message.
const TEXT_BYTES: usize = 200;

/// What pairs of agents took, in nanoseconds.
#[derive(Debug, Default)]
pub struct Channels {
    /// From the moment at which both were registered until both had an open channel.
    pub opened: Samples,
    /// From program to program and back, one message under way.
    pub round_trips: Samples,
}

/// Each two of `peers` in turn, who are in one mesh: an agent each, on neighbouring nodes.
///
/// The clock runs from what the bridges say (`status` with the state `online`) to what they say (`peer_connected`), so
/// the start of the processes is not in it, and the way through both bridges is.
pub async fn run(
    program: &Path,
    service: &Service,
    peers: &[Peer],
    round_trips: u32,
) -> anyhow::Result<Channels> {
    let mut channels = Channels::default();
    for (turn, pair) in peers.chunks_exact(2).enumerate() {
        let [earlier, later] = pair else { continue };
        // The one that is there does not know when the other comes.
        let mut earlier = Agent::start(program, service, turn, earlier).await?;
        earlier.online().await?;
        let mut later = Agent::start(program, service, turn + 1, later).await?;
        let begun = later.online().await?;
        let (here, there) = tokio::try_join!(earlier.connected(), later.connected())?;
        channels.opened.add(nanos(here.max(there).saturating_duration_since(begun)));
        ping_pong(&mut earlier, &mut later, round_trips, &mut channels.round_trips).await?;
        // Properly: who is killed may come back, and until then the next ones would try to reach it.
        later.stop().await?;
        earlier.stop().await?;
    }
    Ok(channels)
}

async fn ping_pong(a: &mut Agent, b: &mut Agent, count: u32, samples: &mut Samples) -> anyhow::Result<()> {
    for number in 0..count {
        let begun = Instant::now();
        a.send(&b.peer, number).await?;
        b.notice("message").await?;
        b.send(&a.peer, number).await?;
        a.notice("message").await?;
        samples.add(nanos(begun.elapsed()));
    }
    Ok(())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An agent, and a program at its bridge.
struct Agent {
    peer: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    process: Process,
    _folder: Folder,
}

impl Agent {
    async fn start(program: &Path, service: &Service, node: usize, peer: &Peer) -> anyhow::Result<Self> {
        let folder = Folder::new("agent")?;
        let socket = folder.path().join("agent.sock");
        let mut process = Program::new(program)
            .without_env("HELIOGRAPH_")
            .args(["agent", "run", "--server", &format!("http://{}", service.node(node).address), "--socket"])
            .arg(&socket)
            .env("HELIOGRAPH_KEY", peer.key())
            .start()?;
        let give_up = Instant::now() + PATIENCE;
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket).await {
                break stream;
            }
            process.must_run()?;
            if Instant::now() > give_up {
                bail!("the agent of {} has no bridge: {}", peer.id, process.log());
            }
            tokio::time::sleep(LOOK).await;
        };
        let (reader, writer) = stream.into_split();
        let lines = BufReader::new(reader).lines();
        let mut agent = Self { peer: peer.id.clone(), lines, writer, process, _folder: folder };
        // It may be online already, and then nobody says so by itself.
        agent.say(&json!({"type": "status"})).await?;
        Ok(agent)
    }

    /// Waits until it is registered; when that was heard.
    async fn online(&mut self) -> anyhow::Result<Instant> {
        loop {
            let (at, status) = self.notice("status").await?;
            if status["state"] == "online" {
                return Ok(at);
            }
        }
    }

    /// Waits until it has a channel; when that was heard.
    async fn connected(&mut self) -> anyhow::Result<Instant> {
        Ok(self.notice("peer_connected").await?.0)
    }

    /// The next notice of this type, and when it came; others are passed over.
    async fn notice(&mut self, kind: &str) -> anyhow::Result<(Instant, Value)> {
        let wait = async {
            loop {
                let line = self.lines.next_line().await?.context("the bridge is gone")?;
                let at = Instant::now();
                let mut notice: Value = serde_json::from_str(&line)?;
                if notice["type"] == kind {
                    return anyhow::Ok((at, notice["payload"].take()));
                }
            }
        };
        let notice = tokio::time::timeout(PATIENCE, wait).await;
        notice.unwrap_or_else(|_| bail!("no {kind}")).with_context(|| self.process.log())
    }

    async fn send(&mut self, target: &str, number: u32) -> anyhow::Result<()> {
        let message = json!({"type": "ping", "request_id": number.to_string(), "payload": {"text": "x".repeat(TEXT_BYTES)}});
        self.say(&json!({"type": "send", "payload": {"target_peer": target, "message": message}})).await
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate()?;
        self.process.wait(PATIENCE).await?;
        Ok(())
    }

    async fn say(&mut self, command: &Value) -> anyhow::Result<()> {
        Ok(self.writer.write_all(format!("{command}\n").as_bytes()).await?)
    }
}
