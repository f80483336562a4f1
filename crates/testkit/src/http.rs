//! A small HTTP client for tests: one request, one connection, no surprises.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{SocketOptions, dial_tcp};
use crate::in_time;
use crate::ring::Ring;

/// What a request was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, lower-cased names.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body, after the status was checked.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

/// A caller with a credential. Where there are several nodes, each call goes to the next.
#[derive(Debug, Clone)]
pub struct Api {
    nodes: Ring,
    headers: Vec<(String, String)>,
    from: Option<IpAddr>,
}

impl Api {
    /// A caller without one.
    pub fn new(nodes: impl Into<Ring>) -> Self {
        Self { nodes: nodes.into(), headers: vec![], from: None }
    }

    /// The same caller, from a local address.
    #[must_use]
    pub fn from(&self, address: impl Into<IpAddr>) -> Self {
        Self { from: Some(address.into()), ..self.clone() }
    }

    /// The same caller with a header more.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut api = self.clone();
        api.headers.push((name.to_owned(), value.to_owned()));
        api
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, Some(&body.to_string())).await
    }

    /// `POST` without a body, as the original clients do.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.request("POST", path, None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None).await
    }

    /// Any request. Panics when the connection fails: tests that expect that use sockets.
    pub async fn request(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let address = self.nodes.next();
        let mut head = vec![format!("{method} {path} HTTP/1.1"), format!("host: {address}")];
        if self.headers.iter().all(|(name, _)| name != "connection") {
            head.push("connection: close".to_owned());
        }
        head.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if body.is_some() {
            head.push("content-type: application/json".to_owned());
        }
        if method == "POST" || body.is_some() {
            head.push(format!("content-length: {}", body.map_or(0, str::len)));
        }
        let request = format!("{}\r\n\r\n{}", head.join("\r\n"), body.unwrap_or_default());
        parse(&exchange_from(address, self.from, request.as_bytes()).await)
    }
}

/// Sends bytes and reads all that comes until the other side closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    exchange_from(address, None, request).await
}

async fn exchange_from(address: SocketAddr, from: Option<IpAddr>, request: &[u8]) -> String {
    let mut stream = dial_tcp(address, SocketOptions { from, ..SocketOptions::default() }).await;
    let mut answer = vec![];
    let talk = async {
        // Whoever is refused early may find the connection closed under its hands; what was answered counts.
        let _closed_early = stream.write_all(request).await;
        let _reset = stream.read_to_end(&mut answer).await;
    };
    in_time("an answer", talk).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a whole HTTP/1.1 answer.
pub fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let text = if chunked { unchunk(body) } else { body.to_owned() };
    Answer { status, headers, text }
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        text += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}
