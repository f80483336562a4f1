//! What a client does next: decided without I/O, clock or chance of its own. Frames, ends and time come in, effects go
//! out, and the driver carries them out.
//!
//! At most three sockets (*links*) live at once. One is being *dialed*: it becomes the *current* one with its first
//! word about our session. The one that was current before a move is the *former*, read until the service closes it.

mod incoming;
mod links;
mod outgoing;

pub(crate) use outgoing::Outgoing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_auth::secret::Secret;
use heliograph_core::id::PeerId;

use crate::backoff;
use crate::event::{Event, State, Stop};
use crate::limits;
use crate::outcome::{Outcome, Unknown};
use crate::pending::Pending;
use crate::token::{Token, TokenError};

/// Our word for "this has taken too long". Anything but a farewell, with which the service would end the session.
const GIVEN_UP: u16 = 4408;
/// A farewell.
const BYE: u16 = 1000;

/// A socket, counted from the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(u64);

/// What the driver has to do.
pub(crate) enum Effect {
    /// Ask for a token and say what came of it.
    FetchToken,
    /// Open a socket and say how that went.
    Dial { link: LinkId, token: Arc<Secret> },
    /// Write to an open socket.
    Write { link: LinkId, text: String },
    /// Close a socket, or give up opening it, and say nothing more of it.
    HangUp { link: LinkId, code: u16 },
    /// Tell the program.
    Emit(Event),
    /// Answer who waits for the outcome of this message.
    Settle { number: u64, outcome: Outcome },
}

/// One socket.
struct Link {
    id: LinkId,
    stage: Stage,
    /// Since when it is the session's.
    since: Instant,
    /// Until when something has to happen: the upgrade and the list; of the former, the end.
    deadline: Option<Instant>,
    /// When to ask for the list once more.
    ask_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for a token.
    Token,
    /// Is being opened.
    Connecting,
    /// Has registered,
    Registered,
    /// and has asked before for the session to go on.
    Resuming,
}

impl Stage {
    fn is_open(self) -> bool {
        matches!(self, Self::Registered | Self::Resuming)
    }
}

/// What it takes to go on with the session over another socket.
struct Resumable {
    epoch: u64,
    token: Arc<Secret>,
    window: Duration,
    /// Set when the connection is lost.
    until: Option<Instant>,
}

/// The last `seq` that came. Links of one session share it.
#[derive(Default)]
struct Seen {
    current: u64,
    /// That of the former link, if its session has not gone on.
    former: Option<u64>,
}

/// A token in hand.
struct Held {
    text: Arc<Secret>,
    until: Instant,
}

/// What the configuration says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) max_frame_bytes: usize,
    pub(crate) feedback_within: Duration,
}

/// Chance, from 0 up to 1.
pub(crate) type Chance = Box<dyn FnMut() -> f64 + Send>;

/// The client, but for its sockets.
pub(crate) struct Session {
    settings: Settings,
    chance: Chance,
    effects: Vec<Effect>,
    state: State,
    me: Option<PeerId>,
    token: Option<Held>,
    current: Option<Link>,
    dialing: Option<Link>,
    former: Option<Link>,
    links: u64,
    /// Attempts since the last session that lasted.
    attempt: u32,
    /// Tokens in a row that the service did not take.
    refusals: u32,
    redial_at: Option<Instant>,
    move_at: Option<Instant>,
    resumable: Option<Resumable>,
    seen: Seen,
    grants_feedback: bool,
    /// Lists that came in this session.
    lists: u32,
    /// Whether we got our right since the last of them.
    was_approved: bool,
    pending: Pending,
}

impl Session {
    pub(crate) fn new(settings: Settings, mut chance: Chance) -> Self {
        let pending = Pending::new(chance());
        Self {
            settings,
            chance,
            effects: vec![],
            state: State::Connecting,
            me: None,
            token: None,
            current: None,
            dialing: None,
            former: None,
            links: 0,
            attempt: 0,
            refusals: 0,
            redial_at: None,
            move_at: None,
            resumable: None,
            seen: Seen::default(),
            grants_feedback: false,
            lists: 0,
            was_approved: false,
            pending,
        }
    }

    /// Begins.
    pub(crate) fn start(&mut self, now: Instant) {
        self.emit(Event::State(State::Connecting));
        self.dial(now);
    }

    /// What has to be done, in order.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn me(&self) -> Option<&PeerId> {
        self.me.as_ref()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether it has ended for good.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Stopped(_))
    }

    /// When [`Self::on_time`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let links = [&self.current, &self.dialing, &self.former].into_iter().flatten();
        let of_links = links.flat_map(|link| [link.deadline, link.ask_at]);
        of_links.chain([self.redial_at, self.move_at, self.pending.deadline()]).flatten().min()
    }

    /// When [`Self::on_patience`] is due.
    pub(crate) fn patience(&self) -> Option<Instant> {
        self.pending.deadline()
    }

    /// Gives up the outcomes that have been waited for long enough. All that may be done while events wait for a
    /// program that does not read them: what the rest looks for may be among the frames that are not read then.
    pub(crate) fn on_patience(&mut self, now: Instant) {
        for number in self.pending.overdue(now) {
            self.settle(number, Outcome::Unknown(Unknown::Timeout));
        }
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.on_patience(now);
        if is_due(self.redial_at) || is_due(self.move_at) {
            self.dial(now);
        }
        self.ask_again(now);
        let links = [&self.current, &self.dialing, &self.former].into_iter().flatten();
        let late: Vec<LinkId> = links.filter(|link| is_due(link.deadline)).map(|link| link.id).collect();
        for link in late {
            self.give_up(now, link);
        }
    }

    /// What came of asking for a token.
    pub(crate) fn on_token(&mut self, now: Instant, asked: Result<Token, TokenError>) {
        if self.dialing.as_ref().is_none_or(|link| link.stage != Stage::Token) {
            return;
        }
        match asked {
            Ok(token) => {
                // Another name is another session.
                if self.me.as_ref().is_some_and(|me| *me != token.peer) {
                    self.forget_session();
                }
                self.me = Some(token.peer);
                let until = now.checked_add(token.good_for.min(Duration::from_hours(24))).unwrap_or(now);
                self.connect(now, &token.text);
                self.token = Some(Held { text: token.text, until });
            }
            Err(error) => {
                self.dialing = None;
                self.without_token(now, &error);
            }
        }
    }

    fn without_token(&mut self, now: Instant, error: &TokenError) {
        match error {
            TokenError::Refused(message) => {
                tracing::warn!(words = message, "the token exchange refuses the credential");
                self.stop(Stop::CredentialRefused);
            }
            TokenError::BadUrl => self.stop(Stop::BadUrl),
            TokenError::Unavailable { retry_after, message } => {
                tracing::info!(words = message, "no token for now");
                self.later(now, retry_after.unwrap_or_default());
            }
        }
    }

    /// Ends it for good.
    pub(crate) fn stop(&mut self, stop: Stop) {
        if self.is_over() {
            return;
        }
        for link in [self.current.take(), self.dialing.take(), self.former.take()].into_iter().flatten() {
            self.hang_up(&link, BYE);
        }
        self.redial_at = None;
        self.move_at = None;
        self.token = None;
        self.forget_session();
        self.forget_pending(|_| true);
        self.set_state(State::Stopped(stop));
    }

    fn emit(&mut self, event: Event) {
        self.effects.push(Effect::Emit(event));
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state.clone();
            self.emit(Event::State(state));
        }
    }

    fn settle(&mut self, number: u64, outcome: Outcome) {
        self.effects.push(Effect::Settle { number, outcome });
    }

    /// Nobody will answer these any more.
    fn forget_pending(&mut self, which: impl Fn(LinkId) -> bool) {
        for number in self.pending.of_links(which) {
            self.settle(number, Outcome::Unknown(Unknown::ConnectionLost));
        }
    }

    /// What comes next is a session of its own.
    fn forget_session(&mut self) {
        self.resumable = None;
        self.lists = 0;
        self.was_approved = false;
    }

    /// Comes back after a pause.
    fn later(&mut self, now: Instant, floor: Duration) {
        let retry_in = backoff::pause(self.attempt, floor.min(limits::LONGEST_PAUSE), (self.chance)());
        self.attempt = self.attempt.saturating_add(1);
        self.redial_at = Some(now + retry_in);
        if self.current.is_none() {
            self.set_state(State::Waiting { retry_in });
        }
    }
}

#[cfg(test)]
mod tests;
