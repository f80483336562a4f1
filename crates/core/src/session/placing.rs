//! When the peer is listed, and what its client is shown and told then.

use std::sync::Arc;

use super::{Effect, Outcome, Phase, Session, Step};
use crate::authority::Standing;
use crate::message::{Capabilities, IceServer, Member, ResumeOffer, ServerMessage, Welcome};

/// What the driver offers with a list.
#[derive(Debug, Default)]
pub struct Offers {
    /// ICE servers, for clients that asked for them.
    pub ice_servers: Option<Arc<Vec<IceServer>>>,
    /// How to resume, for clients that asked for it.
    pub resume: Option<ResumeOffer>,
}

impl Session {
    /// The client entered a room, and so has said all that a `register` says. The driver takes its place next.
    pub fn on_entered(&mut self, capabilities: Capabilities) {
        self.capabilities = Some(capabilities);
        self.phase = Phase::Waiting;
    }

    pub(super) fn register(&mut self, asked: Option<Capabilities>) -> Step<'static> {
        self.capabilities = asked.or(self.capabilities);
        if self.peer.right.is_approved() {
            return Step { effect: Effect::Place, outcome: Outcome::Accepted };
        }
        self.phase = Phase::Waiting;
        Step { effect: Effect::Send(self.list(vec![], 0, Offers::default())), outcome: Outcome::Accepted }
    }

    /// The driver took (or looked up) this session's place: `members` are those that it may be shown.
    ///
    /// On the first registration these hold only who came before, so that of any two peers exactly one gets the
    /// other in its first list (DESIGN G9); on a later one they hold everyone.
    pub fn on_placed(&mut self, place: u64, members: Vec<Member>, offers: Offers) -> ServerMessage {
        self.phase = Phase::Placed(place);
        self.shown = members.iter().map(|member| member.place).max().unwrap_or(0);
        self.list(members, place, offers)
    }

    fn list(&self, peers: Vec<Member>, place: u64, offers: Offers) -> ServerMessage {
        let welcome = self.capabilities.map(|granted| {
            Box::new(Welcome {
                granted,
                epoch: self.epoch,
                place,
                ice_servers: offers.ice_servers.filter(|_| granted.has(Capabilities::ICE)),
                resume: offers.resume.filter(|_| granted.has(Capabilities::RESUME)),
            })
        });
        ServerMessage::PeerList { peers, welcome }
    }

    pub(super) fn standing_changed(&mut self) -> Effect<'static> {
        match (self.peer.right.standing(), self.phase) {
            // The list that follows tells old clients; `approved` those that know it (the driver sends both).
            (Standing::Approved, Phase::Waiting) => Effect::Place,
            (Standing::Revoked | Standing::Rejected, Phase::Placed(_) | Phase::Waiting) => {
                self.phase = Phase::Waiting;
                Effect::Unplace
            }
            // A place that a former session took is listed until this client says whether it goes on for that one.
            (Standing::Revoked | Standing::Rejected, Phase::Connected) => Effect::Unplace,
            _ => Effect::None,
        }
    }

    /// What a client that lost its right is told, after its place was given up.
    pub fn farewell(&self) -> Option<ServerMessage> {
        self.has(Capabilities::EVENTS).then(|| ServerMessage::PeerRevoked { peer: self.peer.id.clone() })
    }

    /// What a client that waited for approval is told before its list.
    pub fn greeting(&self) -> Option<ServerMessage> {
        (self.phase == Phase::Waiting && self.has(Capabilities::EVENTS)).then_some(ServerMessage::Approved)
    }
}
