//! A client that records everything, and behaves as the reference of the mesh dialect asks: it resumes, drops what it
//! has by its number, moves when its node drains, and comes back at a random pace.

mod hearing;
mod orders;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heliograph_core::close::{Advice, CloseCode};
use rand::RngExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::{End, Peer, Recorder, What};
use super::frame;
use super::line::{Line, Refusal};
use super::swarm::{Nodes, Options, Status};
use super::traffic::Traffic;

pub(super) use orders::Order;

/// The first ceiling of the pause before coming back.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How much longer it is when the service says "later".
const LATER: Duration = Duration::from_secs(1);
/// How often the service is asked whether it has read everything.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long a client that moves waits for its old node to have read everything.
const BARRIER: Duration = Duration::from_secs(3);
/// Most connections that nobody reads; each holds a port.
const MAX_DEAD: usize = 8;

/// What a client does after a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Again,
    AgainLater,
    Stay,
}

/// The session as the client knows it.
#[derive(Debug, Default)]
struct Session {
    token: Option<String>,
    /// The number of the last thing that arrived.
    last: u64,
}

/// The socket that is used, and the one before it, which is read to its end.
struct Lines {
    newest: Line,
    /// With the last number of its session, if that was not resumed.
    old: Option<(Line, Option<u64>)>,
    /// Whether `newest` answered `resume`: the session goes on.
    resumed: bool,
    /// Whether its list came.
    stands: bool,
    move_at: Option<Instant>,
    /// Whether the service could not say who is there: then the client registers again.
    without_list: bool,
    /// The question without an answer.
    asked: Option<(u64, Instant)>,
}

impl Lines {
    fn of(newest: Line) -> Self {
        Self {
            newest,
            old: None,
            resumed: false,
            stands: false,
            move_at: None,
            without_list: false,
            asked: None,
        }
    }
}

/// What wakes a client.
enum Wake {
    Newest(Result<String, End>),
    Old(Result<String, End>),
    Order(Option<Order>),
    Send,
    Ask,
    Move,
}

/// One client.
pub(super) struct Client {
    peer: Peer,
    credential: String,
    nodes: Nodes,
    recorder: Arc<Recorder>,
    options: Options,
    sending: watch::Receiver<bool>,
    status: Arc<Status>,
    traffic: Traffic,
    session: Session,
    sockets: u32,
    questions: u64,
    failures: u32,
    dead: Vec<Line>,
    finished: bool,
}

impl Client {
    pub(super) fn new(
        traffic: Traffic,
        (peer, credential): (Peer, String),
        nodes: Nodes,
        recorder: Arc<Recorder>,
        (options, sending): (Options, watch::Receiver<bool>),
        status: Arc<Status>,
    ) -> Self {
        Self {
            peer,
            credential,
            nodes,
            recorder,
            options,
            sending,
            status,
            traffic,
            session: Session::default(),
            sockets: 0,
            questions: 0,
            failures: 0,
            dead: vec![],
            finished: false,
        }
    }

    /// Lives until it is told to finish, or told by the service not to come back.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while !self.finished {
            let next = match self.dial(None).await {
                Ok(line) => self.serve(line, &mut orders).await,
                Err(refusal) => self.refused(refusal).await,
            };
            self.status.stands.store(false, Ordering::Release);
            if next == Next::Stay {
                break;
            }
            self.pause(next).await;
        }
        // Nobody is left to hear an answer.
        self.status.open.store(0, Ordering::Release);
        self.status.gone.store(true, Ordering::Release);
    }

    fn record(&self, socket: u32, what: What) {
        self.recorder.record(&self.peer, socket, what);
    }

    /// Opens a socket to a random node, not to `but` if there is another.
    async fn dial(&mut self, but: Option<&Line>) -> Result<Line, Refusal> {
        let mut nodes = self.nodes.now();
        if nodes.len() > 1 {
            nodes.retain(|node| but.is_none_or(|line| line.node != *node));
        }
        assert!(!nodes.is_empty(), "there are no nodes to go to");
        let node = nodes[self.traffic.dice.random_range(0..nodes.len())];
        let dialed = Line::dial(node, &self.credential, self.sockets).await;
        match &dialed {
            Ok(line) => {
                self.record(line.number, What::Connected);
                self.sockets += 1;
            }
            Err(refusal) => self.record(self.sockets, What::Refused(refusal.status)),
        }
        dialed
    }

    async fn refused(&mut self, refusal: Refusal) -> Next {
        if let Some(after) = refusal.retry_after {
            tokio::time::sleep(after).await;
        }
        if matches!(refusal.status, Some(401 | 403)) { Next::Stay } else { Next::Again }
    }

    /// Full jitter: a random time below a ceiling that doubles with each failure.
    async fn pause(&mut self, next: Next) {
        let ceiling = FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(10));
        let ceiling = ceiling.min(self.options.longest_pause);
        self.failures += 1;
        let least =
            if next == Next::AgainLater { LATER.min(self.options.longest_pause) } else { Duration::ZERO };
        tokio::time::sleep(least + ceiling.mul_f64(self.traffic.dice.random())).await;
    }

    /// Uses `line` to its end, and those that it moves to.
    async fn serve(&mut self, line: Line, orders: &mut mpsc::Receiver<Order>) -> Next {
        let mut lines = Lines::of(line);
        self.greet(&mut lines.newest).await;
        let mut send_at = self.next_send();
        let mut ask_at = Instant::now() + ASK_EVERY;
        loop {
            let may_send = lines.stands && *self.sending.borrow();
            let wake = tokio::select! {
                text = lines.newest.next() => Wake::Newest(text),
                text = next_of_old(&mut lines.old) => Wake::Old(text),
                order = orders.recv() => Wake::Order(order),
                () = tokio::time::sleep_until(send_at), if may_send => Wake::Send,
                () = tokio::time::sleep_until(ask_at) => Wake::Ask,
                () = tokio::time::sleep_until(lines.move_at.unwrap_or(ask_at)), if lines.move_at.is_some() => Wake::Move,
            };
            let next = match wake {
                Wake::Newest(text) => self.newest_said(&mut lines, text),
                Wake::Old(text) => self.old_said(&mut lines, text),
                Wake::Order(order) => match self.obey(lines, order).await {
                    Ok(same) => {
                        lines = same;
                        send_at = send_at.min(self.next_send()); // it may have been told to hurry
                        None
                    }
                    Err(next) => return next,
                },
                Wake::Send => {
                    self.send(&mut lines.newest).await;
                    send_at = self.next_send();
                    None
                }
                Wake::Ask => {
                    ask_at = Instant::now() + ASK_EVERY;
                    self.ask_or_give_up(&mut lines).await
                }
                Wake::Move => self.change_nodes(&mut lines).await,
            };
            self.note_open();
            if let Some(next) = next {
                return next;
            }
        }
    }

    fn note_open(&self) {
        self.status.open.store(self.traffic.open(), Ordering::Release);
    }

    fn next_send(&mut self) -> Instant {
        let mean = if self.options.rate > 0.0 { 1.0 / self.options.rate } else { 3_600.0 };
        Instant::now() + Duration::from_secs_f64(mean * self.traffic.dice.random_range(0.5..1.5))
    }

    /// Says who it was before, if it was somebody, and registers.
    async fn greet(&mut self, line: &mut Line) {
        let mut texts = vec![];
        if let Some(token) = &self.session.token {
            texts.push(frame::resume(&self.peer, token, self.session.last));
        }
        texts.push(frame::register(&self.peer));
        line.send(&texts).await;
    }

    async fn send(&mut self, line: &mut Line) {
        if let Some(outgoing) = self.traffic.next(line.number) {
            self.record(line.number, outgoing.what);
            line.send(&[outgoing.text]).await;
        }
    }

    async fn ask(&mut self, lines: &mut Lines) -> u64 {
        self.questions += 1;
        lines.asked = Some((self.questions, Instant::now()));
        self.record(lines.newest.number, What::Asked(self.questions));
        lines.newest.send(&[frame::ask(&self.peer, self.questions)]).await;
        self.questions
    }

    async fn ask_or_give_up(&mut self, lines: &mut Lines) -> Option<Next> {
        if std::mem::take(&mut lines.without_list) {
            lines.newest.send(&[frame::register(&self.peer)]).await;
        }
        match lines.asked {
            Some((_, since)) if since.elapsed() > self.options.give_up_after => {
                self.ended(&lines.newest, End::Reset);
                Some(Next::Again)
            }
            Some(_) => None,
            None => {
                self.ask(lines).await;
                None
            }
        }
    }

    fn ended(&mut self, line: &Line, end: End) {
        self.record(line.number, What::Ended(end));
        self.traffic.socket_ended(line.number);
    }

    /// The node drains: when it has read everything, another one takes over.
    async fn change_nodes(&mut self, lines: &mut Lines) -> Option<Next> {
        lines.move_at = None;
        if let Err(end) = self.read_all(lines).await {
            self.ended(&lines.newest, end);
            return Some(advice(end));
        }
        let Ok(line) = self.dial(Some(&lines.newest)).await else {
            lines.move_at = Some(Instant::now() + FIRST_PAUSE);
            return None;
        };
        let old = std::mem::replace(&mut lines.newest, line);
        if let Some((older, _)) = lines.old.replace((old, None)) {
            self.ended(&older, End::Reset);
        }
        (lines.resumed, lines.stands, lines.asked) = (false, false, None);
        self.status.stands.store(false, Ordering::Release);
        self.greet(&mut lines.newest).await;
        None
    }

    /// Waits until the service has read all that was sent, and this client what was written to it before: an answer may
    /// overtake what waits to be written at that moment, but not twice in a row.
    async fn read_all(&mut self, lines: &mut Lines) -> Result<(), End> {
        let give_up = Instant::now() + BARRIER;
        for _ in 0..2 {
            self.ask(lines).await;
            while lines.asked.is_some() {
                match tokio::time::timeout_at(give_up, lines.newest.next()).await {
                    Ok(text) => self.heard(lines, frame::read(&text?)),
                    Err(_) => return Ok(()), // it does not answer; what is lost then shows
                }
            }
        }
        Ok(())
    }
}

async fn next_of_old(old: &mut Option<(Line, Option<u64>)>) -> Result<String, End> {
    match old {
        Some((line, _)) => line.next().await,
        None => std::future::pending().await,
    }
}

/// What the service's close code asks of a client.
fn advice(end: End) -> Next {
    let End::Code(code) = end else { return Next::Again };
    let known = CloseCode::ALL.into_iter().find(|known| known.code() == code);
    match known.map(CloseCode::advice) {
        Some(Advice::StayAway | Advice::Authenticate) => Next::Stay,
        Some(Advice::ComeBack) => Next::Again,
        None if code < 4_000 => Next::Again,
        Some(Advice::ComeBackLater) | None => Next::AgainLater,
    }
}
