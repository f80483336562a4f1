//! The session's place in the order of its space: taken, given up, inherited from a former session.

use std::sync::Arc;
use std::time::Instant;

use heliograph_bus::{BusError, Estate, Heir, Place, Placement, TakeOver};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::message::{Capabilities, Peer, Resumed, ServerMessage};
use heliograph_core::session::Offers;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use super::ending::End;
use super::opening::can_be_reached;
use super::turns::{Turn, announce};
use crate::gateway::Gateway;
use crate::metrics::Join;
use crate::resume;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes (or looks up) the session's place and sends the list. Between the two nothing else is written: events
    /// about those who come next follow the list, never precede it.
    pub(super) async fn place(&mut self) -> Result<Join, End> {
        let peer = Arc::clone(self.session.peer());
        let greeting = self.session.greeting();
        self.handle.note(&self.session);
        // Who comes back to a room takes the place that it has or inherited, and nobody hears that it was away.
        let same = self.session.is_placed() || self.room.is_some();
        let which = if same { Place::Same } else { Place::New };
        let placement = match self.take_place(&peer, which).await {
            Ok(placement) => placement,
            Err(BusError::Superseded) => return Err(End::Close(CloseCode::Superseded)),
            Err(error) => {
                tracing::warn!(%error, "a place cannot be had now");
                return self.place_later().await.map(|()| Join::Unavailable);
            }
        };
        self.handle.set_place(Some(placement.place));
        let offers = self.offers();
        let list = self.session.on_placed(placement.place, placement.members, offers);
        self.handle.outbox.release();
        self.schedule();
        // The right may have gone while the place was taken: then the list is not sent, and `StandingChanged`
        // (queued behind this) takes the place away.
        if !peer.right.is_approved() {
            return Ok(Join::NotApproved);
        }
        match greeting {
            Some(greeting) => self.send(&[greeting, list]).await?,
            None => self.send(&[list]).await?,
        }
        Ok(Join::Listed)
    }

    async fn take_place(&self, peer: &Peer, which: Place) -> Result<Placement, BusError> {
        can_be_reached(&self.handle).await?;
        self.gateway.link.presence.place(&peer.space, &peer.id, self.session.epoch(), which).await
    }

    /// Without presence nobody can be listed. A session that has its place keeps it, and its socket.
    pub(super) async fn place_later(&mut self) -> Result<(), End> {
        if !self.session.is_placed() {
            return Err(End::Close(CloseCode::Unavailable));
        }
        if !self.session.has(Capabilities::FEEDBACK) {
            return Ok(());
        }
        let message = "other nodes cannot be reached now: register again later for a list".to_owned();
        self.send(&[ServerMessage::Error { code: "bus_unavailable", message }]).await
    }

    pub(super) fn offers(&self) -> Offers {
        let Gateway { id, config, .. } = &*self.gateway;
        let ice = self.session.has(Capabilities::ICE);
        let resume = self.session.has(Capabilities::RESUME) && !config.resume_window.is_zero();
        Offers {
            ice_servers: ice.then(|| self.gateway.ice_servers(&self.handle, Instant::now())),
            resume: resume.then(|| self.handle.resume_offer(id, config.resume_window)),
        }
    }

    pub(super) async fn unplace(&mut self) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        self.handle.set_place(None);
        let presence = &self.gateway.link.presence;
        if let Err(error) = presence.unplace(&peer.space, &peer.id, self.session.epoch()).await {
            tracing::warn!(%error, "a revoked peer could not be unlisted yet");
        }
        match self.session.farewell() {
            Some(farewell) if peer.right.standing() == Standing::Revoked => self.send(&[farewell]).await,
            _ => Ok(()),
        }
    }

    /// Takes up a former session of this client, if what it left can be had.
    pub(super) async fn resume(&mut self, token: Box<str>, received: Option<u64>) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        let request = TakeOver {
            space: peer.space.clone(),
            peer: peer.id.clone(),
            by: self.session.epoch(),
            to: self.gateway.id.clone(),
            token,
            received,
        };
        let heir = Heir { space: peer.space.clone(), peer: peer.id.clone(), by: self.session.epoch() };
        match self.gateway.fetch_estate(request).await {
            Some(estate) if self.goes_on(&estate) => return self.inherit(estate).await,
            Some(estate) => self.gateway.refuse_estate(&heir, &estate),
            None => {}
        }
        self.gateway.metrics.comings.resumed("fresh");
        self.send(&[ServerMessage::Resumed(Resumed::Fresh)]).await
    }

    /// Whether nothing came between the session that left this and ours. A client that began anew and lost its connection
    /// before it heard so shows the token from before: by then the others were told that it went and came, and it has to
    /// hear who is here as one that is new (DESIGN G9).
    pub(super) fn goes_on(&self, estate: &Estate) -> bool {
        self.inherited.is_none() || estate.place.is_none() || self.inherited == estate.place
    }

    /// Goes on where the former session was: what it had not written follows, each message checked again, in one turn
    /// with the word that it does.
    pub(super) async fn inherit(&mut self, mut estate: Estate) -> Result<(), End> {
        self.gateway.metrics.comings.resumed("recovered");
        let mut mail = resume::into_mail(&self.gateway, &self.space, &mut estate);
        self.session.on_resumed(resume::inheritance(&estate, &mail));
        self.handle.goes_on_for(estate.first_epoch);
        self.handle.set_place(estate.place);
        self.handle.note(&self.session);
        let resume = self.handle.resume_offer(&self.gateway.id, self.gateway.config.resume_window);
        for open in estate.unanswered {
            let _never_evicts = self.sent_away(open.id, &open.target);
        }
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let whole = mail.len();
        let mut turn = Turn::default();
        while !mail.is_empty() {
            self.collect(&mut mail, now, &mut turn, usize::MAX);
        }
        let (recovered, lost) = (turn.written as u64, estate.lost + (whole - turn.written) as u64);
        let mut frames = vec![];
        let resumed = Resumed::Recovered { recovered, lost, resume };
        self.encode(&ServerMessage::Resumed(resumed), &mut frames);
        frames.append(&mut turn.frames);
        announce(&turn.signals);
        let result = self.write_checked(frames).await;
        self.handle.end_turn();
        self.account(&turn.signals, now, result.is_ok());
        self.handle.outbox.release();
        self.schedule();
        result
    }
}
