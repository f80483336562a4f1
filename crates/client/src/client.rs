//! The handle that programs hold.

use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::driver::{self, Command, Shared};
use crate::event::{Event, State};
use crate::limits;
use crate::outcome::{Outcome, Reason, Refused, Unknown};

/// Commands that wait for the client's task, which never makes them wait long.
const COMMANDS: usize = 64;

/// A client of the mesh dialect. Clones are handles of the same one; it ends when the last of them and the
/// [`Events`] are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: watch::Receiver<Shared>,
}

/// What a client hears, in order. Where the program does not read them, the socket is not read either, and the
/// service closes it in the end.
///
/// Do not await [`Client::send`] in the loop that reads them: its outcome comes behind the events that wait.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    // A program that only listens may drop its handle.
    _client: mpsc::Sender<Command>,
}

impl Events {
    /// The next one; `None` after [`State::Stopped`].
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Client {
    /// Starts a client on the current tokio runtime. Never fails: what cannot be reached is tried again, and what is
    /// refused for good is [`State::Stopped`].
    pub fn start(config: Config) -> (Self, Events) {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (tell, events) = mpsc::channel(limits::EVENTS);
        let (share, shared) = watch::channel(Shared::default());
        tokio::spawn(driver::run(config, asked, tell, share));
        (Self { commands: commands.clone(), shared }, Events { events, _client: commands })
    }

    /// Who we are; known after the first token.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.shared.borrow().me.clone()
    }

    /// How it stands with the service.
    pub fn state(&self) -> State {
        self.shared.borrow().state.clone()
    }

    /// Sends a message to one peer and waits for what became of it, for
    /// [`Config::feedback_within`](crate::Config::feedback_within) at most.
    ///
    /// `kind` is `offer`, `answer`, `ice_candidate` or a type of the application's own. Messages of one client to one
    /// target arrive in the order in which they were sent. Of a message that is reported
    /// [`Undeliverable`](Outcome::Undeliverable) or [`Unknown`](Outcome::Unknown) and sent again, both may arrive.
    pub async fn send(&self, kind: &str, target: &PeerId, payload: &RawValue) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Send {
            kind: kind.to_owned(),
            target: target.clone(),
            payload: payload.to_owned(),
            reply,
        };
        if self.commands.send(command).await.is_err() {
            return Outcome::Undeliverable(Reason::Offline);
        }
        outcome.await.unwrap_or(Outcome::Unknown(Unknown::ConnectionLost))
    }

    /// Sends a message to one peer; nobody waits for an outcome. Written in one order with those that are sent. If it
    /// cannot be delivered, [`Event::Undeliverable`] says so where the service grants feedback.
    pub async fn post(&self, kind: &str, target: &PeerId, payload: &RawValue) -> Result<(), Refused> {
        let (reply, written) = oneshot::channel();
        let command = Command::Post {
            kind: kind.to_owned(),
            target: target.clone(),
            payload: payload.to_owned(),
            reply,
        };
        self.commands.send(command).await.map_err(|_| Refused::Offline)?;
        written.await.unwrap_or(Err(Refused::Offline))
    }

    /// Ends the session, so that the others hear at once that we left, and waits until it is over, some seconds at most.
    pub async fn close(&self) {
        // Both fail only when it is over already.
        let _ended = self.commands.send(Command::Close).await;
        self.commands.closed().await;
    }
}
