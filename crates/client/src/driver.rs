//! The task of a client.

use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::event::{Event, State};
use crate::outcome::{Outcome, Refused};

/// What handles ask for.
pub(crate) enum Command {
    Send { kind: String, target: PeerId, payload: Box<RawValue>, reply: oneshot::Sender<Outcome> },
    Post { kind: String, target: PeerId, payload: Box<RawValue>, reply: oneshot::Sender<Result<(), Refused>> },
    Close,
}

/// What handles see without asking.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: Option<PeerId>,
    pub(crate) state: State,
}

impl Default for Shared {
    fn default() -> Self {
        Self { me: None, state: State::Connecting }
    }
}

pub(crate) async fn run(
    _config: Config,
    mut commands: mpsc::Receiver<Command>,
    _events: mpsc::Sender<Event>,
    _shared: watch::Sender<Shared>,
) {
    while commands.recv().await.is_some() {}
}
