//! One command on one connection: enough to form a cluster and to look into it.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a command may take. A server on this machine answers at once or is paused.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest reply, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;
/// How deep lists may lie in lists.
const DEEPEST: usize = 8;

/// What a server answers, without errors: those are errors here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Number(i64),
    /// A status or a string; what is not UTF-8 with replacement characters.
    Text(String),
    /// Several.
    List(Vec<Reply>),
}

impl Reply {
    /// The number in it, also when it came as a text.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Nil | Self::List(_) => None,
        }
    }

    /// The text in it; empty for anything else.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Nil | Self::Number(_) | Self::List(_) => "",
        }
    }

    /// What is in the list; empty for anything else.
    pub fn list(&self) -> &[Reply] {
        match self {
            Self::List(list) => list,
            Self::Nil | Self::Number(_) | Self::Text(_) => &[],
        }
    }

    /// The value of a line `field:value` of the answer to `INFO` or `CLUSTER INFO`.
    pub fn field(&self, field: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(field)?.strip_prefix(':').map(str::len);
        let (line, length) = self.text().lines().find_map(|line| Some((line, value(line)?)))?;
        line.get(line.len() - length..)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("(nil)"),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(list) => list.iter().try_for_each(|item| writeln!(f, "{item}")),
        }
    }
}

/// Runs one command on a connection of its own.
pub(super) async fn command(at: SocketAddr, password: Option<&str>, arguments: &[&str]) -> Result<Reply> {
    let name = arguments.first().copied().unwrap_or_default();
    let answer = async {
        let mut connection = Connection { stream: TcpStream::connect(at).await?, received: vec![] };
        if let Some(password) = password {
            connection.ask(&["AUTH", password]).await?;
        }
        connection.ask(arguments).await
    };
    let answer = timeout(ANSWER, answer).await.context("no answer");
    answer.flatten().with_context(|| format!("{name} on Redis at {at}"))
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    async fn ask(&mut self, arguments: &[&str]) -> Result<Reply> {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            write!(request, "${}\r\n{argument}\r\n", argument.len())?;
        }
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some((reply, length)) = parse(&self.received, DEEPEST)? {
                self.received.drain(..length);
                return Ok(reply);
            }
            if self.received.len() > LARGEST {
                bail!("the reply is too large");
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the connection ended");
            }
        }
    }
}

/// A whole reply (RESP2) and its length, if it has arrived.
fn parse(bytes: &[u8], depth: usize) -> Result<Option<(Reply, usize)>> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(bytes.get(1..end).unwrap_or_default()).into_owned();
    let after = end + 2;
    match bytes.first() {
        Some(b'+') => Ok(Some((Reply::Text(line), after))),
        Some(b'-') => bail!("{line}"),
        Some(b':') => Ok(Some((Reply::Number(line.parse()?), after))),
        Some(b'$') => parse_string(bytes, after, &line),
        Some(b'*') if depth > 0 => parse_list(bytes, after, &line, depth - 1),
        _ => bail!("not a reply"),
    }
}

fn parse_string(bytes: &[u8], start: usize, length: &str) -> Result<Option<(Reply, usize)>> {
    if length == "-1" {
        return Ok(Some((Reply::Nil, start)));
    }
    let end = start + length.parse::<usize>()?.min(LARGEST);
    let Some(text) = bytes.get(start..end).filter(|_| bytes.len() >= end + 2) else { return Ok(None) };
    Ok(Some((Reply::Text(String::from_utf8_lossy(text).into_owned()), end + 2)))
}

fn parse_list(bytes: &[u8], start: usize, count: &str, depth: usize) -> Result<Option<(Reply, usize)>> {
    if count == "-1" {
        return Ok(Some((Reply::Nil, start)));
    }
    let (mut list, mut end) = (vec![], start);
    for _ in 0..count.parse::<usize>()? {
        let Some((reply, length)) = parse(bytes.get(end..).unwrap_or_default(), depth)? else {
            return Ok(None);
        };
        list.push(reply);
        end += length;
    }
    Ok(Some((Reply::List(list), end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expect: Option<Reply>) {
        let parsed = parse(given.as_bytes(), DEEPEST).unwrap();
        assert_eq!(parsed, expect.map(|reply| (reply, given.len())));
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let text = |text: &str| Reply::Text(text.to_owned());
        check("+OK\r\n", Some(text("OK")));
        check(":-7\r\n", Some(Reply::Number(-7)));
        check("$4\r\na\r\nb\r\n", Some(text("a\r\nb")));
        check("$-1\r\n", Some(Reply::Nil));
        check(
            "*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
            Some(Reply::List(vec![Reply::List(vec![Reply::Number(1)]), text("")])),
        );
        for cut in ["", "+OK", "$4\r\na\r\n", "$4\r\nabcd\r", "*2\r\n:1\r\n"] {
            check(cut, None);
        }
    }

    #[test]
    fn an_error_reply_is_an_error() {
        assert_eq!(parse(b"-ERR no\r\n", DEEPEST).unwrap_err().to_string(), "ERR no");
    }

    #[test]
    fn a_field_of_info_is_found() {
        let info = Reply::Text("# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n".to_owned());
        assert_eq!(info.field("redis_mode"), Some("cluster"));
        assert_eq!(info.field("redis"), None);
    }
}
