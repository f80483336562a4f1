//! The channel of the mesh: texts, in order, all of them.

use std::sync::Arc;

use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::Refused;

/// The largest message that this side takes: what the library allows for itself and what others that are not browsers do.
/// The library keeps some five hundred for a reader that does not come, then the other side is slowed down.
pub(crate) const MESSAGE_BYTES: usize = 65_536;

/// One channel; clones are the same one.
#[derive(Clone)]
pub(crate) struct Channel(Arc<dyn DataChannel>);

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({})", self.0.id())
    }
}

/// What a channel says of itself.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    /// Texts can be sent.
    Opened,
    /// A text of the other side.
    Text(String),
    /// It is over, by whichever side.
    Closed,
}

impl Channel {
    pub(super) fn new(inner: Arc<dyn DataChannel>) -> Self {
        Self(inner)
    }

    /// The next event; waits without end. Dropping the future loses nothing. Not reading slows the other side down.
    pub(crate) async fn next(&self) -> ChannelEvent {
        loop {
            match self.0.poll().await {
                Some(DataChannelEvent::OnOpen) => return ChannelEvent::Opened,
                Some(DataChannelEvent::OnMessage(message)) => {
                    if !message.is_string {
                        tracing::debug!("a binary message was dropped");
                        continue;
                    }
                    if let Ok(text) = String::from_utf8(message.data.to_vec()) {
                        return ChannelEvent::Text(text);
                    }
                }
                Some(DataChannelEvent::OnClose | DataChannelEvent::OnClosing) | None => {
                    return ChannelEvent::Closed;
                }
                Some(_) => {}
            }
        }
    }

    /// Waits until there is room for a text; `Err` if there will be none, because the channel has closed.
    pub(crate) async fn writable(&self) -> Result<(), Refused> {
        self.0.writable().await.map_err(|_| Refused("send"))
    }

    /// Sends a text. Waits while there is no room; does not wait for it to arrive.
    pub(crate) async fn send(&self, text: &str) -> Result<(), Refused> {
        self.0.send_text(text).await.map_err(|_| Refused("send"))
    }

    /// Says goodbye to the other side.
    pub(crate) async fn close(&self) {
        // Closed already is as good.
        let _closed = self.0.close().await;
    }
}
