//! Messages for peers.

use std::time::Instant;

use heliograph_core::id::PeerId;
use serde_json::value::RawValue;

use super::{Link, LinkId, Session, Stage};
use crate::frame;
use crate::outcome::{Outcome, Reason, Refused, Unknown};

/// A frame that is to be written now.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) link: LinkId,
    pub(crate) text: String,
}

impl Session {
    /// Where messages go. Once a new socket has asked to resume, that is the one: it reads them after our `register`,
    /// while the old one may be closed before it has read them.
    fn outgoing(&self) -> Option<LinkId> {
        let dialing = self.dialing.as_ref().filter(|link| link.stage == Stage::Resuming);
        dialing.or(self.current.as_ref()).map(|link: &Link| link.id)
    }

    /// A message whose outcome nobody waits for.
    pub(crate) fn post(&self, kind: &str, target: &PeerId, payload: &RawValue) -> Result<Outgoing, Refused> {
        self.compose(kind, target, payload, None)
    }

    /// A message whose outcome somebody waits for, who calls it by `number`; each number once. If the frame cannot be
    /// written, [`Self::not_written`] has to be told.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        number: u64,
        (kind, target, payload): (&str, &PeerId, &RawValue),
    ) -> Result<(Outgoing, Option<Outcome>), Outcome> {
        if !self.grants_feedback {
            let outgoing = self.compose(kind, target, payload, None).map_err(undeliverable)?;
            return Ok((outgoing, Some(Outcome::Unknown(Unknown::NotGranted))));
        }
        if self.pending.is_full() {
            return Err(Outcome::Undeliverable(Reason::TooManyPending));
        }
        let id = self.pending.id(number);
        let outgoing = self.compose(kind, target, payload, Some(&id)).map_err(undeliverable)?;
        let until = now.checked_add(self.settings.feedback_within).unwrap_or(now);
        self.pending.add(number, outgoing.link, until);
        Ok((outgoing, None))
    }

    /// Nobody will answer for this one.
    pub(crate) fn not_written(&mut self, number: u64) {
        self.pending.remove(number);
    }

    fn compose(
        &self,
        kind: &str,
        target: &PeerId,
        payload: &RawValue,
        id: Option<&str>,
    ) -> Result<Outgoing, Refused> {
        if !frame::may_be_sent(kind) {
            return Err(Refused::Malformed);
        }
        let (Some(link), Some(me)) = (self.outgoing(), &self.me) else { return Err(Refused::Offline) };
        if payload.get().len() > self.settings.max_frame_bytes {
            return Err(Refused::TooLarge);
        }
        let text = frame::message(kind, me, target, payload, id);
        if text.len() > self.settings.max_frame_bytes {
            return Err(Refused::TooLarge);
        }
        Ok(Outgoing { link, text })
    }
}

fn undeliverable(refused: Refused) -> Outcome {
    Outcome::Undeliverable(refused.into())
}
