//! What comes over the sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_core::id::PeerId;

use super::{Link, LinkId, Resumable, Session};
use crate::backoff;
use crate::event::{Event, State, Stop};
use crate::frame::{From, GoAway, List, Resumed, SessionInfo, Word};
use crate::outcome::Outcome;

impl Session {
    /// A text frame.
    pub(crate) fn on_frame(&mut self, now: Instant, id: LinkId, text: &str) {
        let is =
            |link: &Option<Link>| link.as_ref().is_some_and(|link| link.id == id && link.stage.is_open());
        if !is(&self.current) && !is(&self.dialing) && !is(&self.former) {
            return;
        }
        let Some(frame) = crate::frame::read(text) else {
            tracing::debug!(bytes = text.len(), "a frame that is none of the dialect");
            return;
        };
        if is(&self.dialing) {
            match &frame.from {
                From::Service(Word::Resumed(resumed)) => {
                    self.arrived(now, matches!(resumed, Resumed::GoesOn { .. }) && self.resumable.is_some());
                }
                From::Service(Word::PeerList(_)) | From::Peer { .. } => self.arrived(now, false),
                From::Service(_) => {}
            }
        }
        let is_former = is(&self.former);
        if is_former && !counts_from_former(&frame.from) || !self.is_new(is_former, frame.seq) {
            return;
        }
        match frame.from {
            From::Service(word) => self.on_word(now, id, word),
            From::Peer { from, kind, payload, id } => self.emit(Event::Message { from, kind, payload, id }),
        }
    }

    /// Whether a frame has not come before, on this socket or on another one of the session.
    fn is_new(&mut self, is_former: bool, seq: Option<u64>) -> bool {
        let Some(seq) = seq else { return true };
        let last = match &mut self.seen.former {
            Some(own) if is_former => own,
            _ => &mut self.seen.current,
        };
        let is_new = seq > *last;
        *last = seq.max(*last);
        is_new
    }

    fn on_word(&mut self, now: Instant, id: LinkId, word: Word) {
        match word {
            Word::PeerList(list) => self.on_list(id, list),
            Word::Resumed(resumed) => self.on_resumed(resumed),
            Word::PeerJoined(listed) => self.emit(Event::PeerJoined(listed)),
            Word::PeerLeft(peer) => self.emit(Event::PeerLeft(peer)),
            Word::PeerRevoked(peer) => self.on_revoked(peer),
            Word::Approved => {
                self.was_approved = true;
                self.emit(Event::Approved);
            }
            Word::IceServers(servers) => self.emit(Event::IceServers(servers)),
            Word::Delivered { id } => {
                if let Some(number) = self.pending.take(&id) {
                    self.settle(number, Outcome::Delivered);
                }
            }
            Word::Undeliverable { id, target, reason } => match id.and_then(|id| self.pending.take(&id)) {
                Some(number) => self.settle(number, Outcome::Undeliverable(reason)),
                None => self.emit(Event::Undeliverable { target, reason }),
            },
            Word::GoAway(goaway) => self.on_goaway(now, &goaway),
            Word::Error { code, message } => {
                if code == "bus_unavailable" && self.current.as_ref().is_some_and(|link| link.id == id) {
                    self.ask_later(now);
                }
                self.emit(Event::ServiceError { code, message });
            }
            Word::Other => {}
        }
    }

    fn on_list(&mut self, id: LinkId, list: List) {
        if let Some(link) = self.current.as_mut().filter(|link| link.id == id) {
            link.deadline = None;
            link.ask_at = None;
        }
        self.grants_feedback = list.grants_feedback;
        self.resumable = list.session.and_then(|told| self.resumable_of(told, list.grants_resume));
        self.refusals = 0;
        if let Some(servers) = list.ice_servers {
            self.emit(Event::IceServers(servers));
        }
        // Who has just been approved is introduced now: the list before was empty.
        let again = self.lists > 0 && !self.was_approved;
        self.lists = self.lists.saturating_add(1);
        self.was_approved = false;
        self.set_state(State::Online);
        let me = self.me.as_ref();
        let peers = list.peers.into_iter().filter(|listed| Some(&listed.peer) != me).collect();
        self.emit(Event::PeerList { peers, again });
    }

    /// What a list says of the session. One of the same session that is silent about resuming leaves what was said.
    fn resumable_of(&mut self, told: SessionInfo, granted: bool) -> Option<Resumable> {
        let before = self.resumable.take().filter(|before| before.epoch == told.epoch);
        let said = told.resume_token.map(|token| Resumable {
            epoch: told.epoch,
            token: Arc::new(token),
            window: told.resume_window,
            until: None,
        });
        said.or(before).filter(|_| granted)
    }

    fn on_resumed(&mut self, resumed: Resumed) {
        match (resumed, &mut self.resumable) {
            (Resumed::GoesOn { recovered, lost, resume_token, resume_window }, Some(session)) => {
                session.window = resume_window.unwrap_or(session.window);
                if let Some(token) = resume_token {
                    session.token = Arc::new(token);
                }
                self.emit(Event::Resumed { recovered, lost: Some(lost) });
            }
            _ => self.emit(Event::Resumed { recovered: 0, lost: None }),
        }
    }

    fn on_revoked(&mut self, peer: PeerId) {
        if self.me.as_ref() == Some(&peer) {
            self.emit(Event::Revoked);
            self.stop(Stop::Revoked);
        } else {
            self.emit(Event::PeerRevoked(peer));
        }
    }

    /// Moves at the advised time, which the node has spread, and uses this socket until the new one asks to resume.
    fn on_goaway(&mut self, now: Instant, goaway: &GoAway) {
        let deadline = goaway.deadline();
        let advised = goaway.reconnect_after();
        let reconnect_after = advised.unwrap_or_else(|| backoff::pause(0, Duration::ZERO, (self.chance)()));
        let reconnect_after = deadline.map_or(reconnect_after, |deadline| reconnect_after.min(deadline));
        self.emit(Event::GoAway { reconnect_after, deadline });
        self.move_at = Some(now + reconnect_after);
    }
}

/// Of what the former socket still brings, only what was on its way to us counts: the new one's list has the rest.
fn counts_from_former(from: &From) -> bool {
    match from {
        From::Peer { .. } => true,
        From::Service(word) => matches!(word, Word::Delivered { .. } | Word::Undeliverable { .. }),
    }
}
