//! The task behind a peer.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use heliograph_client::{Outcome, Unknown};
use heliograph_core::id::PeerId;
use rand::RngExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::live::{Happening, Live, Side};
use super::sending::Sending;
use super::{FromPeer, Open, Shared, Signal, Signaler, ToPeer};
use crate::negotiation::{Action, Ended, Input, Negotiation, Timer, Wait};
use crate::rtc::{ChannelEvent, Event, Kind, Pair, Refused, Settings, State};

/// Events that wait to be taken before this stops listening to anything but the order to end. Messages wait one at a time;
/// the others come in twos at most.
const OUTBOX: usize = 16;

/// One counterpart's task.
pub(super) struct Task {
    id: PeerId,
    settings: Settings,
    signaler: Arc<dyn Signaler>,
    events: mpsc::Sender<(PeerId, FromPeer)>,
    shared: Arc<Shared>,
    machine: Negotiation,
    live: Option<Live>,
    state: Option<State>,
    pair: Option<Pair>,
    ended: Option<Ended>,
    timers: Vec<(Timer, Instant)>,
    sending: Sending,
    outbox: VecDeque<FromPeer>,
}

/// What the loop wakes up for.
enum Wake {
    Word(ToPeer),
    Sent(Option<u64>, Outcome),
    Elapsed(Timer),
    Happened(Happening),
    Taken,
    Gone,
}

impl Task {
    pub(super) fn new(
        me: &PeerId,
        id: PeerId,
        settings: Settings,
        signaler: Arc<dyn Signaler>,
        events: mpsc::Sender<(PeerId, FromPeer)>,
        shared: Arc<Shared>,
    ) -> Self {
        let machine = Negotiation::new(me, &id);
        Self {
            id,
            settings,
            signaler,
            events,
            shared,
            machine,
            live: None,
            state: None,
            pair: None,
            ended: None,
            timers: vec![],
            sending: Sending::default(),
            outbox: VecDeque::new(),
        }
    }

    /// Runs until the handle is dropped, or nobody takes the events.
    pub(super) async fn run(mut self, end: CancellationToken) {
        loop {
            let wake = tokio::select! {
                () = end.cancelled() => Wake::Gone,
                wake = self.wake() => wake,
            };
            if matches!(wake, Wake::Gone) {
                break;
            }
            self.handle(wake).await;
            self.publish();
        }
        self.shared.set_open(None);
        if let Some(live) = self.live.take() {
            live.close().await;
        }
    }

    async fn wake(&mut self) -> Wake {
        let Self { shared, sending, timers, live, outbox, events, .. } = self;
        let (read, listen) = (outbox.is_empty(), outbox.len() < OUTBOX);
        tokio::select! {
            permit = events.reserve(), if !read => match (permit, outbox.pop_front()) {
                (Ok(permit), Some(event)) => {
                    permit.send((self.id.clone(), event));
                    Wake::Taken
                }
                _ => Wake::Gone,
            },
            word = shared.inbox.next(), if listen => Wake::Word(word),
            (description, outcome) = sending.next(), if listen => Wake::Sent(description, outcome),
            timer = elapsed(timers), if listen => Wake::Elapsed(timer),
            happening = happening(live.as_mut(), read), if listen => Wake::Happened(happening),
        }
    }

    async fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Word(word) => self.word(word).await,
            Wake::Sent(description, outcome) => self.act(sent(description, outcome)).await,
            Wake::Elapsed(timer) => {
                self.timers.retain(|(other, _)| *other != timer);
                self.act(Some(Input::Elapsed(timer))).await;
            }
            Wake::Happened(Happening::Connection(event)) => self.connection(event).await,
            Wake::Happened(Happening::Channel(side, event)) => self.channel(side, event).await,
            Wake::Taken | Wake::Gone => {}
        }
    }

    async fn word(&mut self, word: ToPeer) {
        let input = match word {
            ToPeer::Connect => Input::Connect,
            ToPeer::Signal(Signal::Offer(sdp)) => Input::Offer(sdp.into()),
            ToPeer::Signal(Signal::Answer(sdp)) => Input::Answer(sdp.into()),
            ToPeer::Signal(Signal::Candidate(candidate)) => Input::Candidate(candidate),
            ToPeer::Present(present) => Input::Present(present),
            ToPeer::Role(role) => Input::Role(role),
            ToPeer::SignalingBack => Input::SignalingBack,
            ToPeer::SignalsMayBeLost => Input::SignalsMayBeLost,
            ToPeer::Close(ended) => Input::Close(ended),
            ToPeer::Configure(servers) => {
                if let Some(live) = &self.live {
                    live.connection.configure(servers.clone());
                }
                self.settings.ice_servers = servers;
                return;
            }
        };
        self.act(Some(input)).await;
    }

    async fn connection(&mut self, event: Event) {
        match event {
            Event::Candidate(candidate) => {
                let outcome = self.signal(None, Signal::Candidate(candidate)).await;
                self.act(outcome.and_then(|outcome| sent(None, outcome))).await;
            }
            Event::State(state) => {
                tracing::debug!(peer = %self.id, state = state.as_str(), "the connection changed");
                self.state = Some(state);
                self.pair = match &self.live {
                    Some(live) if state == State::Connected => live.connection.pair().await,
                    _ => None,
                };
                self.act(Some(Input::State(state))).await;
            }
            Event::Channel(channel) => {
                let Some(live) = &mut self.live else { return };
                if !live.adopt(channel.clone()) {
                    channel.close().await;
                }
            }
        }
    }

    async fn channel(&mut self, side: Side, event: ChannelEvent) {
        let polite = self.machine.polite();
        let Some(live) = &mut self.live else { return };
        match event {
            ChannelEvent::Opened => {
                live.opened(side);
                self.use_channel().await;
            }
            ChannelEvent::Text(text) => {
                self.shared.received.fetch_add(text.len() as u64, Ordering::Relaxed);
                if is_message(&text) {
                    self.outbox.push_back(FromPeer::Message(text));
                } else {
                    tracing::debug!(peer = %self.id, bytes = text.len(), "a text that is no message was dropped");
                }
            }
            ChannelEvent::Closed => {
                if live.closed(side, polite) {
                    self.act(Some(Input::ChannelClosed)).await;
                }
            }
        }
    }

    /// Offers the channel for sending, once it can be used.
    async fn use_channel(&mut self) {
        let Some(live) = &mut self.live else { return };
        let Some(channel) = live.chosen(self.machine.polite()) else { return };
        let limit = live.connection.message_limit().await;
        self.shared.set_open(Some(Open { channel, limit }));
        if !std::mem::replace(&mut live.announced, true) {
            tracing::debug!(peer = %self.id, "the channel is open");
            self.outbox.push_back(FromPeer::Opened);
        }
    }

    /// Tells the negotiation, and does what it says.
    async fn act(&mut self, input: Option<Input>) {
        let mut inputs: VecDeque<Input> = input.into_iter().collect();
        while let Some(input) = inputs.pop_front() {
            for action in self.machine.on(input) {
                if let Err(refused) = self.perform(action, &mut inputs).await {
                    tracing::debug!(peer = %self.id, error = %refused, "the negotiation failed");
                    inputs.push_back(Input::Failed);
                    break;
                }
            }
        }
    }

    async fn perform(&mut self, action: Action, inputs: &mut VecDeque<Input>) -> Result<(), Refused> {
        match action {
            Action::Open => {
                if self.shut().await {
                    self.outbox.push_back(FromPeer::Closed(Ended::Closed));
                }
                self.live = Some(Live::open(&self.settings).await?);
                self.state = Some(State::New);
            }
            Action::Shut(ended) => {
                self.shut().await;
                self.ended = Some(ended);
                tracing::debug!(peer = %self.id, ended = ended.as_str(), "the connection is over");
                self.outbox.push_back(FromPeer::Closed(ended));
            }
            Action::Start(timer, wait) => {
                self.timers.retain(|(other, _)| *other != timer);
                self.timers.push((timer, Instant::now() + any_of(wait)));
            }
            Action::Stop(timer) => self.timers.retain(|(other, _)| *other != timer),
            Action::Send { description } => {
                let Some(live) = &self.live else { return Ok(()) };
                let Some((kind, sdp)) = live.connection.description().await else { return Ok(()) };
                let signal = if kind == Kind::Offer { Signal::Offer(sdp) } else { Signal::Answer(sdp) };
                let outcome = self.signal(Some(description), signal).await;
                inputs.extend(outcome.and_then(|outcome| sent(Some(description), outcome)));
            }
            step => self.step(step).await?,
        }
        Ok(())
    }

    /// A step on the connection itself.
    async fn step(&mut self, step: Action) -> Result<(), Refused> {
        let Some(live) = &mut self.live else { return Ok(()) };
        match step {
            Action::CreateChannel => live.create_channel().await?,
            Action::Offer { restart } => drop(live.connection.offer(restart).await?),
            Action::RollBack => live.connection.roll_back().await?,
            Action::TakeOffer(sdp) => live.connection.take_offer(&sdp.0).await?,
            Action::Answer => drop(live.connection.answer().await?),
            Action::TakeAnswer(sdp) => live.connection.take_answer(&sdp.0).await?,
            Action::Add(candidate) => {
                // One of an offer that was not taken fits nothing; that is expected.
                let added = live.connection.add(&candidate).await;
                self.note(added);
            }
            Action::Open | Action::Shut(_) | Action::Start(..) | Action::Stop(_) | Action::Send { .. } => {}
        }
        Ok(())
    }

    /// Closes the connection; whether its opening was told.
    async fn shut(&mut self) -> bool {
        self.state = None;
        self.pair = None;
        self.shared.set_open(None);
        let Some(live) = self.live.take() else { return false };
        let announced = live.announced;
        live.close().await;
        announced
    }

    async fn signal(&mut self, description: Option<u64>, signal: Signal) -> Option<Outcome> {
        let (signaler, id) = (self.signaler.clone(), self.id.clone());
        self.sending.send(description, Box::pin(async move { signaler.signal(&id, signal).await })).await
    }

    fn note(&self, done: Result<(), Refused>) {
        if let Err(refused) = done {
            tracing::debug!(peer = %self.id, error = %refused, "passed over");
        }
    }

    fn publish(&self) {
        let mut snapshot = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.state = self.state;
        snapshot.open = self.live.as_ref().is_some_and(|live| live.announced);
        snapshot.pair.clone_from(&self.pair);
        snapshot.ended = self.ended;
    }
}

/// What an outcome means for the negotiation.
pub(super) fn sent(description: Option<u64>, outcome: Outcome) -> Option<Input> {
    match (description, outcome) {
        (Some(description), outcome) => Some(Input::Sent { description, outcome }),
        (None, Outcome::Undeliverable(_) | Outcome::Unknown(Unknown::ConnectionLost)) => {
            Some(Input::SignalsMayBeLost)
        }
        (None, _) => None,
    }
}

/// Whether a text is a message of the mesh: an object with a `type`.
fn is_message(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        _kind: String,
    }
    text.trim_ascii_start().starts_with('{') && serde_json::from_str::<Typed>(text).is_ok()
}

fn any_of(wait: Wait) -> std::time::Duration {
    if wait.most > wait.least { rand::rng().random_range(wait.least..wait.most) } else { wait.least }
}

async fn elapsed(timers: &[(Timer, Instant)]) -> Timer {
    match timers.iter().min_by_key(|(_, at)| *at) {
        Some(&(timer, at)) => {
            sleep_until(at).await;
            timer
        }
        None => pending().await,
    }
}

async fn happening(live: Option<&mut Live>, read: bool) -> Happening {
    match live {
        Some(live) => live.next(read).await,
        None => pending().await,
    }
}
