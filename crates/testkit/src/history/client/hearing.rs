//! What a client hears, on the socket that it uses and on the one before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::event::{End, Resumed, What};
use super::super::frame::{self, Heard, List};
use super::{Client, Lines, Next, Session, advice};

impl Client {
    pub(super) fn newest_said(&mut self, lines: &mut Lines, text: Result<String, End>) -> Option<Next> {
        match text {
            Ok(text) => {
                self.heard(lines, frame::read(&text));
                None
            }
            Err(end) => {
                self.ended(&lines.newest, end);
                Some(advice(end))
            }
        }
    }

    pub(super) fn heard(&mut self, lines: &mut Lines, heard: Heard) {
        let socket = lines.newest.number;
        match heard {
            Heard::Resumed(resumed, token) => {
                self.record(socket, What::Resumed(resumed));
                match resumed {
                    Resumed::Recovered { .. } => {
                        lines.resumed = true;
                        // The one that was shown is used up.
                        self.session.token = token.or(self.session.token.take());
                    }
                    Resumed::Fresh => self.begin_anew(lines),
                }
            }
            Heard::List(list) => self.listed(lines, list),
            Heard::Answered(question) => {
                self.record(socket, What::Answered(question));
                lines.asked = None;
            }
            Heard::GoAway { after_ms } => {
                self.record(socket, What::GoAway);
                lines.move_at = Some(Instant::now() + Duration::from_millis(after_ms));
            }
            Heard::Line(what, seq) => {
                lines.without_list |= matches!(&what, What::Error(code) if **code == *"bus_unavailable");
                let mut last = self.session.last;
                self.note(socket, what, seq, &mut last);
                self.session.last = last;
            }
            Heard::Other => {}
        }
    }

    /// Records what arrived, unless its number says that it is there already.
    fn note(&mut self, socket: u32, what: What, seq: Option<u64>, last: &mut u64) {
        match seq {
            Some(seq) if seq <= *last => return self.record(socket, What::Repeated { seq }),
            Some(seq) => *last = seq,
            None => {}
        }
        if let What::Told { id, .. } = &what {
            self.traffic.answered(id);
        }
        self.record(socket, what);
    }

    /// What the old socket still brings is of a session that is over.
    fn begin_anew(&mut self, lines: &mut Lines) {
        if let Some((_, last)) = &mut lines.old {
            last.get_or_insert(self.session.last);
        }
        self.session = Session::default();
        self.traffic.began_anew(lines.newest.number);
    }

    fn listed(&mut self, lines: &mut Lines, list: List) {
        let List { epoch, peers, token } = list;
        let what = if lines.resumed || lines.stands {
            What::List { epoch, peers }
        } else {
            self.begin_anew(lines);
            What::FirstList { epoch, peers }
        };
        self.record(lines.newest.number, what);
        self.session.token = token.or(self.session.token.take());
        lines.stands = true;
        self.failures = 0;
        self.status.stands.store(true, Ordering::Release);
    }

    pub(super) fn old_said(&mut self, lines: &mut Lines, text: Result<String, End>) -> Option<Next> {
        let (line, former) = lines.old.take()?;
        match text {
            Ok(text) => {
                let mut last = former.unwrap_or(self.session.last);
                if let Heard::Line(what, seq) = frame::read(&text) {
                    self.note(line.number, what, seq, &mut last);
                }
                if former.is_none() {
                    self.session.last = last;
                }
                lines.old = Some((line, former.map(|_| last)));
            }
            Err(end) => self.ended(&line, end),
        }
        None
    }
}
