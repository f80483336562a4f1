//! A client that behaves as the reference of the mesh dialect asks, and writes a history.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::close::Advice;
use heliograph_core::message::{Receipt, Resumed, ServerMessage, Welcome};
use heliograph_testkit::history::{self, What, hash};

use crate::net::{ClientNo, Down, Event, LineNo, Net, NodeNo, Up};

/// How long a client that moves waits for its old node to have read everything.
const BARRIER: Duration = Duration::from_secs(3);
/// Without an answer to a question for so long it gives its connection up.
const GIVE_UP: Duration = Duration::from_secs(4);
/// When it registers again if nobody could say who is there.
const REGISTER_AGAIN: Duration = Duration::from_millis(500);
/// How often it asks.
const ASK_EVERY: Duration = Duration::from_millis(1_500);

/// How a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// At random.
    Busy,
    /// Nothing.
    Quiet,
}

/// A client.
pub(crate) struct Client {
    number: ClientNo,
    pub(crate) name: history::Peer,
    others: Vec<history::Peer>,
    pub(crate) mood: Mood,
    /// The socket that is used, and the one before it, which is read to its end.
    pub(crate) newest: Option<LineNo>,
    old: Option<(LineNo, Option<u64>)>,
    resumed: bool,
    pub(crate) stands: bool,
    token: Option<Box<str>>,
    last: u64,
    sockets: u32,
    sent: u64,
    questions: u64,
    asked: Option<(u64, Duration)>,
    /// While it moves: until when it waits for the old node to have read everything.
    moving: Option<Duration>,
    failures: u32,
}

impl Client {
    pub(crate) fn new(number: ClientNo, names: &[history::Peer]) -> Self {
        let name = Arc::clone(&names[number]);
        Self {
            number,
            others: names.iter().filter(|other| **other != name).cloned().collect(),
            name,
            mood: Mood::Quiet,
            newest: None,
            old: None,
            resumed: false,
            stands: false,
            token: None,
            last: 0,
            sockets: 0,
            sent: 0,
            questions: 0,
            asked: None,
            moving: None,
            failures: 0,
        }
    }

    fn record(&self, net: &mut Net, line: LineNo, what: What) {
        let socket = net.lines[line].number;
        net.record(&self.name, socket, what);
    }

    // ---- connections

    /// Opens a connection to a node.
    pub(crate) fn dial(&mut self, node: NodeNo, net: &mut Net) {
        let line = net.connect(self.number, self.sockets, node);
        self.sockets += 1;
        self.record(net, line, What::Connected);
        if let Some(older) = self.newest.replace(line)
            && let Some((oldest, _)) = self.old.replace((older, None))
        {
            self.let_go(oldest, net);
        }
        (self.resumed, self.stands, self.asked, self.moving) = (false, false, None, None);
        if let Some(token) = self.token.clone() {
            net.write_up(line, Up::Resume { token, received: self.last });
        }
        net.write_up(line, Up::Register);
    }

    fn let_go(&mut self, line: LineNo, net: &mut Net) {
        self.record(net, line, What::Ended(history::End::Reset));
        net.reset(line);
    }

    /// The connection in use is gone; another one follows.
    fn come_back(&mut self, later: bool, net: &mut Net) {
        (self.newest, self.stands, self.moving) = (None, false, None);
        self.failures += 1;
        let ceiling = 50_000 << self.failures.min(5);
        let pause =
            net.dice.micros(0, ceiling) + if later { Duration::from_millis(300) } else { Duration::ZERO };
        net.clock.after(pause, Event::Dial(self.number));
    }

    /// Breaks the connection.
    pub(crate) fn reset(&mut self, net: &mut Net) {
        if let Some(line) = self.newest {
            self.let_go(line, net);
            self.come_back(false, net);
        }
    }

    /// The client's network goes away: the connection stays and nothing passes. It comes back by another one.
    pub(crate) fn abandon(&mut self, net: &mut Net) {
        if let Some(line) = self.newest {
            self.record(net, line, What::Abandoned);
            net.lines[line].mute = true;
            net.lines[line].client_open = false;
            self.come_back(false, net);
        }
    }

    /// The program restarts: nothing is remembered.
    pub(crate) fn forget(&mut self, net: &mut Net) {
        (self.token, self.last) = (None, 0);
        self.reset(net);
    }

    // ---- what it says

    pub(crate) fn send(&mut self, to: Option<usize>, net: &mut Net) {
        let Some(line) = self.newest.filter(|_| self.stands && self.moving.is_none()) else { return };
        let to = to.unwrap_or_else(|| net.dice.below(self.others.len()));
        let Some(to) = self.others.get(to).cloned() else { return };
        self.sent += 1;
        let id = format!("{}.{}", self.name, self.sent);
        let payload = format!(r#"{{"from":"{}","to":"{to}","n":{}}}"#, self.name, self.sent);
        let what = What::Sent { id: (&*id).into(), to: Arc::clone(&to), hash: hash(payload.as_bytes()) };
        self.record(net, line, what);
        net.write_up(line, Up::Send { id: id.into(), to: (&*to).into(), payload: payload.into() });
    }

    pub(crate) fn next_send(&mut self, net: &mut Net) {
        if self.mood == Mood::Busy {
            self.send(None, net);
        }
        let pause = net.dice.micros(20_000, 400_000);
        net.clock.after(pause, Event::Send(self.number));
    }

    /// Asks whether everything was read, and gives the connection up if nobody answers.
    pub(crate) fn next_ask(&mut self, net: &mut Net) {
        net.clock.after(ASK_EVERY, Event::Ask(self.number));
        let Some(line) = self.newest else { return };
        match self.asked {
            Some((_, since)) if net.clock.now() > since + GIVE_UP => {
                self.let_go(line, net);
                self.come_back(false, net);
            }
            Some(_) => {}
            None => self.ask(line, net),
        }
    }

    fn ask(&mut self, line: LineNo, net: &mut Net) {
        self.questions += 1;
        self.asked = Some((self.questions, net.clock.now()));
        self.record(net, line, What::Asked(self.questions));
        net.write_up(line, Up::Ask(self.questions));
    }

    /// The node drains: stops sending there, and moves when the node has read everything.
    pub(crate) fn begin_to_move(&mut self, line: LineNo, net: &mut Net) {
        if self.newest == Some(line) && self.moving.is_none() {
            self.moving = Some(net.clock.now() + BARRIER);
            self.ask(line, net);
            net.clock.after(BARRIER, Event::Move { client: self.number, line });
        }
    }

    /// Whether it is time to open the new connection: the old node has read everything, or does not answer.
    pub(crate) fn may_move(&self, line: LineNo, now: Duration) -> bool {
        self.newest == Some(line) && self.moving.is_some_and(|give_up| self.asked.is_none() || now >= give_up)
    }

    pub(crate) fn register_again(&mut self, line: LineNo, net: &mut Net) {
        if self.newest == Some(line) {
            net.write_up(line, Up::Register);
        }
    }

    // ---- what it hears

    pub(crate) fn heard(&mut self, line: LineNo, frame: Down, net: &mut Net) {
        if self.newest == Some(line) {
            self.newest_said(line, frame, net);
        } else if let Some((_, former)) = self.old.filter(|(old, _)| *old == line) {
            self.old_said(line, former, frame, net);
        }
    }

    fn newest_said(&mut self, line: LineNo, frame: Down, net: &mut Net) {
        match frame {
            Down::Message(message) => self.told(line, *message, net),
            Down::Answered(question) => {
                self.record(net, line, What::Answered(question));
                if self.asked.is_some_and(|(asked, _)| asked == question) {
                    self.asked = None;
                }
                if self.moving.is_some() {
                    net.clock.after(Duration::ZERO, Event::Move { client: self.number, line });
                }
            }
            Down::Ping(covers) => net.write_up(line, Up::Pong(covers)),
            Down::Close(code) => {
                self.ended(line, history::End::Code(code.code()), net);
                self.come_back(code.advice() != Advice::ComeBack, net);
            }
            Down::Broken => {
                self.ended(line, history::End::NoCode, net);
                self.come_back(false, net);
            }
        }
    }

    fn ended(&mut self, line: LineNo, end: history::End, net: &mut Net) {
        net.lines[line].client_open = false;
        self.record(net, line, What::Ended(end));
    }

    fn told(&mut self, line: LineNo, message: ServerMessage, net: &mut Net) {
        match message {
            ServerMessage::Resumed(Resumed::Fresh) => {
                self.record(net, line, What::Resumed(history::Resumed::Fresh));
                self.begin_anew();
            }
            ServerMessage::Resumed(Resumed::Recovered { recovered, lost, resume }) => {
                self.record(net, line, What::Resumed(history::Resumed::Recovered { recovered, lost }));
                self.resumed = true;
                self.token = Some(resume.token);
            }
            ServerMessage::PeerList { peers, welcome: Some(welcome) } => {
                let peers = peers.iter().map(|member| member.peer.as_str().into()).collect();
                self.listed(line, peers, *welcome, net);
            }
            ServerMessage::GoAway { reconnect_after_ms, .. } => {
                self.record(net, line, What::GoAway);
                let after = Duration::from_millis(reconnect_after_ms);
                net.clock.after(after, Event::Move { client: self.number, line });
            }
            ServerMessage::Error { code: "bus_unavailable", .. } => {
                // It asks to register again later.
                net.clock.after(REGISTER_AGAIN, Event::Register { client: self.number, line });
            }
            message => {
                let mut last = self.last;
                self.note(line, message, &mut last, net);
                self.last = last;
            }
        }
    }

    /// Records what arrived, unless its number says that it is there already.
    fn note(&self, line: LineNo, message: ServerMessage, last: &mut u64, net: &mut Net) {
        let (what, seq) = match message {
            ServerMessage::Signal { signal, seq } => {
                let id = signal.id.as_deref().unwrap_or_default().into();
                let from = signal.from.id.as_str().into();
                (What::Received { from, id, seq, hash: hash(&signal.payload) }, seq)
            }
            ServerMessage::Receipt { receipt, seq } => (told(&receipt, seq), seq),
            _ => return,
        };
        match seq {
            Some(seq) if seq <= *last => return self.record(net, line, What::Repeated { seq }),
            Some(seq) => *last = seq,
            None => {}
        }
        self.record(net, line, what);
    }

    fn begin_anew(&mut self) {
        if let Some((_, former)) = &mut self.old {
            former.get_or_insert(self.last);
        }
        (self.token, self.last) = (None, 0);
    }

    fn listed(&mut self, line: LineNo, peers: Vec<history::Peer>, welcome: Welcome, net: &mut Net) {
        let epoch = welcome.epoch.0;
        let what = if self.resumed || self.stands {
            What::List { epoch, peers }
        } else {
            self.begin_anew();
            What::FirstList { epoch, peers }
        };
        self.record(net, line, what);
        self.token = welcome.resume.map(|offer| offer.token).or(self.token.take());
        self.stands = true;
        self.failures = 0;
    }

    fn old_said(&mut self, line: LineNo, former: Option<u64>, frame: Down, net: &mut Net) {
        match frame {
            Down::Message(message) => {
                let mut last = former.unwrap_or(self.last);
                self.note(line, *message, &mut last, net);
                match former {
                    Some(_) => self.old = Some((line, Some(last))),
                    None => self.last = last,
                }
            }
            Down::Answered(question) => self.record(net, line, What::Answered(question)),
            Down::Ping(covers) => net.write_up(line, Up::Pong(covers)),
            Down::Close(code) => self.old_ended(line, history::End::Code(code.code()), net),
            Down::Broken => self.old_ended(line, history::End::NoCode, net),
        }
    }

    fn old_ended(&mut self, line: LineNo, end: history::End, net: &mut Net) {
        self.old = None;
        self.ended(line, end, net);
    }

    /// The end of the run.
    pub(crate) fn finish(&mut self, net: &mut Net) {
        for line in self.newest.take().into_iter().chain(self.old.take().map(|(line, _)| line)) {
            self.record(net, line, What::Ended(history::End::Finished));
        }
    }
}

fn told(receipt: &Receipt, seq: Option<u64>) -> What {
    let verdict = match receipt.failure {
        None => history::Verdict::Delivered,
        Some(reason) => history::Verdict::Undeliverable(reason.as_str().into()),
    };
    What::Told { id: receipt.id.as_deref().unwrap_or_default().into(), verdict, seq }
}
