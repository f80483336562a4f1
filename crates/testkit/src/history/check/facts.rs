//! A history put in order once, for all rules: messages, sockets, and sessions with their resumptions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::event::{End, Event, History, Peer, Resumed, What};
use super::{Findings, Rule};

/// The place of an event in the history.
pub(super) type Index = usize;

/// Which session of all.
pub(super) type SessionNo = usize;

/// All that is recorded of one message.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pub(super) sent: Option<(Index, &'a Event)>,
    pub(super) copies: Vec<&'a Event>,
    pub(super) told: Vec<&'a Event>,
}

/// One socket.
#[derive(Debug, Default)]
pub(super) struct Socket<'a> {
    pub(super) connected: Option<&'a Event>,
    /// Its first list or its resumption.
    pub(super) stands: Option<&'a Event>,
    pub(super) ended: Option<(End, &'a Event)>,
    pub(super) abandoned: Option<&'a Event>,
    pub(super) session: Option<SessionNo>,
    /// What was sent on it up to here was certainly read by the service.
    pub(super) read_up_to: Index,
    asked: BTreeMap<u64, Index>,
}

impl Socket<'_> {
    /// Whether it was open to the end of the client's work.
    pub(super) fn lasted(&self) -> bool {
        self.abandoned.is_none() && self.ended.is_none_or(|(end, _)| end == End::Finished)
    }
}

/// A session with all its resumptions.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) peer: &'a Peer,
    pub(super) sockets: Vec<u32>,
    pub(super) begin: &'a Event,
    /// Its lists but the first.
    pub(super) lists: Vec<&'a Event>,
    /// When it was lost to its client: it ended and nobody resumed it.
    pub(super) broken: Option<Duration>,
    /// Until when the service may have believed in it.
    pub(super) until: Duration,
    /// How much its resumptions said was lost.
    pub(super) lost: u64,
}

/// The whole history.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    pub(super) messages: BTreeMap<&'a str, Message<'a>>,
    pub(super) sockets: BTreeMap<(&'a Peer, u32), Socket<'a>>,
    pub(super) sessions: Vec<Session<'a>>,
    /// The sessions of each peer, in their order.
    pub(super) by_peer: BTreeMap<&'a Peer, Vec<SessionNo>>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(history: &'a History, findings: &mut Findings) -> Self {
        let mut facts = Self {
            history,
            messages: BTreeMap::new(),
            sockets: BTreeMap::new(),
            sessions: vec![],
            by_peer: BTreeMap::new(),
        };
        for (index, event) in history.0.iter().enumerate() {
            facts.take_message(index, event, findings);
            facts.take_socket(index, event);
            facts.take_session(event, findings);
        }
        facts.prove_reading();
        facts.find_breaks();
        facts
    }

    /// The session to which an event belongs.
    pub(super) fn session_no(&self, event: &'a Event) -> Option<SessionNo> {
        self.socket(event)?.session
    }

    /// The socket on which an event was recorded.
    pub(super) fn socket(&self, event: &'a Event) -> Option<&Socket<'a>> {
        self.sockets.get(&(&event.peer, event.socket))
    }

    /// The sessions of a peer.
    pub(super) fn sessions_of(&self, peer: &Peer) -> impl Iterator<Item = &Session<'a>> {
        self.by_peer.get(peer).into_iter().flatten().map(|&no| &self.sessions[no])
    }

    fn take_message(&mut self, index: Index, event: &'a Event, findings: &mut Findings) {
        match &event.what {
            What::Sent { id, .. } => {
                let message = self.messages.entry(id).or_default();
                if let Some((_, first)) = message.sent {
                    findings.add(Rule::IdUsedTwice, "", [first, event]);
                }
                message.sent.get_or_insert((index, event));
            }
            What::Received { id, .. } => self.messages.entry(id).or_default().copies.push(event),
            What::Told { id, .. } => self.messages.entry(id).or_default().told.push(event),
            _ => {}
        }
    }

    fn take_socket(&mut self, index: Index, event: &'a Event) {
        if matches!(event.what, What::Refused(_) | What::RevokeAnswered(_) | What::WriteBegan(_)) {
            return; // not on a socket
        }
        let socket = self.sockets.entry((&event.peer, event.socket)).or_default();
        match &event.what {
            What::Connected => socket.connected = Some(event),
            What::FirstList { .. } | What::Resumed(Resumed::Recovered { .. }) => {
                socket.stands.get_or_insert(event);
            }
            What::Asked(question) => drop(socket.asked.insert(*question, index)),
            What::Answered(question) => {
                let asked = socket.asked.remove(question).unwrap_or(0);
                socket.read_up_to = socket.read_up_to.max(asked);
            }
            What::Abandoned => socket.abandoned = Some(event),
            What::Ended(end) => socket.ended = Some((*end, event)),
            _ => {}
        }
    }

    fn take_session(&mut self, event: &'a Event, findings: &mut Findings) {
        let lost = match &event.what {
            What::FirstList { .. } => return self.begin_session(event),
            What::List { .. } => {
                if let Some(no) = self.session_no(event) {
                    self.sessions[no].lists.push(event);
                }
                return;
            }
            What::Resumed(Resumed::Recovered { lost, .. }) => *lost,
            _ => return,
        };
        let Some(&no) = self.by_peer.get(&event.peer).and_then(|sessions| sessions.last()) else {
            findings.add(Rule::ResumedNothing, "", [event]);
            return self.begin_session(event);
        };
        self.sessions[no].lost += lost;
        self.join_session(event, no);
    }

    fn begin_session(&mut self, event: &'a Event) {
        let no = self.sessions.len();
        self.sessions.push(Session {
            peer: &event.peer,
            sockets: vec![],
            begin: event,
            lists: vec![],
            broken: None,
            until: Duration::MAX,
            lost: 0,
        });
        self.by_peer.entry(&event.peer).or_default().push(no);
        self.join_session(event, no);
    }

    fn join_session(&mut self, event: &'a Event, no: SessionNo) {
        self.sessions[no].sockets.push(event.socket);
        self.sockets.entry((&event.peer, event.socket)).or_default().session = Some(no);
    }

    /// Who has an answer to one message, or whose message arrived, had all earlier ones of the socket read too.
    fn prove_reading(&mut self) {
        for message in self.messages.values() {
            let Some((index, sent)) = message.sent else { continue };
            if message.told.is_empty() && message.copies.is_empty() {
                continue;
            }
            if let Some(socket) = self.sockets.get_mut(&(&sent.peer, sent.socket)) {
                socket.read_up_to = socket.read_up_to.max(index);
            }
        }
    }

    fn find_breaks(&mut self) {
        for sessions in self.by_peer.values() {
            for (&no, next) in sessions.iter().zip(sessions.iter().skip(1).map(Some).chain([None])) {
                let replaced = next.map(|&next| self.sessions[next].begin.at);
                let session = &mut self.sessions[no];
                let last = session.sockets.last().and_then(|&last| self.sockets.get(&(session.peer, last)));
                let ended = last.filter(|socket| !socket.lasted()).map(|socket| {
                    let end = socket.ended.map(|(_, event)| event).or(socket.abandoned);
                    end.map_or(Duration::ZERO, |event| event.at)
                });
                session.broken = ended.or(replaced);
                session.until = replaced.unwrap_or(Duration::MAX);
            }
        }
    }
}
