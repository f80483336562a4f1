//! What of others reaches the client: the second check of every message, and news of who comes and goes.

use std::sync::Arc;
use std::time::Instant;

use super::{Effect, Offers, Outcome, Phase, Session, Step};
use crate::authority::Authority;
use crate::id::{Epoch, PeerId};
use crate::message::{Capabilities, IceServer, Member, Receipt, Role, ServerMessage, Signal, Undeliverable};
use crate::replay::Written;

/// What reaches a session from elsewhere: other peers, the directory, the authority feed.
#[derive(Debug)]
pub enum Mail {
    /// A message for this peer.
    Signal(Signal),
    /// What a former session had written and the client did not get, with its number.
    Again(u64, Written),
    /// This session had been given up for lost by other nodes and has a new place.
    Moved {
        /// The place.
        place: u64,
        /// Everyone else.
        members: Vec<Member>,
    },
    /// Another peer took its place.
    Joined(Member),
    /// Another peer gave up its place.
    Left {
        /// Who.
        peer: PeerId,
        /// When, in the order of places.
        at: u64,
    },
    /// Another peer lost its right.
    Revoked(PeerId),
    /// This peer's own standing changed.
    StandingChanged,
    /// What became of a message that this session sent.
    Receipt(Receipt),
    /// What became of a message that an older session sent. The driver turns it into a [`Self::Receipt`] if this one
    /// goes on for that, which may not be known yet, and drops it otherwise.
    FormerReceipt(Epoch, Receipt),
    /// New ICE servers.
    IceServers(Arc<Vec<IceServer>>),
    /// The node drains.
    GoAway {
        /// When the client should come back, in milliseconds.
        reconnect_after_ms: u64,
        /// When the socket closes at the latest, in milliseconds.
        deadline_ms: u64,
    },
}

impl Session {
    /// Something from elsewhere, last before the socket write: the second check of every message is here.
    pub fn on_mail(&mut self, mail: Mail, authority: &Authority, now: Instant) -> Step<'static> {
        let effect = match mail {
            Mail::Signal(signal) => return self.deliver(signal, authority, now),
            Mail::Again(seq, written) => return self.again(seq, written, authority, now),
            Mail::Moved { place, members } if self.is_placed() && self.peer.right.is_approved() => {
                Effect::Send(self.on_placed(place, members, Offers::default()))
            }
            Mail::StandingChanged => {
                return Step { effect: self.standing_changed(), outcome: Outcome::Accepted };
            }
            Mail::Receipt(receipt) => self.on_receipt(receipt),
            // What happened before this session took its place is in its first list already (DESIGN G9).
            Mail::Joined(Member { place: at, .. }) | Mail::Left { at, .. } if self.is_later_than(at) => {
                Effect::None
            }
            // A session that goes on in a place that it has is shown everyone, also those who came after it.
            Mail::Joined(member) if member.place <= self.shown => Effect::None,
            Mail::Joined(member) => self.event(|session| ServerMessage::PeerJoined {
                role: session.role_towards(&member),
                peer: member.peer,
                profile: member.profile,
            }),
            Mail::Left { peer, .. } => self.event(|_| ServerMessage::PeerLeft { peer }),
            Mail::Revoked(peer) => self.event(|_| ServerMessage::PeerRevoked { peer }),
            // TURN servers do not hear of a revocation: whoever lost the right meanwhile gets no more credentials.
            Mail::IceServers(servers)
                if self.has(Capabilities::ICE)
                    && self.is_placed()
                    && authority.may_send(&self.peer.right, now).is_ok() =>
            {
                Effect::Send(ServerMessage::IceServers(servers))
            }
            Mail::GoAway { reconnect_after_ms, deadline_ms } if self.has(Capabilities::GOAWAY) => {
                Effect::Send(ServerMessage::GoAway { reconnect_after_ms, deadline_ms })
            }
            Mail::IceServers(_) | Mail::GoAway { .. } | Mail::Moved { .. } | Mail::FormerReceipt(..) => {
                Effect::None
            }
        };
        Step { effect, outcome: Outcome::Accepted }
    }

    fn deliver(&mut self, signal: Signal, authority: &Authority, now: Instant) -> Step<'static> {
        if !self.is_placed() {
            return Step {
                effect: Effect::Return(signal),
                outcome: Outcome::Refused(Undeliverable::Unavailable),
            };
        }
        match authority.may_relay(&signal.from.right, &self.peer.right, now) {
            Ok(()) => {
                let seq = self.number(|| Written::Signal(signal.clone()));
                Step {
                    effect: Effect::Send(ServerMessage::Signal { signal, seq }),
                    outcome: Outcome::Relayed,
                }
            }
            Err(denial) => Step { effect: Effect::Return(signal), outcome: Outcome::Denied(denial) },
        }
    }

    /// Writes again what a former session wrote, after a new check: its sender has heard that it arrived.
    fn again(&mut self, seq: u64, written: Written, authority: &Authority, now: Instant) -> Step<'static> {
        if let Written::Signal(signal) = &written
            && let Err(denial) = authority.may_relay(&signal.from.right, &self.peer.right, now)
        {
            return Step::quiet(Outcome::Denied(denial));
        }
        self.replay.keep(seq, written.clone());
        let message = match written {
            Written::Signal(signal) => ServerMessage::Signal { signal, seq: Some(seq) },
            Written::Receipt(receipt) => ServerMessage::Receipt { receipt, seq: Some(seq) },
        };
        Step { effect: Effect::Send(message), outcome: Outcome::Relayed }
    }

    /// Events are for those who may see others.
    fn event(&self, message: impl FnOnce(&Self) -> ServerMessage) -> Effect<'static> {
        if self.has(Capabilities::EVENTS) && self.is_placed() {
            Effect::Send(message(self))
        } else {
            Effect::None
        }
    }

    fn is_later_than(&self, place: u64) -> bool {
        matches!(self.phase, Phase::Placed(mine) if place < mine)
    }

    fn role_towards(&self, other: &Member) -> Option<Role> {
        match self.phase {
            Phase::Placed(mine) if self.has(Capabilities::ROLES) => Some(Role::of(mine, other.place)),
            _ => None,
        }
    }
}
