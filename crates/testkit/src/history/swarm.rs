//! Many recording clients.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::check::Expectations;
use super::client::{Client, Order};
use super::event::{History, Peer, Recorder};
use super::traffic::Traffic;
use crate::{PATIENCE, in_time};

/// Who a client is.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its peer.
    pub peer: String,
    /// Its session token, good for the whole test.
    pub token: String,
}

/// How clients behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages per second of each client; 0: it only listens.
    pub rate: f64,
    /// For sizes, targets, nodes and pauses.
    pub seed: u64,
    /// How long an answer may take: the resume window of the nodes and a grace.
    pub answer_within: Duration,
    /// The longest pause before coming back; the pause is random, its ceiling doubles with each failure.
    pub longest_pause: Duration,
    /// A client that gets no answer to a question for so long gives its connection up.
    pub give_up_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: 5.0,
            seed: 1,
            answer_within: Duration::from_secs(75),
            longest_pause: Duration::from_secs(2),
            give_up_after: Duration::from_secs(20),
        }
    }
}

/// What a client lets others know.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Messages without an answer.
    pub(super) open: AtomicUsize,
    /// Whether it has a list on its newest socket.
    pub(super) stands: AtomicBool,
    /// Whether it was told not to come back.
    pub(super) gone: AtomicBool,
}

/// The nodes that clients may go to.
#[derive(Debug, Clone)]
pub(super) struct Nodes(Arc<Mutex<Vec<SocketAddr>>>);

impl Nodes {
    /// All of them now.
    pub(super) fn now(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Member {
    orders: mpsc::Sender<Order>,
    status: Arc<Status>,
    task: JoinHandle<()>,
}

/// Clients that send to one another and record everything.
pub struct Swarm {
    members: Vec<Member>,
    nodes: Nodes,
    recorder: Arc<Recorder>,
    traffic: watch::Sender<bool>,
    options: Options,
}

impl Swarm {
    /// Starts a client for each of `peers` and waits until all have registered. Traffic begins with
    /// [`Self::start_traffic`].
    pub async fn start(nodes: &[SocketAddr], peers: &[Credential], options: Options) -> Self {
        let everybody: Vec<Peer> = peers.iter().map(|peer| Peer::from(&*peer.peer)).collect();
        let others = |number: usize| {
            let name = &everybody[number];
            everybody.iter().filter(|other| *other != name).cloned().collect()
        };
        Self::start_with(nodes, peers, options, others).await
    }

    /// As [`Self::start`], with clients that send to their neighbours only: the first to the second and back, …
    pub async fn start_in_pairs(nodes: &[SocketAddr], peers: &[Credential], options: Options) -> Self {
        let partner = |number: usize| peers.get(number ^ 1).map(|peer| Peer::from(&*peer.peer));
        Self::start_with(nodes, peers, options, |number| partner(number).into_iter().collect()).await
    }

    async fn start_with(
        nodes: &[SocketAddr],
        peers: &[Credential],
        options: Options,
        others: impl Fn(usize) -> Vec<Peer>,
    ) -> Self {
        let (traffic, _) = watch::channel(false);
        let nodes = Nodes(Arc::new(Mutex::new(nodes.to_vec())));
        let mut swarm = Self { members: vec![], nodes, recorder: Arc::default(), traffic, options };
        for (number, credential) in peers.iter().enumerate() {
            swarm.add(credential, others(number));
        }
        swarm.wait_until_all_stand().await;
        swarm
    }

    /// One client more, which sends to `others`; its number.
    pub fn add(&mut self, credential: &Credential, others: Vec<Peer>) -> usize {
        let number = self.members.len();
        let name = Peer::from(&*credential.peer);
        let seed = self.options.seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let (orders, inbox) = mpsc::channel(16);
        let status = Arc::new(Status::default());
        let client = Client::new(
            Traffic::new(Peer::clone(&name), others, seed, self.options.answer_within),
            (name, credential.token.clone()),
            self.nodes.clone(),
            Arc::clone(&self.recorder),
            (self.options.clone(), self.traffic.subscribe()),
            Arc::clone(&status),
        );
        self.members.push(Member { orders, status, task: tokio::spawn(client.run(inbox)) });
        number
    }

    /// What a history of this swarm is expected to show at least.
    pub fn expectations(&self) -> Expectations {
        Expectations { answer_within: self.options.answer_within, ..Expectations::default() }
    }

    /// Where everything is recorded.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// From now on clients that come back go to these.
    pub fn set_nodes(&self, nodes: &[SocketAddr]) {
        nodes.clone_into(&mut self.nodes.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until every client has its list, but those that were told not to come back. Panics when it takes too long.
    pub async fn wait_until_all_stand(&self) {
        self.wait_until_all_stand_within(PATIENCE).await;
    }

    /// As [`Self::wait_until_all_stand`], with another bound.
    pub async fn wait_until_all_stand_within(&self, patience: Duration) {
        let missing = || self.members.iter().filter(|member| !member.status.stands_or_is_gone()).count();
        if let Err(missing) = poll(patience, missing).await {
            panic!("{missing} of {} clients do not stand after {patience:?}", self.members.len());
        }
    }

    /// Waits until one client has its list. Panics when it takes too long.
    pub async fn wait_until_stands(&self, client: usize) {
        let missing = || usize::from(!self.members[client].status.stands_or_is_gone());
        let stands = poll(PATIENCE, missing).await.is_ok();
        assert!(stands, "client {client} does not stand after {PATIENCE:?}");
    }

    /// All send from now on.
    pub fn start_traffic(&self) {
        self.traffic.send_replace(true);
    }

    /// Waits until so many more messages were sent. Panics when it takes too long.
    pub async fn more_traffic(&self, messages: u64) {
        let enough = self.recorder.sent() + messages;
        let missing = || usize::try_from(enough.saturating_sub(self.recorder.sent())).unwrap_or(usize::MAX);
        if let Err(missing) = poll(PATIENCE, missing).await {
            panic!("{missing} of {messages} messages were not sent within {PATIENCE:?}");
        }
    }

    /// All stop sending; waits until every message is answered or nobody can answer it any more.
    pub async fn pause_traffic(&self) {
        self.traffic.send_replace(false);
        let open = || self.open();
        // What is still open then, the checker judges.
        let _open = poll(self.options.answer_within + PATIENCE, open).await;
    }

    /// Messages that were not answered yet.
    pub fn open(&self) -> usize {
        self.members.iter().map(|member| member.status.open.load(Ordering::Acquire)).sum()
    }

    async fn order(&self, client: usize, order: Order) {
        let _gone = self.members[client].orders.send(order).await;
    }

    /// A client's TCP connection is reset; it comes back.
    pub async fn reset(&self, client: usize) {
        self.order(client, Order::Reset).await;
    }

    /// A client's network is gone: its connection stays open and nobody reads it. It comes back by another one.
    pub async fn abandon(&self, client: usize) {
        self.order(client, Order::Abandon).await;
    }

    /// A client asks whether the service is there: what it reads after the answer was written after this call.
    pub async fn ask(&self, client: usize) {
        self.order(client, Order::Ask).await;
    }

    /// A client sends to one peer only from now on.
    pub async fn write_to(&self, client: usize, peer: Peer) {
        self.order(client, Order::WriteTo(vec![peer])).await;
    }

    /// A client sends so many messages per second from now on.
    pub async fn set_rate(&self, client: usize, rate: f64) {
        self.order(client, Order::Rate(rate)).await;
    }

    /// A client sends nothing from now on, and listens.
    pub async fn silence(&self, client: usize) {
        self.order(client, Order::WriteTo(vec![])).await;
    }

    /// As [`Self::end`]; the whole history.
    pub async fn finish(self) -> History {
        self.end().await.take()
    }

    /// Pauses traffic, waits until all clients stand and have read everything, and ends them.
    pub async fn end(self) -> Arc<Recorder> {
        self.pause_traffic().await;
        self.wait_until_all_stand().await;
        // All have read everything before the first one goes.
        for order in [Order::ReadAll, Order::Finish] {
            for member in &self.members {
                let _gone = member.orders.send(order.clone()).await;
            }
        }
        for member in self.members {
            if let Err(panic) = in_time("a client ends", member.task).await {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        self.recorder
    }
}

impl Status {
    fn stands_or_is_gone(&self) -> bool {
        self.stands.load(Ordering::Acquire) || self.gone.load(Ordering::Acquire)
    }
}

/// Waits until `count` is 0; what it is at last otherwise.
async fn poll(patience: Duration, count: impl Fn() -> usize) -> Result<(), usize> {
    let give_up = tokio::time::Instant::now() + patience;
    loop {
        match count() {
            0 => return Ok(()),
            left if tokio::time::Instant::now() >= give_up => return Err(left),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
