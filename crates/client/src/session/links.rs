//! Sockets that come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_auth::secret::Secret;

use super::{Effect, GIVEN_UP, Link, LinkId, Session, Stage};
use crate::backoff;
use crate::close::{self, End, Next};
use crate::event::State;
use crate::frame;
use crate::limits;

/// After how long a list is asked for once more.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Session {
    /// Begins to open a socket, if none is being opened.
    pub(super) fn dial(&mut self, now: Instant) {
        self.redial_at = None;
        self.move_at = None;
        if self.dialing.is_some() {
            return;
        }
        let id = LinkId(self.links);
        self.links += 1;
        self.dialing = Some(Link { id, stage: Stage::Token, since: now, deadline: None, ask_at: None });
        if self.current.is_none() {
            self.set_state(State::Connecting);
        }
        let good = self.token.as_ref().filter(|held| held.until > now + limits::TOKEN_MARGIN);
        match good.map(|held| Arc::clone(&held.text)) {
            Some(token) => self.connect(now, &token),
            None => self.effects.push(Effect::FetchToken),
        }
    }

    pub(super) fn connect(&mut self, now: Instant, token: &Arc<Secret>) {
        if let Some(link) = &mut self.dialing {
            link.stage = Stage::Connecting;
            link.deadline = Some(now + limits::HANDSHAKE);
            self.effects.push(Effect::Dial { link: link.id, token: Arc::clone(token) });
        }
    }

    /// A socket is open: says at once all that there is to say.
    pub(crate) fn on_open(&mut self, now: Instant, id: LinkId) {
        let Some(me) = self.me.clone() else { return };
        let Some(link) = self.dialing.as_mut().filter(|link| link.id == id && !link.stage.is_open()) else {
            return;
        };
        let resumable =
            self.resumable.as_ref().filter(|session| session.until.is_none_or(|until| now < until));
        link.stage = if resumable.is_some() { Stage::Resuming } else { Stage::Registered };
        if let Some(session) = resumable {
            let text = frame::resume(&me, session.token.expose(), self.seen.current);
            self.effects.push(Effect::Write { link: id, text });
        }
        self.effects.push(Effect::Write { link: id, text: frame::register(&me) });
    }

    /// The new socket is the session from its first word on, not only from its list: what waited comes before the
    /// list, and its answers have to go out. The old one is read until the service closes it.
    pub(super) fn arrived(&mut self, now: Instant, goes_on: bool) {
        let Some(mut link) = self.dialing.take() else { return };
        self.move_at = None;
        link.since = now;
        let id = link.id;
        if let Some(mut old) = self.current.replace(link) {
            if let Some(older) = self.former.take() {
                self.hang_up(&older, GIVEN_UP);
            }
            old.deadline = Some(now + limits::HANDSHAKE);
            old.ask_at = None;
            self.seen.former = None;
            self.former = Some(old);
        }
        if goes_on {
            if let Some(session) = &mut self.resumable {
                session.until = None;
            }
            return;
        }
        self.count_anew();
        self.forget_session();
        self.forget_pending(|link| link != id);
    }

    /// The numbers of what comes begin at 1 again; those of the former socket, whose session this was, go on.
    fn count_anew(&mut self) {
        if self.former.is_some() {
            self.seen.former.get_or_insert(self.seen.current);
        }
        self.seen.current = 0;
    }

    /// A socket has ended, or could not be opened.
    pub(crate) fn on_end(&mut self, now: Instant, id: LinkId, end: &End) {
        let is = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.id == id);
        if is(&self.former) {
            // What it was read for.
            self.former = None;
            self.seen.former = None;
        } else if is(&self.dialing) {
            self.dialing = None;
            self.forget_pending(|link| link == id);
            self.ended(now, end, false);
        } else if is(&self.current) {
            self.current_ended(now, end);
        }
    }

    fn current_ended(&mut self, now: Instant, end: &End) {
        let Some(link) = self.current.take() else { return };
        self.move_at = None;
        if now.saturating_duration_since(link.since) >= limits::STABLE {
            self.attempt = 0;
        }
        if close::after(end).session_over {
            self.forget_session();
            self.count_anew();
        }
        if let Some(session) = &mut self.resumable {
            session.until = now.checked_add(session.window);
        }
        if self.resumable.is_none() {
            // With a session that goes on the answer may still come; without one it never will.
            let dialing = self.dialing.as_ref().map(|link| link.id);
            self.forget_pending(|link| Some(link) != dialing);
        }
        self.ended(now, end, true);
    }

    /// What the end of a socket asks for.
    fn ended(&mut self, now: Instant, end: &End, was_current: bool) {
        let next = close::after(end).next;
        // While moving it is our own new socket that has superseded the old one, before we heard from it.
        let moves = was_current && self.dialing.as_ref().is_some_and(|link| link.stage.is_open());
        let superseded_by_ourselves = moves && *end == End::Closed(4409);
        tracing::debug!(?end, ?next, "a socket has ended");
        match next {
            Next::Stop(stop) if !superseded_by_ourselves => self.stop(stop),
            // A new socket that has asked to resume already carries messages: there is no gap.
            _ if was_current && self.dialing.as_ref().is_some_and(|link| link.stage == Stage::Resuming) => {}
            _ if was_current && self.dialing.is_some() => self.set_state(State::Connecting),
            Next::Authenticate => {
                self.token = None;
                self.refusals = self.refusals.saturating_add(1);
                // One token may be too old. That the next one is refused as well has another reason.
                if self.refusals == 1 { self.dial(now) } else { self.later(now, Duration::ZERO) }
            }
            Next::ComeBack { floor } => self.later(now, floor),
            Next::Stop(_) => self.later(now, Duration::ZERO),
        }
    }

    /// A socket that has not done in time what it had to.
    pub(super) fn give_up(&mut self, now: Instant, id: LinkId) {
        self.effects.push(Effect::HangUp { link: id, code: GIVEN_UP });
        self.on_end(now, id, &End::Closed(GIVEN_UP));
    }

    /// A list cannot be had now; the session has its place, and messages pass.
    pub(super) fn ask_later(&mut self, now: Instant) {
        let pause = backoff::pause(1, ASK_AGAIN, (self.chance)());
        if let Some(link) = &mut self.current {
            link.deadline = None;
            link.ask_at = Some(now + pause);
        }
    }

    /// Asks for the list once more, if it is time.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let Some(me) = self.me.clone() else { return };
        let Some(link) = self.current.as_mut().filter(|link| link.ask_at.is_some_and(|at| at <= now)) else {
            return;
        };
        link.ask_at = None;
        link.deadline = Some(now + limits::HANDSHAKE);
        self.effects.push(Effect::Write { link: link.id, text: frame::register(&me) });
    }

    pub(super) fn hang_up(&mut self, link: &Link, code: u16) {
        if link.stage != Stage::Token {
            self.effects.push(Effect::HangUp { link: link.id, code });
        }
    }
}
