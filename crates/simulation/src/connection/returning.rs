//! Coming back: a session takes up what its former self left, or begins anew.

use std::collections::VecDeque;

use heliograph_bus::{Due, Estate};
use heliograph_core::limits;
use heliograph_core::message::{Resumed, ServerMessage};
use heliograph_core::replay::Written;
use heliograph_core::session::{Inheritance, Mail};

use super::End;
use crate::net::{Down, HandleNo, Net};
use crate::node::{Node, RESUME_WINDOW};

impl Node {
    pub(crate) fn begin_anew(&mut self, no: HandleNo, net: &mut Net) {
        if self.handle(no).session.is_none() {
            return;
        }
        self.decided(no, net);
        self.write(no, vec![Down::Message(Box::new(ServerMessage::Resumed(Resumed::Fresh)))], net);
        self.go_on(no, net);
    }

    pub(crate) fn inherit(&mut self, no: HandleNo, estate: Estate, net: &mut Net) {
        if self.handle(no).session.is_none() {
            return; // its client went away meanwhile, and the estate with it
        }
        let mut mail: VecDeque<Mail> = VecDeque::new();
        let (place, first_epoch) = (estate.place, estate.first_epoch);
        for (seq, due) in estate.written {
            let written = match due {
                Due::Signal(remote) => Written::Signal(self.local(remote, net)),
                Due::Receipt(receipt) => Written::Receipt(receipt),
            };
            mail.push_back(Mail::Again(seq, written));
        }
        for due in estate.waiting {
            mail.push_back(match due {
                Due::Signal(remote) => Mail::Signal(self.local(remote, net)),
                Due::Receipt(receipt) => Mail::Receipt(receipt),
            });
        }
        // Whoever still wants a receipt for what was written has not been told.
        let untold = mail.iter().find_map(|mail| match mail {
            Mail::Again(seq, Written::Signal(signal)) if signal.receipt => Some(*seq),
            _ => None,
        });
        let inheritance = Inheritance {
            capabilities: estate.capabilities,
            place: place.unwrap_or_default(),
            next_seq: estate.next_seq,
            confirmed: untold.unwrap_or(estate.next_seq).saturating_sub(1),
        };
        let resume = self.offer(no);
        let give_up = net.clock.instant() + RESUME_WINDOW + limits::ANSWER_GRACE;
        let handle = &mut self.handles[no];
        handle.first_epoch = handle.first_epoch.min(first_epoch);
        handle.place = place;
        let Some(session) = &mut handle.session else { return };
        session.on_resumed(inheritance);
        for open in estate.unanswered {
            let _never_evicts = session.on_sent_away(open.id, open.target, give_up);
        }
        let whole = mail.len() as u64;
        let turn = self.collect(no, &mut mail, net);
        let recovered = turn.frames.len() as u64;
        let lost = estate.lost + whole - recovered;
        let resumed = ServerMessage::Resumed(Resumed::Recovered { recovered, lost, resume });
        let mut frames = vec![Down::Message(Box::new(resumed))];
        frames.extend(turn.frames);
        self.handle_mut(no).outbox.held = false;
        let line = self.handle(no).line;
        let written = net.write_down(line, frames);
        self.account(no, &turn.signals, written, net);
        self.decided(no, net);
        if !written {
            return self.end(no, End::Lost, VecDeque::new(), net);
        }
        self.go_on(no, net);
    }
}
