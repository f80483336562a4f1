//! Frames onto the socket: written whole, and nothing after the lease has run out.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use heliograph_core::close::CloseCode;
use heliograph_core::message::ServerMessage;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, FrameHeader};

use super::Connection;
use super::ending::End;
use crate::gateway::Gateway;

/// How long the closing handshake may take, and how much of what the client still sends is swallowed meanwhile, so
/// that it reads our close frame and not a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// The longest header of a server frame: opcode, length mark, 64-bit length (RFC 6455 §5.2).
const MAX_HEADER: usize = 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) async fn send(&mut self, messages: &[ServerMessage]) -> Result<(), End> {
        let mut frames = vec![];
        for message in messages {
            self.encode(message, &mut frames);
        }
        self.write(frames).await
    }

    /// Appends a message as a whole text frame.
    pub(super) fn encode(&self, message: &ServerMessage, frames: &mut Vec<u8>) {
        // The header's length depends on the text's, so room for the longest is left and the rest closed up: for
        // the usual sizes a move of a few hundred bytes, cheaper than a second buffer.
        let start = frames.len();
        frames.extend_from_slice(&[0; MAX_HEADER]);
        self.handle.dialect.encode(message, &self.handle.peer.id, frames);
        let length = frames.len() - start - MAX_HEADER;
        if length == 0 {
            frames.truncate(start); // the dialect has no words for it
            return;
        }
        let mut header = vec![];
        append_frame(&mut header, OpCode::Data(Data::Text), length);
        let gap = start + MAX_HEADER - header.len();
        frames[gap..gap + header.len()].copy_from_slice(&header);
        frames.drain(start..gap);
    }

    /// Writes whole frames past the library, after whatever it still had to write itself (a pong). Nothing is kept
    /// for the next turn, so an idle socket holds no write buffer, however long the lists were that it once got.
    pub(super) async fn write(&mut self, frames: Vec<u8>) -> Result<(), End> {
        self.write_while(frames, |_| true).await
    }

    /// As [`Self::write`], for messages of others: the lease is looked at again before each part is written. A process may
    /// stand still between check and write, and a socket in the middle of a turn; what was checked under a lease that has
    /// run out meanwhile is not written any more (DESIGN G8).
    pub(super) async fn write_checked(&mut self, frames: Vec<u8>) -> Result<(), End> {
        self.write_while(frames, |gateway| gateway.authority.is_current(Instant::now())).await
    }

    pub(super) async fn write_while(
        &mut self,
        frames: Vec<u8>,
        may: impl Fn(&Gateway) -> bool,
    ) -> Result<(), End> {
        let Self { socket, handle, gateway, .. } = self;
        let write = async {
            socket.flush().await.map_err(|_| End::Lost)?;
            let mut rest = &frames[..];
            while !rest.is_empty() {
                let part = std::future::poll_fn(|context| {
                    if !may(gateway) {
                        return Poll::Ready(Err(End::Stalled));
                    }
                    let written = Pin::new(socket.get_mut()).poll_write(context, rest);
                    written.map_err(|_| End::Lost)
                });
                match part.await? {
                    0 => return Err(End::Lost),
                    written => rest = &rest[written..],
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            written = write => written,
            // Cut off perhaps in the middle of a frame: nothing more can be said on this socket.
            () = handle.outbox.aborted() => Err(End::Stalled),
        }
    }
}

/// Appends the header of an unmasked, final frame.
pub(super) fn append_frame(out: &mut Vec<u8>, opcode: OpCode, length: usize) {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let written = header.format(length as u64, out);
    debug_assert!(written.is_ok(), "writing to a vector cannot fail");
}

/// Sends a close frame and gives the client a moment to take it.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    code: CloseCode,
) {
    let frame = CloseFrame { code: code.code().into(), reason: code.reason().into() };
    let sent = tokio::time::timeout(LINGER, socket.send(Message::Close(Some(frame)))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return;
    }
    let mut stream = socket.into_inner();
    let end = async {
        let _already_shut = stream.shutdown().await;
        swallow(&mut stream).await;
    };
    let _stood_still = tokio::time::timeout(LINGER, end).await;
}

/// Reads until the client closes, so that the kernel does not answer its last bytes with a reset, which would
/// take our close frame with it.
async fn swallow<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = vec![0; 16 * 1024];
    let mut total = 0;
    while total < LINGER_BYTES {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => total += count,
        }
    }
}

/// With which code a socket is closed on which the library found `error`; `None` where the connection broke and nobody
/// reads what we would answer.
pub(crate) fn close_code_of(error: &WsError) -> Option<CloseCode> {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::TooLarge),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) | WsError::Utf8(_) | WsError::Capacity(_) => Some(CloseCode::ProtocolError),
        _ => None,
    }
}
