//! Two peers in one process, over real sockets, with signals that go as the test has them go.

mod paths;
mod relay;

use std::sync::Mutex;

use heliograph_client::{Reason, Unknown};
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use paths::Paths;

const PATIENCE: Duration = Duration::from_secs(40);
/// How long a signal is on its way.
const DELAY: Duration = Duration::from_millis(5);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

fn id(text: &str) -> PeerId {
    PeerId::parse(text).unwrap()
}

/// What becomes of a signal on its way.
type Fate = Box<dyn FnMut(Signal) -> Option<Signal> + Send>;

/// The way to one peer: in order, with a delay.
struct Way {
    to: mpsc::UnboundedSender<Signal>,
    fate: Mutex<Fate>,
    unavailable: bool,
}

#[async_trait]
impl Signaler for Way {
    async fn signal(&self, _to: &PeerId, signal: Signal) -> Outcome {
        if self.unavailable {
            return Outcome::Undeliverable(Reason::Unavailable);
        }
        let signal = (self.fate.lock().unwrap())(signal);
        if let Some(signal) = signal
            && self.to.send(signal).is_err()
        {
            return Outcome::Undeliverable(Reason::Unavailable);
        }
        // What is lost without a word is delivered as far as the service knows.
        tokio::time::sleep(DELAY).await;
        Outcome::Delivered
    }
}

/// One side.
struct End {
    peer: Arc<Peer>,
    events: mpsc::Receiver<(PeerId, FromPeer)>,
}

/// Where signals for an end come in.
type Signals = mpsc::UnboundedReceiver<Signal>;

impl End {
    fn start(me: &str, other: &str, settings: &PeerSettings, way: Way, mut signals: Signals) -> Self {
        let (tell, events) = mpsc::channel(8);
        let peer = Arc::new(Peer::spawn(&id(me), id(other), settings, Arc::new(way), tell));
        let told = Arc::downgrade(&peer);
        tokio::spawn(async move {
            while let Some(signal) = signals.recv().await {
                tokio::time::sleep(DELAY).await;
                let Some(peer) = told.upgrade() else { break };
                assert!(peer.tell(ToPeer::Signal(signal)));
            }
        });
        assert!(peer.tell(ToPeer::Present(true)));
        Self { peer, events }
    }

    async fn next(&mut self, what: &str) -> FromPeer {
        within(what, self.events.recv()).await.unwrap().1
    }

    async fn opens(&mut self) {
        assert_eq!(self.next("open").await, FromPeer::Opened);
        let snapshot = self.peer.snapshot();
        assert!(snapshot.open, "{snapshot:?}");
    }

    async fn hears(&mut self, text: &str) {
        assert_eq!(self.next(text).await, FromPeer::Message(text.into()));
    }

    fn is_silent(&mut self) {
        assert_eq!(self.events.try_recv(), Err(TryRecvError::Empty));
    }
}

fn all() -> Fate {
    Box::new(Some)
}

fn way() -> (impl FnOnce(Fate) -> Way, Signals) {
    let (to, signals) = mpsc::unbounded_channel();
    (move |fate| Way { to, fate: Mutex::new(fate), unavailable: false }, signals)
}

/// `a` and `b`, who know of each other; nobody has offered. What each sends meets its fate.
fn pair_with(settings: &PeerSettings, of_a: Fate, of_b: Fate) -> (End, End) {
    let (to_b, at_b) = way();
    let (to_a, at_a) = way();
    (End::start("a", "b", settings, to_b(of_a), at_a), End::start("b", "a", settings, to_a(of_b), at_b))
}

fn pair() -> (End, End) {
    pair_with(&PeerSettings::default(), all(), all())
}

fn message(n: usize) -> String {
    format!(r#"{{"type":"task","n":{n}}}"#)
}

async fn talk(a: &mut End, b: &mut End) {
    let (from_a, from_b) = (r#"{"type":"hello","from":"a"}"#, r#"{"type":"hello","from":"b"}"#);
    a.peer.send(from_a).await.unwrap();
    b.peer.send(from_b).await.unwrap();
    tokio::join!(a.hears(from_b), b.hears(from_a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newcomer_offers_and_all_messages_pass_both_ways() {
    const MESSAGES: usize = 10_000;
    let (mut a, mut b) = pair();
    assert_eq!(a.peer.send(&message(0)).await, Err(SendError::NotOpen));
    b.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    let pass = async |from: &Peer, to: &mut mpsc::Receiver<(PeerId, FromPeer)>| {
        let send = async {
            for n in 0..MESSAGES {
                from.send(&message(n)).await.unwrap();
            }
        };
        let receive = async {
            for n in 0..MESSAGES {
                assert_eq!(within("a message", to.recv()).await.unwrap().1, FromPeer::Message(message(n)));
            }
        };
        tokio::join!(send, receive);
    };
    tokio::join!(pass(&a.peer, &mut b.events), pass(&b.peer, &mut a.events));
    let (at_a, at_b) = (a.peer.snapshot(), b.peer.snapshot());
    assert_eq!(at_a.state, Some(State::Connected));
    assert_eq!(at_a.bytes_sent, at_b.bytes_received);
    assert!(at_a.pair.is_some() && at_b.pair.is_some(), "{at_a:?} {at_b:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_that_cross_end_in_one_channel() {
    let (mut a, mut b) = pair();
    a.peer.tell(ToPeer::Connect);
    b.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;
    a.is_silent();
    b.is_silent();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let mut lost = false;
    let lose_the_first = Box::new(move |signal: Signal| {
        let is_first = matches!(signal, Signal::Answer(_)) && !std::mem::replace(&mut lost, true);
        (!is_first).then_some(signal)
    });
    let (mut a, mut b) = pair_with(&PeerSettings::default(), all(), lose_the_first);
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_over_is_connected_again() {
    let (to_b, at_b) = way();
    let (to_a, at_a) = way();
    let settings = PeerSettings::default();
    let mut a = End::start("a", "b", &settings, to_b(all()), at_a);
    let from_b = to_a(all());
    let again = Way { to: from_b.to.clone(), fate: Mutex::new(all()), unavailable: false };
    // Both lives of `b` get what is for it.
    let (first_life, first_signals) = mpsc::unbounded_channel();
    let (second_life, second_signals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut at_b = at_b;
        while let Some(signal) = at_b.recv().await {
            if first_life.send(signal.clone()).is_err() {
                let _gone = second_life.send(signal);
            }
        }
    });
    // It ends without a word, as when it is killed: its runtime is gone, and its sockets with it.
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut b =
        killed.spawn(async move { End::start("b", "a", &settings, from_b, first_signals) }).await.unwrap();
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    killed.shutdown_background();

    let mut b = End::start("b", "a", &PeerSettings::default(), again, second_signals);
    b.peer.tell(ToPeer::Connect);
    b.opens().await;
    assert_eq!(a.next("closed").await, FromPeer::Closed(Ended::Closed));
    a.opens().await;
    talk(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_and_gone_is_given_up() {
    let seconds = Duration::from_secs;
    let settings =
        PeerSettings { disconnected_after: seconds(1), failed_after: seconds(1), ..PeerSettings::default() };
    let (to_b, at_b) = way();
    let (to_a, at_a) = way();
    let mut a = End::start("a", "b", &settings, to_b(all()), at_a);
    let killed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let way = to_a(all());
    let mut b = killed.spawn(async move { End::start("b", "a", &settings, way, at_b) }).await.unwrap();
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    killed.shutdown_background();
    a.peer.tell(ToPeer::Present(false));
    assert_eq!(a.next("given up").await, FromPeer::Closed(Ended::Failed));
    let snapshot = a.peer.snapshot();
    assert_eq!((snapshot.state, snapshot.open, snapshot.ended), (None, false, Some(Ended::Failed)));
    assert_eq!(a.peer.send(&message(0)).await, Err(SendError::NotOpen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_lost_is_replaced_and_the_channel_stays() {
    let millis = Duration::from_millis;
    let settings = PeerSettings {
        listen: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        disconnected_after: millis(1_000),
        failed_after: millis(500),
        ..PeerSettings::default()
    };
    let paths = Arc::new(Paths::default());
    let detour = |paths: Arc<Paths>| -> Fate { Box::new(move |signal| Some(paths.detour(signal))) };
    let (mut a, mut b) = pair_with(&settings, detour(paths.clone()), detour(paths.clone()));
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;
    paths.cut();
    // Nothing is told but what was sent meanwhile.
    let sent = message(1);
    a.peer.send(&sent).await.unwrap();
    b.hears(&sent).await;
    talk(&mut a, &mut b).await;
    assert!(paths.opened_since_the_cut() > 0, "it went by another way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_loses_packets_loses_no_message() {
    const MESSAGES: usize = 5_000;
    let settings =
        PeerSettings { listen: vec![std::net::Ipv4Addr::LOCALHOST.into()], ..PeerSettings::default() };
    let paths = Arc::new(Paths::losing_one_of(50));
    let detour = |paths: Arc<Paths>| -> Fate { Box::new(move |signal| Some(paths.detour(signal))) };
    let (mut a, mut b) = pair_with(&settings, detour(paths.clone()), detour(paths.clone()));
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    let sender = a.peer.clone();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            sender.send(&message(n)).await.unwrap();
        }
    });
    for n in 0..MESSAGES {
        b.hears(&message(n)).await;
    }
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_close_ends_it_on_both_sides() {
    let (mut a, mut b) = pair();
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    a.peer.tell(ToPeer::Close(Ended::Revoked));
    assert_eq!(a.next("closed").await, FromPeer::Closed(Ended::Revoked));
    assert_eq!(b.next("closed").await, FromPeer::Closed(Ended::Closed));

    b.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    drop(a);
    assert_eq!(b.next("closed").await, FromPeer::Closed(Ended::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_messages_stops_the_sender_and_loses_none() {
    const MESSAGES: usize = 700;
    let long = |n: usize| format!(r#"{{"type":"long","n":{n},"rest":"{}"}}"#, "x".repeat(60_000));
    let (mut a, mut b) = pair();
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    let too_long = "x".repeat(70_000);
    assert_eq!(a.peer.send(&too_long).await, Err(SendError::TooLarge { limit: 65_536 }));

    let sender = a.peer.clone();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            while sender.send(&long(n)).await == Err(SendError::Stuck) {}
        }
    });
    // All that is held on both sides together is less than all that is sent.
    let mut sent = a.peer.snapshot().bytes_sent;
    within("the sender stops", async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = a.peer.snapshot().bytes_sent;
            if now == sent && now > 0 {
                break;
            }
            sent = now;
        }
    })
    .await;
    assert!(!sending.is_finished(), "{sent} bytes are held");
    for n in 0..MESSAGES {
        b.hears(&long(n)).await;
    }
    within("all sent", sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_dropped() {
    let (mut a, mut b) = pair();
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    for text in ["hello", "1", "[\"type\"]", r#"["task"]"#, "{}", r#"{"type":1}"#, r#"{"type":"a""#, ""] {
        a.peer.send(text).await.unwrap();
    }
    let ping = r#" {"n":1, "type":"ping"}"#;
    a.peer.send(ping).await.unwrap();
    b.hears(ping).await;
}

#[tokio::test]
async fn who_is_not_there_is_unreachable() {
    let (to, _nobody) = mpsc::unbounded_channel();
    let (_signals, at_a) = mpsc::unbounded_channel();
    let way = Way { to, fate: Mutex::new(all()), unavailable: true };
    let mut a = End::start("a", "b", &PeerSettings::default(), way, at_a);
    a.peer.tell(ToPeer::Connect);
    assert_eq!(a.next("closed").await, FromPeer::Closed(Ended::Unreachable));
    assert_eq!(a.peer.snapshot().ended, Some(Ended::Unreachable));
}

#[tokio::test]
async fn signals_that_make_no_sense_end_nothing_but_the_attempt() {
    let (mut a, mut b) = pair();
    let nonsense = || ToPeer::Signal(Signal::Offer("v=0\r\nnonsense".into()));
    a.peer.tell(nonsense());
    assert_eq!(a.next("closed").await, FromPeer::Closed(Ended::Failed));
    a.peer.tell(ToPeer::Signal(Signal::Answer("nonsense".into())));
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;
}

#[test]
fn the_fate_of_a_candidate_matters_only_if_it_is_lost() {
    let check = |outcome: Outcome, expect: bool| {
        assert_eq!(task::sent(None, outcome.clone()).is_some(), expect, "{outcome:?}");
    };
    check(Outcome::Delivered, false);
    check(Outcome::Unknown(Unknown::NotGranted), false);
    check(Outcome::Unknown(Unknown::ConnectionLost), true);
    check(Outcome::Undeliverable(Reason::QueueFull), true);
}
