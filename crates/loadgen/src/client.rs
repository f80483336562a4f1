//! One light WebSocket client. Its buffers exist only while something is in them, so that a swarm of ten thousand
//! idle ones weighs little.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::{TcpSocket, TcpStream};

use crate::frame::{self, Frame};

/// Any mask is as good as another between processes of one machine; it is applied all the same, because servers
/// must take it off.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x1e, 0x99];
/// Room for one read, in bytes.
const READ: usize = 16 * 1024;
/// Longest answer to an upgrade, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Sockets that one source address opens: of about 28,000 ports some are still in use by those that closed.
const SOCKETS_PER_ADDRESS: usize = 20_000;

/// How long a server may take for any one answer before a run counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The server answered an upgrade with another status than 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// When to come again, if it said so.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "upgrade refused with status {}", self.status)
    }
}

impl std::error::Error for Refused {}

/// The loopback address from which the client number `index` should connect.
pub fn source_address(index: usize) -> Ipv4Addr {
    let last = u8::try_from(index / SOCKETS_PER_ADDRESS + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, 0, last)
}

/// The bytes of a masked text frame, ready to be written any number of times.
pub fn prepared(text: &str) -> Vec<u8> {
    frame::text(text.as_bytes(), MASK)
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    stream: Arc<TcpStream>,
    buffer: BytesMut,
}

/// The writing side of a client, which may be used elsewhere while the client reads.
#[derive(Debug, Clone)]
pub struct Writer(Arc<TcpStream>);

impl Client {
    /// Connects from `source` and upgrades at `path`.
    pub async fn connect(server: SocketAddr, source: Ipv4Addr, path: &str) -> anyhow::Result<Self> {
        let stream = connect(server, source).await?;
        let mut client = Self { stream: Arc::new(stream), buffer: BytesMut::new() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVsaW9ncmFwaC1sb2FkIQ==\r\n\r\n"
        );
        client.writer().write(request.as_bytes()).await?;
        tokio::time::timeout(PATIENCE, client.upgraded()).await.context("no answer to the upgrade")??;
        Ok(client)
    }

    async fn upgraded(&mut self) -> anyhow::Result<()> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > MAX_HEAD || !self.fill().await? {
                bail!("no answer to the upgrade");
            }
        };
        refusal(&String::from_utf8_lossy(&self.buffer[..end])).map_or(Ok(()), Err)?;
        self.buffer.advance(end);
        self.tidy();
        Ok(())
    }

    /// The writing side.
    pub fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.stream))
    }

    /// Sends one text frame.
    pub async fn send(&self, text: &str) -> anyhow::Result<()> {
        self.writer().write(&prepared(text)).await
    }

    /// The next text; pings are answered meanwhile. `None` when the server closed. May be given up and called again.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match frame::decode(&mut self.buffer)? {
                Some(Frame::Text(text)) => {
                    self.tidy();
                    return Ok(Some(text));
                }
                Some(Frame::Ping(payload)) => self.writer().write(&frame::pong(&payload, MASK)).await?,
                Some(Frame::Close(_)) => return Ok(None),
                Some(Frame::Other) => {}
                None => {
                    if !self.fill().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next text, which has to come.
    pub async fn receive(&mut self) -> anyhow::Result<Bytes> {
        let next = tokio::time::timeout(PATIENCE, self.next()).await.context("the server stays silent")??;
        next.context("the server closed the connection")
    }

    /// Reads, answering pings, until the server closes or an error ends it: what an idle client does.
    pub async fn idle(mut self) {
        while let Ok(Some(_)) = self.next().await {}
    }

    /// Closes as the protocol wants it: close frame there, close frame back, end.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.writer().close().await?;
        let answered = async { while let Ok(Some(_)) = self.next().await {} };
        tokio::time::timeout(PATIENCE, answered).await.context("no answer to a close frame")
    }

    /// Ends as a network does that breaks: without a word, and without what is still on its way.
    pub fn reset(self) -> anyhow::Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }

    /// Reads once; `false` at the end of the stream.
    async fn fill(&mut self) -> anyhow::Result<bool> {
        loop {
            self.stream.readable().await?;
            self.buffer.reserve(READ);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(count) => return Ok(count > 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.tidy(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tidy(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

impl Writer {
    /// Writes prepared frames whole.
    pub async fn write(&self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match self.0.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.0.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Begins to close; the reading side then comes to its end.
    pub async fn close(&self) -> anyhow::Result<()> {
        self.write(&frame::close(1000, MASK)).await
    }

    /// As [`Self::write`], from a thread outside the runtime: waits by sleeping, which it never has to as long as
    /// the server keeps up.
    pub fn write_blocking(&self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match self.0.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What the answer to an upgrade says against it.
fn refusal(head: &str) -> Option<Refused> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let retry_after = headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    let seconds = retry_after.and_then(|(_, value)| value.trim().parse().ok());
    let status = status.unwrap_or(0);
    (status != 101).then_some(Refused { status, retry_after: seconds.map(Duration::from_secs) })
}

/// A connected TCP socket from `source`.
pub(crate) async fn connect(server: SocketAddr, source: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4().context("cannot open a socket")?;
    if source != Ipv4Addr::LOCALHOST {
        socket.bind((source, 0).into())?;
    }
    let connected = tokio::time::timeout(PATIENCE, socket.connect(server)).await;
    let stream =
        connected.context("no connection in time")?.with_context(|| format!("cannot connect to {server}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_when_to_come_again() {
        assert_eq!(refusal("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), None);
        let busy = refusal("HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n\r\n");
        assert_eq!(busy, Some(Refused { status: 503, retry_after: Some(Duration::from_secs(2)) }));
        let other = refusal("HTTP/1.1 401 Unauthorized\r\n\r\n");
        assert_eq!(other, Some(Refused { status: 401, retry_after: None }));
        assert_eq!(refusal("nonsense").map(|refused| refused.status), Some(0));
    }

    #[test]
    fn source_addresses_change_before_ports_run_out() {
        assert_eq!(source_address(0), Ipv4Addr::LOCALHOST);
        assert_eq!(source_address(19_999), Ipv4Addr::LOCALHOST);
        assert_eq!(source_address(20_000), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source_address(usize::MAX), Ipv4Addr::new(127, 0, 0, 255));
    }
}
