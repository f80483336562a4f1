//! A client of the mesh dialect, as bare as a test needs it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::PATIENCE;

/// All capabilities that a client may ask for.
pub const ALL: [&str; 6] = ["events", "feedback", "resume", "roles", "ice", "goaway"];

/// How a socket ended: the close code, or `None` without a close frame.
pub type Closed = Option<u16>;

/// A socket that is about to be opened.
#[derive(Debug, Clone)]
pub struct Dial {
    address: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    socket: SocketOptions,
}

/// What a test may want of a TCP connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SocketOptions {
    /// A local address of its own.
    pub(crate) from: Option<IpAddr>,
    /// Bytes that the kernel takes for it.
    pub(crate) receive_buffer: Option<u32>,
    /// A drop resets it.
    pub(crate) reset: bool,
}

impl Dial {
    /// To `/ws` of a node, without a credential.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, path: "/ws".to_owned(), headers: vec![], socket: SocketOptions::default() }
    }

    /// With a token in the query, as the original does.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.path(&format!("/ws?token={token}"))
    }

    /// To another path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// From a local address.
    #[must_use]
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.socket.from = Some(address.into());
        self
    }

    /// With a receive buffer of so many bytes in the kernel.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.socket.receive_buffer = Some(bytes);
        self
    }

    /// So that a drop resets the connection: it leaves no port behind that cannot be used for a minute.
    #[must_use]
    pub fn reset_on_drop(mut self) -> Self {
        self.socket.reset = true;
        self
    }

    /// Opens it as `id`; the HTTP status if it is refused.
    pub async fn open(self, id: &str) -> Result<MeshClient, u16> {
        let url = format!("ws://{}{}", self.address, self.path);
        let mut request = url.into_client_request().unwrap_or_else(|error| panic!("{error}"));
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap_or_else(|_| panic!("{name}"));
            request.headers_mut().append(name, value.parse().unwrap_or_else(|_| panic!("{value}")));
        }
        let stream = dial_tcp(self.address, self.socket).await;
        let upgrade = tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        match upgrade.unwrap_or_else(|_| panic!("{id}: not upgraded within {PATIENCE:?}")) {
            Ok((socket, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
                Ok(MeshClient { socket, id: id.to_owned(), protocol })
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{id}: {error}"),
        }
    }
}

/// A TCP connection.
pub(crate) async fn dial_tcp(to: SocketAddr, options: SocketOptions) -> TcpStream {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(from) = options.from {
            socket.bind((from, 0).into())?;
        }
        if options.reset {
            socket.set_zero_linger()?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        std::io::Result::Ok(stream)
    };
    connect.await.unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// A socket and who it is.
pub struct MeshClient {
    socket: WebSocketStream<TcpStream>,
    /// The identity that it claims.
    pub id: String,
    /// The subprotocol that was agreed on.
    pub protocol: Option<String>,
}

impl MeshClient {
    /// Sends a frame of any content.
    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap_or_else(|error| panic!("{}: {error}", self.id));
    }

    /// Sends a text frame; whether the connection still took it.
    pub async fn try_send(&mut self, text: &str) -> bool {
        self.socket.send(Message::text(text)).await.is_ok()
    }

    /// Puts a text frame into the buffer, to be sent with the next one.
    pub async fn feed(&mut self, text: &str) {
        self.socket.feed(Message::text(text)).await.unwrap_or_else(|error| panic!("{}: {error}", self.id));
    }

    /// Sends a text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send_raw(Message::text(text)).await;
    }

    /// Sends a message in this client's name.
    pub async fn send(&mut self, kind: &str, target: Option<&str>, payload: Value) {
        let mut envelope = json!({ "type": kind, "peer_id": self.id, "payload": payload });
        if let Some(target) = target {
            envelope["target_id"] = json!(target);
        }
        self.send_text(&envelope.to_string()).await;
    }

    /// Sends a message that asks for feedback.
    pub async fn send_with_id(&mut self, kind: &str, target: &str, payload: Value, id: &str) {
        let envelope =
            json!({ "type": kind, "peer_id": self.id, "target_id": target, "payload": payload, "id": id });
        self.send_text(&envelope.to_string()).await;
    }

    /// Registers as the original does; answers the first list.
    pub async fn register(&mut self) -> Vec<String> {
        self.send("register", None, Value::Null).await;
        peers(&self.expect("peer_list").await)
    }

    /// Registers with capabilities; answers the payload of the first list.
    pub async fn register_with(&mut self, capabilities: &[&str]) -> Value {
        self.send("register", None, json!({ "version": 1, "capabilities": capabilities })).await;
        self.expect("peer_list").await["payload"].clone()
    }

    /// The next message, or how the socket ended.
    pub async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .unwrap_or_else(|_| panic!("{}: nothing within {PATIENCE:?}", self.id));
            match frame {
                Some(Ok(Message::Text(text))) => {
                    return Ok(
                        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", self.id))
                    );
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next text frame as it is.
    pub async fn next_text(&mut self) -> String {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => return text.to_string(),
                Ok(Some(Ok(_))) => {}
                other => panic!("{}: a text frame expected, not {other:?}", self.id),
            }
        }
    }

    /// The next message, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        match self.next().await {
            Ok(message) if message["type"] == kind => message,
            other => panic!("{}: {kind} expected, not {other:?}", self.id),
        }
    }

    /// The messages up to the first of this type, that one included.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = vec![];
        loop {
            let message = self.next().await.unwrap_or_else(|end| panic!("{}: {kind}, not {end:?}", self.id));
            let last = message["type"] == kind;
            seen.push(message);
            if last {
                return seen;
            }
        }
    }

    /// What came before now. The answer to a ping may overtake what waits to be written at that moment, but not
    /// twice in a row: by the second one it has been written.
    pub async fn so_far(&mut self) -> Vec<Value> {
        let mut seen = vec![];
        for round in 0..2 {
            self.send("ping", None, json!({ "so_far": round })).await;
            seen.extend(self.until("pong").await);
            seen.pop();
        }
        seen
    }

    /// Waits until the server has pinged so often (WebSocket pings; they are answered).
    pub async fn pinged(&mut self, times: usize) {
        let mut seen = 0;
        while seen < times {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await {
                Ok(Some(Ok(Message::Ping(_)))) => seen += 1,
                Ok(Some(Ok(Message::Text(_) | Message::Pong(_)))) => {}
                other => panic!("{}: a ping expected, not {other:?}", self.id),
            }
        }
        self.socket.flush().await.unwrap_or_else(|error| panic!("{}: {error}", self.id));
    }

    /// Skips messages until one of this type comes.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Ok(message) if message["type"] == kind => return message,
                Ok(_) => {}
                Err(closed) => panic!("{}: {kind} expected, but closed with {closed:?}", self.id),
            }
        }
    }

    /// Reads to the end of the socket.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// Proves that nothing came before now.
    pub async fn expect_silence(&mut self) {
        let seen = self.so_far().await;
        assert!(seen.is_empty(), "{}: not silent: {seen:?}", self.id);
    }

    /// Whether anything comes within `time`. For waiting out what should not happen only.
    pub async fn anything_within(&mut self, time: Duration) -> Option<Value> {
        tokio::time::timeout(time, self.next()).await.ok().and_then(Result::ok)
    }

    /// Closes properly.
    pub async fn close(mut self) {
        let _already_closed = self.socket.close(None).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// The ids of a `peer_list`, sorted.
pub fn peers(list: &Value) -> Vec<String> {
    let payload = if list["payload"].is_object() { &list["payload"] } else { list };
    let ids = payload["peers"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<String> = ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    ids.sort();
    ids
}
