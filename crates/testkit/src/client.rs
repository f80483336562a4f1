//! A client of the mesh dialect, as bare as a test needs it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::PATIENCE;

/// All capabilities that a client may ask for.
pub const ALL: [&str; 6] = ["events", "feedback", "resume", "roles", "ice", "goaway"];

/// How a socket ended: the close code, or `None` without a close frame.
pub type Closed = Option<u16>;

/// A socket and who it is.
pub struct MeshClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The identity that it claims.
    pub id: String,
}

impl MeshClient {
    /// Opens `/ws?token=`; the HTTP status if it is refused.
    pub async fn connect(address: SocketAddr, id: &str, token: &str) -> Result<Self, u16> {
        Self::upgrade(address, id, &format!("/ws?token={token}"), &[]).await
    }

    /// Opens any path with any headers; the HTTP status if it is refused.
    pub async fn upgrade(address: SocketAddr, id: &str, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap_or_else(|e| panic!("{e}"));
        for (name, value) in headers {
            let name: tokio_tungstenite::tungstenite::http::HeaderName = name.parse().unwrap_or_else(|_| panic!("{name}"));
            request.headers_mut().insert(name, value.parse().unwrap_or_else(|_| panic!("{value}")));
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self { socket, id: id.to_owned() }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{id}: {error}"),
        }
    }

    /// Sends a frame of any content.
    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap_or_else(|error| panic!("{}: {error}", self.id));
    }

    /// Sends a text frame; whether the connection still took it.
    pub async fn try_send(&mut self, text: &str) -> bool {
        self.socket.send(Message::text(text)).await.is_ok()
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
        let envelope = json!({ "type": kind, "peer_id": self.id, "target_id": target, "payload": payload, "id": id });
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
                    return Ok(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", self.id)));
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

    /// Proves that nothing came before now: a ping's answer is the next message.
    pub async fn expect_silence(&mut self) {
        self.send("ping", None, json!({ "silence": true })).await;
        let answer = self.next().await;
        assert!(matches!(&answer, Ok(message) if message["type"] == "pong"), "{}: not silent: {answer:?}", self.id);
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
