//! One socket of a recording client.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::event::End;

/// How long an upgrade may take, and one write. Whoever stands still longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the service may take to answer a close.
const GOODBYE: Duration = Duration::from_secs(3);

/// An open socket.
pub(super) struct Line {
    /// Which of its client's sockets it is.
    pub(super) number: u32,
    /// Where it goes.
    pub(super) node: SocketAddr,
    socket: WebSocketStream<TcpStream>,
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status; `None` without an answer.
    pub(super) status: Option<u16>,
    /// When to come back, if the answer says it.
    pub(super) retry_after: Option<Duration>,
}

impl Line {
    /// Opens a socket. Its drop resets it.
    pub(super) async fn dial(node: SocketAddr, token: &str, number: u32) -> Result<Self, Refusal> {
        let upgrade = tokio::time::timeout(PATIENCE, upgrade(node, token)).await;
        let socket = upgrade.unwrap_or(Err(Refusal { status: None, retry_after: None }))?;
        Ok(Self { number, node, socket })
    }

    /// The next text, or how the socket ended. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<String, End> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let _answer_to_the_close = tokio::time::timeout(GOODBYE, self.socket.flush()).await;
                    return Err(frame.map_or(End::NoCode, |frame| End::Code(frame.code.into())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(End::NoCode),
            }
        }
    }

    /// Writes texts at once. A failure shows at the next read.
    pub(super) async fn send(&mut self, texts: &[String]) {
        let write = async {
            for text in texts {
                self.socket.feed(Message::text(text.as_str())).await?;
            }
            self.socket.flush().await
        };
        let _broken = tokio::time::timeout(PATIENCE, write).await;
    }

    /// Closes properly.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame { code: 1000.into(), reason: "done".into() };
        let goodbye = async {
            let _already_closed = self.socket.close(Some(frame)).await;
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        let _late = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

async fn upgrade(node: SocketAddr, token: &str) -> Result<WebSocketStream<TcpStream>, Refusal> {
    let nobody = Refusal { status: None, retry_after: None };
    let url = format!("ws://{node}/ws?token={token}");
    let request = url.into_client_request().unwrap_or_else(|error| panic!("{error}"));
    let stream = connect(node).await.map_err(|_| nobody)?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let retry_after = header.and_then(|value| value.parse().ok()).map(Duration::from_secs);
            Err(Refusal { status: Some(answer.status().as_u16()), retry_after })
        }
        Err(_) => Err(nobody),
    }
}

async fn connect(node: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // No port stays behind that cannot be used for a minute, and a client that drops is gone at once.
    socket.set_zero_linger()?;
    let stream = socket.connect(node).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
