//! One gateway: started, watched, started again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use heliograph_sandbox::{Folder, Port, Process, Program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long after its end a gateway is started again: a person should see that it was gone.
const REST: Duration = Duration::from_secs(2);
/// How long until it is ready at most.
const START: Duration = Duration::from_secs(30);
/// How often it is asked, and how long an answer may take.
const LOOK: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Gateway {
    number: u8,
    program: Program,
    process: Process,
    /// When its end was seen.
    ended: Option<Instant>,
    public: Port,
    ops: Port,
    log: PathBuf,
}

impl Gateway {
    /// Starts a gateway with a number, from 1; it may not be ready yet.
    pub(crate) fn start(number: u8, node: &Program, folder: &Folder) -> Result<Self> {
        let (public, ops) = (Port::reserve()?, Port::reserve()?);
        let name = format!("gateway-{number}");
        let log = folder.path().join(format!("{name}.log"));
        let program = node
            .clone()
            .arg("serve")
            .env("HELIOGRAPH_LISTEN", public.address().to_string())
            .env("HELIOGRAPH_OPS_LISTEN", ops.address().to_string())
            .env("HELIOGRAPH_DATA_DIR", folder.path().join(&name))
            .log_file(&log);
        let process = program.start()?;
        Ok(Self { number, program, process, ended: None, public, ops, log })
    }

    pub(crate) fn name(&self) -> String {
        format!("gateway-{}", self.number)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.public.address()
    }

    pub(crate) fn ops(&self) -> SocketAddr {
        self.ops.address()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> &PathBuf {
        &self.log
    }

    pub(crate) async fn wait_until_ready(&mut self) -> Result<()> {
        let give_up = Instant::now() + START;
        while !is_ready(self.ops()).await {
            if let Some(status) = self.process.ended()? {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} ended at its start ({status}):\n{log}", self.name());
            }
            if Instant::now() > give_up {
                bail!("{} is not ready after {} s; see {}", self.name(), START.as_secs(), self.log.display());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Starts it again some time after it ended; what there is to tell.
    pub(crate) fn look_after(&mut self) -> Result<Option<String>> {
        let Some(status) = self.process.ended()? else { return Ok(None) };
        let Some(ended) = self.ended else {
            self.ended = Some(Instant::now());
            let rest = REST.as_secs();
            return Ok(Some(format!("{} ended ({status}); it starts again in {rest} s", self.name())));
        };
        if ended.elapsed() < REST {
            return Ok(None);
        }
        self.process = self.program.start()?;
        self.ended = None;
        Ok(Some(format!("{} started again, its process is {}", self.name(), self.process_id())))
    }
}

/// Whether the node behind an ops listener says that it is ready.
async fn is_ready(ops: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(ops).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer.ends_with(b" 200"))
    };
    matches!(timeout(ANSWER, ask).await, Ok(Ok(true)))
}
