//! What a connection does next: perfect negotiation as a pure state machine.
//!
//! [`Negotiation`] is told what happened and says what to do; it does no I/O, reads no clock and rolls no dice. The rules are
//! those of the browser client, so that a page and an agent never wait for each other:
//!
//! - The newcomer offers. When two offers cross, the polite side gives its own up: the service says who that is, else the ids.
//! - Another session in a description means that the other side started over, and so does this one.
//! - An offer that has no answer is said again; after a while the side that ignored an offer gives way all the same.
//! - A connection that failed is restarted by one side first; after some restarts in vain it is given up.

mod sdp;
mod words;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use heliograph_client::{Outcome, Reason, Role, Unknown};
use heliograph_core::id::PeerId;

use crate::rtc::{Candidate, Kind, State};

pub(crate) use words::{Action, Ended, Input, Sdp, Timer, Wait};

/// Candidates of the other side that wait for its description.
const EARLY_CANDIDATES: usize = 64;
/// ICE restarts, repeated offers, repeated sendings in a row before it is given up.
const ATTEMPTS: u32 = 6;
/// An offer that has no answer after this long was probably lost.
const ANSWER: Duration = Duration::from_secs(4);
/// How much later the polite side restarts, so that in the usual case there is no collision to settle.
const POLITE_RESTART: Duration = Duration::from_secs(3);
/// Between two sendings of the same description.
const RESEND: Duration = Duration::from_millis(200);
/// The ceiling of the first wait; it doubles up to the highest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// The negotiation with one counterpart.
#[derive(Debug)]
pub(crate) struct Negotiation {
    /// The role by the ids, for want of the service's word.
    by_id: Role,
    role: Option<Role>,
    present: bool,
    link: Option<Link>,
    early: Vec<Candidate>,
    /// The offer of the other side that crossed ours and was not taken.
    ignored: Option<Sdp>,
    /// How often the current offer was said again.
    repeats: u32,
    restarts: u32,
    restart_is_due: bool,
    /// Something that either side said may be lost.
    signals_lost: bool,
    /// Counts own descriptions, so that the fate of one is not taken for that of another.
    descriptions: u64,
}

/// What is known of the connection that there is.
#[derive(Debug, Default)]
struct Link {
    state: State,
    /// The own description: none yet, an offer without an answer, or one that is settled.
    mine: Option<Kind>,
    /// Whether the own offer has no answer yet.
    offering: bool,
    /// Whether the own offer restarts ICE.
    restarting: bool,
    /// How often the own description was sent in vain.
    attempts: u32,
    /// What the other side's description says of it.
    remote: Option<sdp::Identity>,
}

impl Negotiation {
    /// Nothing has been said between the two.
    pub(crate) fn new(me: &PeerId, other: &PeerId) -> Self {
        Self {
            // As a browser compares, which has UTF-16.
            by_id: if me.as_str().encode_utf16().lt(other.as_str().encode_utf16()) {
                Role::Polite
            } else {
                Role::Impolite
            },
            role: None,
            present: false,
            link: None,
            early: vec![],
            ignored: None,
            repeats: 0,
            restarts: 0,
            restart_is_due: false,
            signals_lost: false,
            descriptions: 0,
        }
    }

    /// Whether this side gives way when two offers cross. The service's word counts; the ids give opposite answers on the
    /// two sides, too.
    pub(crate) fn polite(&self) -> bool {
        self.role.unwrap_or(self.by_id) == Role::Polite
    }

    /// What to do about it, in this order. If one of the steps fails, the rest of them is void: [`Input::Failed`].
    pub(crate) fn on(&mut self, input: Input) -> Vec<Action> {
        let mut todo = vec![];
        match input {
            Input::Connect => self.connect(&mut todo),
            Input::Offer(sdp) => self.offered(sdp, false, &mut todo),
            Input::Answer(sdp) => self.answered(sdp, &mut todo),
            Input::Candidate(candidate) => self.candidate(candidate, &mut todo),
            Input::State(state) => self.state(state, &mut todo),
            Input::Sent { description, outcome } => self.sent(description, &outcome, &mut todo),
            Input::Present(present) => self.present(present, &mut todo),
            Input::Role(role) => self.role = role,
            Input::SignalingBack => self.signaling_back(&mut todo),
            Input::SignalsMayBeLost => self.signals_lost = true,
            Input::Elapsed(timer) => self.elapsed(timer, &mut todo),
            Input::ChannelClosed => self.close(Ended::Closed, &mut todo),
            Input::Failed => self.close(Ended::Failed, &mut todo),
            Input::Close(ended) => self.close(ended, &mut todo),
        }
        todo
    }

    /// This side offers, unless there is a connection, or one is being made.
    fn connect(&mut self, todo: &mut Vec<Action>) {
        self.present = true;
        if self.link.is_some() {
            return;
        }
        todo.extend([Action::Open, Action::CreateChannel]);
        self.link = Some(Link::default());
        self.offer(false, todo);
    }

    fn offer(&mut self, restart: bool, todo: &mut Vec<Action>) {
        let Some(link) = &mut self.link else { return };
        link.offering = true;
        link.restarting = restart;
        self.repeats = 0;
        self.ignored = None;
        todo.push(Action::Offer { restart });
        self.described(Kind::Offer, todo);
    }

    /// A new description of this side is there: it is sent.
    fn described(&mut self, kind: Kind, todo: &mut Vec<Action>) {
        let Some(link) = &mut self.link else { return };
        link.mine = Some(kind);
        link.attempts = 0;
        self.descriptions += 1;
        self.send(todo);
    }

    fn send(&mut self, todo: &mut Vec<Action>) {
        let Some(link) = &self.link else { return };
        todo.push(Action::Send { description: self.descriptions });
        if link.offering {
            let patience = ANSWER * (1 + self.repeats);
            todo.push(Action::Start(Timer::Answer, Wait { least: patience, most: patience * 3 / 2 }));
        }
    }

    /// An offer of the other side; `give_way` whoever is polite.
    fn offered(&mut self, sdp: Sdp, give_way: bool, todo: &mut Vec<Action>) {
        self.present = true;
        let identity = sdp::Identity::of(&sdp.0);
        let started_over = self
            .link
            .as_ref()
            .and_then(|link| link.remote.as_ref())
            .is_some_and(|known| !known.is_same_session(&identity));
        if started_over {
            self.reset(todo);
            self.link = None;
        }
        let polite = self.polite() || give_way;
        match &self.link {
            None => todo.push(Action::Open),
            Some(link) if !link.offering => {}
            Some(_) if !polite => {
                self.ignored = Some(sdp);
                return;
            }
            // Nothing of our connection is worth keeping, least of all its channel: there would be two, one from each side.
            Some(link) if link.remote.is_none() => {
                self.link = None;
                todo.push(Action::Open);
            }
            Some(_) => todo.push(Action::RollBack),
        }
        self.ignored = None;
        self.repeats = 0;
        let link = self.link.get_or_insert_default();
        link.remote = Some(identity);
        link.offering = false;
        link.restarting = false;
        todo.extend([Action::Stop(Timer::Answer), Action::TakeOffer(sdp)]);
        todo.extend(self.early.drain(..).map(Action::Add));
        todo.push(Action::Answer);
        self.described(Kind::Answer, todo);
    }

    fn answered(&mut self, sdp: Sdp, todo: &mut Vec<Action>) {
        let Some(link) = &mut self.link else { return };
        // A repeated answer, or one to an offer that was taken back meanwhile.
        if !link.offering {
            return;
        }
        let identity = sdp::Identity::of(&sdp.0);
        if let Some(known) = &link.remote {
            if !known.is_same_session(&identity) {
                // We asked the old connection for a restart and a new one answered: start over, too.
                self.reset(todo);
                self.link = None;
                return self.connect(todo);
            }
            if link.restarting && known.has_same_credentials(&identity) {
                // The answer to an offer before, once more: a restart has new credentials.
                return;
            }
        }
        link.remote = Some(identity);
        link.offering = false;
        link.restarting = false;
        self.repeats = 0;
        self.ignored = None;
        todo.extend([Action::Stop(Timer::Answer), Action::TakeAnswer(sdp)]);
        todo.extend(self.early.drain(..).map(Action::Add));
    }

    fn candidate(&mut self, candidate: Candidate, todo: &mut Vec<Action>) {
        if self.link.as_ref().is_some_and(|link| link.remote.is_some()) {
            todo.push(Action::Add(candidate));
        } else if self.early.len() < EARLY_CANDIDATES {
            // The answering side trickles before its answer goes out, so early candidates are the rule.
            self.early.push(candidate);
        }
    }

    fn state(&mut self, state: State, todo: &mut Vec<Action>) {
        let Some(link) = &mut self.link else { return };
        link.state = state;
        match state {
            State::Connected => {
                self.restarts = 0;
                self.signals_lost = false;
                self.restart_is_due = false;
                todo.push(Action::Stop(Timer::Restart));
            }
            State::Failed => self.failed(todo),
            State::Closed => self.close(Ended::Closed, todo),
            State::New | State::Connecting | State::Disconnected => {}
        }
    }

    /// ICE found no way, or lost it. A restart needs the other side, so without its presence there is nothing to try.
    fn failed(&mut self, todo: &mut Vec<Action>) {
        if self.present && self.restart_is_due {
            return;
        }
        if !self.present || self.restarts >= ATTEMPTS {
            return self.close(Ended::Failed, todo);
        }
        let wait = match (self.polite(), self.restarts) {
            (false, 0) => Wait::default(),
            (polite, restarts) => backoff(restarts, if polite { POLITE_RESTART } else { Duration::ZERO }),
        };
        self.restarts += 1;
        self.restart_is_due = true;
        todo.push(Action::Start(Timer::Restart, wait));
    }

    fn restart(&mut self, todo: &mut Vec<Action>) {
        match &self.link {
            None => {}
            // It is on its way already, or lost.
            Some(link) if link.offering => self.send(todo),
            Some(_) => self.offer(true, todo),
        }
    }

    fn sent(&mut self, description: u64, outcome: &Outcome, todo: &mut Vec<Action>) {
        let Some(link) = &mut self.link else { return };
        // An offer that has an answer has arrived, whatever the feedback says.
        let needed =
            if link.mine == Some(Kind::Offer) { link.offering } else { link.state != State::Connected };
        if description != self.descriptions || !needed {
            return;
        }
        match outcome {
            Outcome::Undeliverable(Reason::Unavailable) if link.state != State::Connected => {
                self.close(Ended::Unreachable, todo);
            }
            Outcome::Undeliverable(Reason::Offline) | Outcome::Unknown(Unknown::ConnectionLost) => {
                self.signals_lost = true;
            }
            Outcome::Undeliverable(reason) if reason.is_passing() && link.attempts < ATTEMPTS => {
                todo.push(Action::Start(Timer::Resend, backoff(link.attempts, RESEND)));
                link.attempts += 1;
            }
            // Delivered; or nobody knows, and if it is lost then the answer is missed.
            _ => {}
        }
    }

    fn present(&mut self, present: bool, todo: &mut Vec<Action>) {
        self.present = present;
        let Some(link) = &self.link else { return };
        match (present, link.state) {
            (true, State::Failed) => self.failed(todo),
            (false, State::Failed) => self.close(Ended::Failed, todo),
            // What cannot be finished without it. A connection that stands, or is about to, does not need the other's socket.
            (false, State::New) => self.close(Ended::Unreachable, todo),
            _ => {}
        }
    }

    /// What may have been lost with the old socket is said again.
    fn signaling_back(&mut self, todo: &mut Vec<Action>) {
        let Some(link) = &self.link else { return };
        let lost = std::mem::take(&mut self.signals_lost);
        if link.state != State::Connected && (link.offering || lost || link.state == State::Failed) {
            self.restart(todo);
        }
    }

    fn elapsed(&mut self, timer: Timer, todo: &mut Vec<Action>) {
        match timer {
            Timer::Answer => self.unanswered(todo),
            Timer::Resend => self.send(todo),
            Timer::Restart => {
                self.restart_is_due = false;
                if self.link.as_ref().is_some_and(|link| link.state == State::Failed) {
                    self.restart(todo);
                }
            }
        }
    }

    /// An offer can be delivered to a program that is just ending: nobody will answer it. And when the one that came instead
    /// offers to us, and it is not ours to give way, both would wait for ever. So patience has an end. Where the service
    /// says who gives way, the other side does as soon as it hears our offer once more; two that both believe themselves in
    /// the right are kept from giving way together by the chance in the wait.
    fn unanswered(&mut self, todo: &mut Vec<Action>) {
        let Some(link) = &self.link else { return };
        if !link.offering {
            return;
        }
        let may_give_way = self.role.is_none() || self.repeats > 0;
        if may_give_way && let Some(ignored) = self.ignored.take() {
            return self.offered(ignored, true, todo);
        }
        if self.repeats < ATTEMPTS {
            self.repeats += 1;
            self.send(todo);
        } else if link.state != State::Connected {
            self.close(Ended::Unreachable, todo);
        }
    }

    fn close(&mut self, ended: Ended, todo: &mut Vec<Action>) {
        self.reset(todo);
        self.early.clear();
        if self.link.take().is_some() {
            todo.push(Action::Shut(ended));
        }
    }

    /// Forgets all that belongs to one connection, except what may belong to the next one already.
    fn reset(&mut self, todo: &mut Vec<Action>) {
        self.ignored = None;
        self.repeats = 0;
        self.restarts = 0;
        self.restart_is_due = false;
        self.signals_lost = false;
        todo.extend([Timer::Answer, Timer::Resend, Timer::Restart].map(Action::Stop));
    }
}

/// Full jitter over a ceiling that doubles; a floor is added, not mixed in.
fn backoff(attempt: u32, floor: Duration) -> Wait {
    let ceiling = BACKOFF.saturating_mul(1 << attempt.min(16)).min(BACKOFF_CAP);
    Wait { least: floor, most: floor + ceiling }
}
