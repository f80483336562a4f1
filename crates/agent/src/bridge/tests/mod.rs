//! Local programs at a bridge whose mesh is a fake: sockets and files are real.

mod commands;
mod examples;
mod forms;
mod harm;
mod lines;
mod linked;
mod notices;
mod page;
mod socket;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Bounds, Bridge, Hub, Mesh, Notice, Refusal};

/// What is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bridge that is served, until this is dropped or ended.
struct World {
    folder: TempDir,
    hub: Arc<Hub>,
    mesh: Arc<FakeMesh>,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::of(Hub::new()).await
    }

    async fn with(bounds: Bounds) -> Self {
        Self::of(Hub::with(bounds)).await
    }

    async fn of(hub: Arc<Hub>) -> Self {
        let mesh = Arc::new(FakeMesh::default());
        Self::serving(hub, mesh.clone(), mesh).await
    }

    async fn serving(hub: Arc<Hub>, served: Arc<dyn Mesh>, mesh: Arc<FakeMesh>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let end = CancellationToken::new();
        let bridge = Bridge::bind(&folder.path().join("agent.sock")).await.unwrap();
        let serving = tokio::spawn(bridge.serve(served, Arc::clone(&hub), end.clone()));
        Self { folder, hub, mesh, end, serving }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// A program that has been let in.
    async fn program(&self) -> Local {
        let before = self.hub.programs();
        let local = Local::connect(self).await;
        eventually("the program is let in", || self.hub.programs() > before).await;
        local
    }

    async fn message(&self, from: &str, text: &str) {
        let message = RawValue::from_string(text.to_owned()).unwrap();
        self.hub.tell(Notice::Message { from: peer(from), message }).await;
    }
}

/// A local program.
struct Local {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Local {
    async fn connect(world: &World) -> Self {
        let (reader, writer) = UnixStream::connect(world.path()).await.unwrap().into_split();
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn say(&mut self, line: &str) {
        self.say_bytes(format!("{line}\n").as_bytes()).await;
    }

    async fn say_bytes(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.writer.write_all(bytes)).await.expect("the bridge reads").unwrap();
    }

    /// The next line; none when the bridge has closed the socket.
    async fn line(&mut self) -> Option<String> {
        // A socket that is closed with something unread in it ends with a reset.
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line or the end").unwrap_or_default()
    }

    async fn hear(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// What follows is the answer to this; so whatever came before has been seen.
    async fn settle(&mut self) {
        self.say(r#"{"type":"list_peers","id":"settle","payload":{}}"#).await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], "settle", "{answer}");
    }

    /// The next line is an error with this code; its text.
    async fn error(&mut self, code: &str) -> String {
        let heard = self.hear().await;
        assert_eq!((&heard["type"], &heard["payload"]["code"]), (&json!("error"), &json!(code)), "{heard}");
        heard["payload"]["message"].as_str().unwrap().to_owned()
    }
}

/// Knows `tab-1` and `tab-2`; sending to `full` waits until there is room.
struct FakeMesh {
    done: Mutex<Vec<String>>,
    room: Semaphore,
}

impl Default for FakeMesh {
    fn default() -> Self {
        Self { done: Mutex::default(), room: Semaphore::new(0) }
    }
}

impl FakeMesh {
    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }
}

fn unknown(target: &str) -> Refusal {
    Refusal {
        code: "unknown_peer",
        message: format!("no peer {target} is in the mesh now"),
        peer: Some(target.to_owned()),
    }
}

#[async_trait]
impl Mesh for FakeMesh {
    async fn send(&self, target: &str, message: &RawValue) -> Result<(), Refusal> {
        match target {
            "full" => self.room.acquire().await.unwrap().forget(),
            "tab-1" | "tab-2" => {}
            _ => return Err(unknown(target)),
        }
        self.note(format!("send {target} {message}"));
        Ok(())
    }

    async fn broadcast(&self, message: &RawValue) -> Result<usize, Refusal> {
        self.note(format!("broadcast {message}"));
        Ok(2)
    }

    async fn connect(&self, target: &str) -> Result<(), Refusal> {
        if !target.starts_with("tab-") {
            return Err(unknown(target));
        }
        self.note(format!("connect {target}"));
        Ok(())
    }

    fn peers(&self) -> Vec<PeerId> {
        vec![peer("tab-1"), peer("tab-2")]
    }

    fn status(&self) -> Value {
        json!({ "state": "online", "peer_id": "me" })
    }
}

fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("never: {what}"));
}
