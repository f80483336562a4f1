//! The few HTTP/1.1 requests of a benchmark, on connections that stay open.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{PATIENCE, connect};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    server: SocketAddr,
    buffer: BytesMut,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Connection {
    /// Connects.
    pub async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = connect(server, Ipv4Addr::LOCALHOST).await?;
        Ok(Self { stream, server, buffer: BytesMut::new() })
    }

    /// `POST /api/token` with an API key: 200 and a token, or it is an error.
    pub async fn exchange(&mut self, key: &str) -> anyhow::Result<String> {
        let answer = self.request("POST", "/api/token", &format!("x-api-key: {key}\r\n")).await?;
        if answer.status != 200 {
            bail!("token exchange refused: {} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// One request without a body; `headers` are whole lines.
    pub async fn request(&mut self, method: &str, path: &str, headers: &str) -> anyhow::Result<Answer> {
        let server = self.server;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        tokio::time::timeout(PATIENCE, self.answer()).await.context("no answer in time")?
    }

    async fn answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                while self.buffer.len() < head.length + head.body {
                    self.fill().await?;
                }
                self.buffer.advance(head.length);
                let body = String::from_utf8_lossy(&self.buffer.split_to(head.body)).into_owned();
                return Ok(Answer { status: head.status, body });
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.buffer.len() > MAX_ANSWER || self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the answer broke off");
        }
        Ok(())
    }
}

struct Head {
    status: u16,
    /// Length of the head itself, in bytes.
    length: usize,
    /// Length of the body, in bytes.
    body: usize,
}

/// The head, once it is whole. Only bodies of a stated length are understood.
fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a head that is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body = length.map_or(Ok(0), |(_, value)| value.trim().parse()).context("a strange content-length")?;
    Ok(Some(Head { status: status.context("no status")?, length: end + 4, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-len").unwrap().is_none());
        let head = parse_head(b"HTTP/1.1 429 Too Many\r\nContent-Length: 12\r\n\r\nhello").unwrap().unwrap();
        assert_eq!((head.status, head.length, head.body), (429, 45, 12));
        let head = parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.body), (204, 0));
        assert!(parse_head(b"nonsense\r\n\r\n").is_err());
    }
}
