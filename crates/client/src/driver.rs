//! The task of a client: carries out what the session decides. It never waits for anything but news, so that whoever
//! asks it something is answered at once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::config::Config;
use crate::event::{Event, State, Stop};
use crate::limits;
use crate::link::{Dialer, Full, Told, Writer};
use crate::outcome::{Outcome, Reason, Refused};
use crate::session::{Effect, LinkId, Outgoing, Session, Settings};
use crate::token::{Token, TokenError};

/// Frames of all sockets that wait to be worked on.
const INCOMING: usize = 16;
/// More than a socket takes to end.
const ENDED_WITHIN: Duration = limits::FAREWELL.saturating_mul(3);

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

/// Runs a client to its end.
pub(crate) async fn run(
    config: Config,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    shared: watch::Sender<Shared>,
) {
    let settings =
        Settings { max_frame_bytes: config.max_frame_bytes, feedback_within: config.feedback_within };
    let mut session = Session::new(settings, Box::new(rand::random::<f64>));
    let dialer = Dialer::new(&config.socket_url, config.connector.clone());
    let (tell, told) = mpsc::channel(INCOMING);
    session.start(now());
    let mut driver = Driver {
        config,
        dialer,
        session,
        shared,
        outbox: VecDeque::new(),
        tasks: JoinSet::new(),
        writers: HashMap::new(),
        replies: HashMap::new(),
        sent: 0,
        tell,
        token: None,
    };
    if driver.dialer.is_none() {
        driver.session.stop(Stop::BadUrl);
    }
    driver.carry_out();
    driver.serve(&mut commands, told, &events).await;
    let ended = async { while driver.tasks.join_next().await.is_some() {} };
    _ = timeout(ENDED_WITHIN, ended).await;
    // From here on `close` does not wait any more, and the program may take its time to read the rest.
    drop((commands, driver.tasks));
    for event in driver.outbox {
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Tokio's clock, which tests can turn.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

struct Driver {
    config: Config,
    /// `None`: there is no address to dial.
    dialer: Option<Dialer>,
    session: Session,
    shared: watch::Sender<Shared>,
    /// Events for which the program has no room yet. While there are some, no frame is worked on; so they are those
    /// of one frame, and what the end of a socket or a token made of them.
    outbox: VecDeque<Event>,
    tasks: JoinSet<()>,
    /// Of the links that live.
    writers: HashMap<LinkId, Writer>,
    /// Who waits for an outcome, by the number of the message; not more than `limits::PENDING`.
    replies: HashMap<u64, oneshot::Sender<Outcome>>,
    sent: u64,
    tell: mpsc::Sender<(LinkId, Told)>,
    /// The answer to the one question for a token.
    token: Option<oneshot::Receiver<Result<Token, TokenError>>>,
}

impl Driver {
    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        mut told: mpsc::Receiver<(LinkId, Told)>,
        events: &mpsc::Sender<Event>,
    ) {
        while !self.session.is_over() {
            let is_free = self.outbox.is_empty();
            let due = if is_free { self.session.deadline() } else { self.session.patience() };
            tokio::select! {
                command = commands.recv() => self.on_command(command),
                Some((link, told)) = told.recv(), if is_free => self.on_told(link, told),
                asked = answer(&mut self.token) => {
                    self.token = None;
                    self.session.on_token(now(), asked);
                }
                permit = events.reserve(), if !is_free => match permit {
                    Ok(permit) => self.outbox.pop_front().map_or((), |event| permit.send(event)),
                    // A program may be interested in what it sends alone.
                    Err(_) => self.outbox.clear(),
                },
                () = until(due) => {
                    // What is missed may have come, and wait to be worked on.
                    if is_free && told.is_empty() {
                        self.session.on_time(now());
                    } else {
                        self.session.on_patience(now());
                    }
                }
                Some(_) = self.tasks.join_next() => {}
            }
            self.carry_out();
        }
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Send { kind, target, payload, reply }) => {
                self.send((&kind, &target, &payload), reply);
            }
            Some(Command::Post { kind, target, payload, reply }) => {
                let posted = self.session.post(&kind, &target, &payload);
                let written =
                    posted.and_then(|outgoing| self.write(outgoing).map_err(|Full| Refused::BufferFull));
                // Whoever does not wait for it does not need it.
                _ = reply.send(written);
            }
            Some(Command::Close) | None => self.session.stop(Stop::Closed),
        }
    }

    fn send(&mut self, message: (&str, &PeerId, &RawValue), reply: oneshot::Sender<Outcome>) {
        let number = self.sent;
        self.sent += 1;
        let outcome = match self.session.send(now(), number, message) {
            Ok((outgoing, outcome)) => {
                if self.write(outgoing).is_err() {
                    self.session.not_written(number);
                    Some(Outcome::Undeliverable(Reason::BufferFull))
                } else {
                    outcome
                }
            }
            Err(outcome) => Some(outcome),
        };
        match outcome {
            Some(outcome) => _ = reply.send(outcome),
            None => _ = self.replies.insert(number, reply),
        }
    }

    fn write(&self, Outgoing { link, text }: Outgoing) -> Result<(), Full> {
        self.writers.get(&link).ok_or(Full)?.write(text)
    }

    fn on_told(&mut self, link: LinkId, told: Told) {
        match told {
            Told::Open => self.session.on_open(now(), link),
            Told::Text(text) => self.session.on_frame(now(), link, text.as_str()),
            Told::End(end) => {
                self.writers.remove(&link);
                self.session.on_end(now(), link, &end);
            }
        }
    }

    fn carry_out(&mut self) {
        for effect in self.session.effects() {
            match effect {
                Effect::FetchToken => self.fetch_token(),
                Effect::Dial { link, token } => {
                    if let Some(dialer) = &self.dialer {
                        let (writer, task) = dialer.link(link, token, self.tell.clone());
                        self.writers.insert(link, writer);
                        self.tasks.spawn(task);
                    }
                }
                Effect::Write { link, text } => {
                    // Among a thousand frames that wait already, a registration has to do without: its deadline passes.
                    _ = self.write(Outgoing { link, text });
                }
                Effect::HangUp { link, code } => {
                    if let Some(writer) = self.writers.remove(&link) {
                        writer.hang_up(code);
                    }
                }
                Effect::Emit(event) => self.outbox.push_back(event),
                Effect::Settle { number, outcome } => {
                    if let Some(reply) = self.replies.remove(&number) {
                        // Whoever has gone does not need it.
                        _ = reply.send(outcome);
                    }
                }
            }
        }
        self.share();
    }

    /// Lets handles see what has changed.
    fn share(&mut self) {
        let (me, state) = (self.session.me(), self.session.state());
        self.shared.send_if_modified(|shared| {
            let is_other = shared.me.as_ref() != me || shared.state != *state;
            if is_other {
                *shared = Shared { me: me.cloned(), state: state.clone() };
            }
            is_other
        });
    }

    fn fetch_token(&mut self) {
        let tokens = self.config.tokens.clone();
        let (tell, token) = oneshot::channel();
        self.token = Some(token);
        self.tasks.spawn(async move {
            let asked = timeout(limits::EXCHANGE, tokens.token()).await;
            // Fails when the client has ended.
            _ = tell.send(asked.unwrap_or_else(|_| Err(no_answer())));
        });
    }
}

fn no_answer() -> TokenError {
    TokenError::Unavailable { retry_after: None, message: "no answer in time".to_owned() }
}

/// The answer to the question for a token; never, if there is none.
async fn answer(
    question: &mut Option<oneshot::Receiver<Result<Token, TokenError>>>,
) -> Result<Token, TokenError> {
    match question {
        // Without an answer, whoever was asked has panicked.
        Some(question) => question.await.unwrap_or_else(|_| Err(no_answer())),
        None => std::future::pending().await,
    }
}

/// At this time; never, if there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
