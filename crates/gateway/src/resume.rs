//! Sessions that outlive their connection: parked when it is lost, handed over to the session that resumes them, on
//! this node or another, or given up when nobody comes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heliograph_auth::secret;
use heliograph_bus::{
    Destination, Due, Estate, HandOver, Heir, Parcel, RemoteSignal, Sent, TakeOver, Unanswered,
};
use heliograph_core::authority::Authority;
use heliograph_core::close::CloseCode;
use heliograph_core::id::GatewayId;
use heliograph_core::message::{ResumeOffer, Signal, Undeliverable};
use heliograph_core::replay::{Replay, Written};
use heliograph_core::session::{Inheritance, Mail, Remains};
use heliograph_core::stage::Stage;
use tokio::sync::{Notify, oneshot};

use crate::directory::{Handle, Space};
use crate::gateway::Gateway;
use crate::relay::{from_remote, into_remote};

/// How long a session that comes back waits for what its former self left.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the former session's node waits for the fence and for the old connection's end; shorter, so that its answer
/// still counts.
const OLD_PATIENCE: Duration = Duration::from_millis(2_500);
/// After this the old connection is cut off in the middle of a write.
const OLD_WRITE_PATIENCE: Duration = Duration::from_millis(500);
/// How long what a superseded session left is kept for the one that superseded it: as long as that one may take to
/// say that it resumes.
const PASSED_HOLD: Duration = Duration::from_secs(12);
/// What every resume token begins with; the name of the node follows, a dot, and the random part.
const TOKEN_PREFIX: &str = "rs_";

/// What a session that may be resumed keeps for its heir.
pub(crate) struct Resumable {
    token: Box<str>,
    /// What the connection left when it ended.
    remains: Mutex<Option<Remains>>,
    /// Something changed that whoever takes over may wait for.
    changed: Notify,
    /// Nanoseconds on the gateway's clock after which nobody comes any more; 0 while the connection lives.
    until: AtomicU64,
}

impl fmt::Debug for Resumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumable").field("until", &self.until).finish_non_exhaustive()
    }
}

// Every critical section leaves its value consistent at each step, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// How the client may resume this session; made at the first call.
    pub(crate) fn resume_offer(&self, gateway: &GatewayId, window: Duration) -> ResumeOffer {
        let resumable = self.resumable.get_or_init(|| {
            let random = secret::resume_token(&mut rand::rng());
            Box::new(Resumable {
                token: format!("{TOKEN_PREFIX}{gateway}.{}", random.expose()).into(),
                remains: Mutex::default(),
                changed: Notify::new(),
                until: AtomicU64::new(0),
            })
        });
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        ResumeOffer { token: resumable.token.clone(), window_ms }
    }

    /// Whether nobody will come back for what it left.
    pub(crate) fn is_forsaken(&self, now: u64) -> bool {
        let until = self.resumable.get().map_or(0, |resumable| resumable.until.load(Ordering::Relaxed));
        until != 0 && (now > until || !self.peer.right.is_approved())
    }

    fn is_ready_to_hand_over(&self) -> bool {
        let ended = self.resumable.get().is_some_and(|resumable| lock(&resumable.remains).is_some());
        ended && self.stage.get() == Stage::Passed
    }
}

impl Gateway {
    /// The connection of a session that may be resumed has ended: keeps what is left, `unwritten` in front.
    pub(crate) fn park(&self, handle: &Arc<Handle>, remains: Remains, unwritten: VecDeque<Mail>) {
        let Some(resumable) = handle.resumable.get() else { return };
        self.parked.fetch_add(1, Ordering::Relaxed);
        self.metrics.comings.parked.inc();
        handle.outbox.park(unwritten);
        resumable.until.store(self.nanos(Instant::now() + self.config.resume_window), Ordering::Relaxed);
        *lock(&resumable.remains) = Some(remains);
        if handle.stage.change(Stage::after_loss) == Stage::Passed {
            self.hasten(resumable);
        }
        resumable.changed.notify_waiters();
        if !self.directory.space(&handle.peer.space).remembers(handle) {
            // Two newer ones came before its connection ended: nobody can ask for it, and nobody would tidy it up.
            self.give_up(Arc::clone(handle), Undeliverable::Unavailable);
        }
    }

    /// A newer session took over: this one writes nothing any more and hands over what it has.
    pub(crate) fn pass(&self, handle: &Handle) {
        handle.stage.change(Stage::after_newer_fence);
        handle.outbox.close(CloseCode::Superseded);
        if let Some(resumable) = handle.resumable.get() {
            self.hasten(resumable);
            resumable.changed.notify_waiters();
        }
    }

    /// Whoever took over says soon whether it resumes.
    fn hasten(&self, resumable: &Resumable) {
        let soon = self.nanos(Instant::now() + PASSED_HOLD);
        let _connection_lives = resumable
            .until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| (until > soon).then_some(soon));
    }

    /// Whether one more session may wait for its client.
    pub(crate) fn may_park(&self) -> bool {
        self.parked.load(Ordering::Relaxed) < u64::from(self.config.limits.max_connections)
    }

    /// What the connection left, once.
    fn take_remains(&self, handle: &Handle) -> Option<Remains> {
        let remains = lock(&handle.resumable.get()?.remains).take()?;
        self.parked.fetch_sub(1, Ordering::Relaxed);
        self.metrics.comings.parked.dec();
        Some(remains)
    }

    /// Tells senders that what they sent will not arrive.
    fn write_off(&self, handle: &Handle, replay: Replay, why: Undeliverable) {
        let unconfirmed = replay.since(None).again.into_iter().filter_map(|(_, written)| match written {
            Written::Signal(signal) => Some(signal),
            Written::Receipt(_) => None,
        });
        for signal in unconfirmed.chain(handle.outbox.finish().into_iter().filter_map(into_signal)) {
            self.tell_sender(&signal, &handle.peer.id, Some(why));
        }
    }

    /// Ends a parked session whose client did not come back in time, or may not. Nothing of it is delivered after
    /// this answers; what is left to do goes on by itself.
    pub(crate) fn give_up(&self, handle: Arc<Handle>, why: Undeliverable) {
        let Some(remains) = self.take_remains(&handle) else { return };
        self.metrics.comings.resumed("expired");
        handle.stage.change(|stage| if stage == Stage::Passed { stage } else { Stage::Over });
        self.write_off(&handle, remains.replay, why);
        self.spawn(|gateway| async move { gateway.depart(&handle).await });
    }

    /// Takes a session that ended out of the directory, presence and bus.
    pub(crate) async fn depart(&self, handle: &Handle) {
        let peer = &handle.peer;
        let _in_order = self.turnstile(&peer.id).await;
        let space = self.directory.space(&peer.space);
        if handle.stage.get() != Stage::Passed
            && let Err(error) = self.link.presence.release(&peer.space, &peer.id, handle.epoch).await
        {
            tracing::warn!(%error, "a session's presence is released later");
        }
        // It stays in the directory as long as messages for it arrive: to say that it is over, or to leave them to the
        // newer session, whichever it is.
        self.withdraw(&space, handle).await;
    }

    /// Takes a session that ended out of the directory and the bus.
    async fn withdraw(&self, space: &Space, handle: &Handle) {
        if space.is_newest(handle) {
            let mine = Destination::Peer(handle.peer.space.clone(), handle.peer.id.clone());
            self.link.bus.unsubscribe(&mine).await;
        }
        space.remove_former(handle);
        space.remove(handle);
        if space.name.is_room() {
            // Rooms come and go, and with the last member here nothing is for this node any more. Whoever enters is in
            // the directory before it asks for the channel, so one of the two sees the other.
            let _one_decides = space.channel.lock().await;
            if space.is_empty() {
                self.link.bus.unsubscribe(&Destination::Space(space.name.clone())).await;
            }
        }
        self.presence_changed();
    }

    /// Takes a member of a room that vanished out of directory and bus, and out of presence only after `grace`: if it is
    /// back by then, on whatever node, it has its place still, and nobody heard of it.
    pub(crate) async fn depart_later(&self, handle: Arc<Handle>, grace: Duration) {
        {
            let _in_order = self.turnstile(&handle.peer.id).await;
            self.withdraw(&self.directory.space(&handle.peer.space), &handle).await;
        }
        self.spawn(move |gateway| async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = gateway.stop.cancelled() => {}
            }
            let peer = &handle.peer;
            if let Err(error) = gateway.link.presence.release(&peer.space, &peer.id, handle.epoch).await {
                tracing::warn!(%error, "a session's presence is released later");
            }
        });
    }

    /// Fetches what a former session left, wherever it is.
    pub(crate) async fn fetch_estate(self: &Arc<Self>, request: TakeOver) -> Option<Estate> {
        let node = node_of_token(&request.token)?;
        if node == self.id {
            return self.hand_over(&request).await;
        }
        let lives = self.link.presence.gateways().await.is_ok_and(|nodes| nodes.iter().any(|n| n.id == node));
        if !lives {
            return None;
        }
        // Presence may have forgotten the former session, and then nobody has told its node yet.
        let channel = Destination::Peer(request.space.clone(), request.peer.clone());
        let _said_again = self.link.bus.send(channel, Parcel::Superseded { by: request.by });
        let TakeOver { space, peer, by, .. } = &request;
        let waiting = self.hand_overs.wait_for(Heir { space: space.clone(), peer: peer.clone(), by: *by });
        match self.link.bus.send(Destination::Gateway(node), Parcel::TakeOver(request)) {
            Sent::Queued => waiting.await,
            Sent::Offline | Sent::Full | Sent::Down => None,
        }
    }

    /// Hands over what a session of this node left, once, to whoever shows its token.
    async fn hand_over(&self, request: &TakeOver) -> Option<Estate> {
        let space = self.directory.space(&request.space);
        let handle = find(&space, request)?;
        let resumable = handle.resumable.get()?;
        let give_up = tokio::time::Instant::now() + OLD_PATIENCE;
        let cut_off = tokio::time::Instant::now() + OLD_WRITE_PATIENCE;
        while !handle.is_ready_to_hand_over() {
            let changed = resumable.changed.notified();
            if handle.is_ready_to_hand_over() {
                break;
            }
            let now = tokio::time::Instant::now();
            if now >= give_up {
                return None;
            }
            if now >= cut_off && handle.stage.get() == Stage::Passed {
                handle.outbox.abort(CloseCode::Superseded);
            }
            let _looks_again = tokio::time::timeout(OLD_WRITE_PATIENCE, changed).await;
        }
        let remains = self.take_remains(&handle)?;
        let estate = self.estate(&handle, remains, request.received);
        self.spawn(|gateway| async move { gateway.depart(&handle).await });
        Some(estate)
    }

    fn estate(&self, handle: &Handle, mut remains: Remains, received: Option<u64>) -> Estate {
        let next_seq = remains.replay.last() + 1;
        let rest = remains.replay.since(received);
        for signal in &rest.arrived {
            self.tell_sender(signal, &handle.peer.id, None);
        }
        let due = |written| match written {
            Written::Signal(signal) => Due::Signal(into_remote(signal, &self.authority)),
            Written::Receipt(receipt) => Due::Receipt(receipt),
        };
        Estate {
            capabilities: remains.capabilities,
            // Not the remains' own: it may have been moved while its client was away.
            place: handle.place(),
            first_epoch: handle.first_epoch(),
            next_seq,
            written: rest.again.into_iter().map(|(seq, written)| (seq, due(written))).collect(),
            waiting: handle
                .outbox
                .finish()
                .into_iter()
                .filter_map(|mail| into_due(mail, &self.authority))
                .collect(),
            unanswered: remains.unanswered.drain().map(|(id, target)| Unanswered { id, target }).collect(),
            lost: rest.lost,
        }
    }
}

/// The session that the token belongs to, if it is older than the one that asks.
fn find(space: &Space, request: &TakeOver) -> Option<Arc<Handle>> {
    let peer = request.peer.as_str();
    let mut candidates = space.former(peer).into_iter().chain(space.session(peer));
    candidates.find(|handle| {
        let token = handle.resumable.get().map(|resumable| &*resumable.token);
        handle.epoch < request.by
            && token.is_some_and(|token| secret::same(token.as_bytes(), request.token.as_bytes()))
    })
}

/// Answers another node that asks for what a session left.
pub(crate) async fn answer(gateway: Arc<Gateway>, request: TakeOver) {
    let estate = gateway.hand_over(&request).await;
    let TakeOver { space, peer, by, to, .. } = request;
    let heir = Heir { space: space.clone(), peer: peer.clone(), by };
    // Without the payloads: they are needed only if the answer stays here.
    let untold = estate.as_ref().map(undelivered).unwrap_or_default();
    let answer = HandOver { space, peer, by, estate };
    if gateway.link.bus.send(Destination::Gateway(to), Parcel::HandOver(answer)) != Sent::Queued {
        tracing::warn!(
            messages = untold.len(),
            "a session could not be handed over: the bus does not take it"
        );
        gateway.disappoint(&heir, untold, Undeliverable::BusUnavailable);
    }
}

/// The messages of an estate that its heir would have got and whose senders have heard nothing yet; without their payloads.
fn undelivered(estate: &Estate) -> Vec<RemoteSignal> {
    let written = estate.written.iter().map(|(_, due)| due).filter(|due| match due {
        Due::Signal(remote) => remote.receipt,
        Due::Receipt(_) => false,
    });
    let due = estate.waiting.iter().chain(written);
    let signals = due.filter_map(|due| match due {
        Due::Signal(remote) => Some(RemoteSignal { payload: Bytes::new(), ..remote.clone() }),
        Due::Receipt(_) => None,
    });
    signals.collect()
}

impl Gateway {
    /// Another node answers what a session of it left.
    pub(crate) fn take_in(&self, HandOver { space, peer, by, estate }: HandOver) {
        let heir = Heir { space, peer, by };
        if let Err(Some(estate)) = self.hand_overs.arrived(&heir, estate) {
            tracing::warn!(peer = %heir.peer, "a session was handed over too late");
            self.disappoint(&heir, undelivered(&estate), Undeliverable::Expired);
        }
    }

    /// What was handed over is not taken: the senders hear of it.
    pub(crate) fn refuse_estate(&self, heir: &Heir, estate: &Estate) {
        self.disappoint(heir, undelivered(estate), Undeliverable::Unavailable);
    }

    /// Tells senders that what they sent was lost on its way to an heir.
    fn disappoint(&self, heir: &Heir, signals: Vec<RemoteSignal>, why: Undeliverable) {
        let space = self.directory.space(&heir.space);
        for remote in signals {
            self.tell_sender(&from_remote(self, &space, remote), &heir.peer, Some(why));
        }
    }
}

/// Which node made a token.
fn node_of_token(token: &str) -> Option<GatewayId> {
    let (node, _) = token.strip_prefix(TOKEN_PREFIX)?.rsplit_once('.')?;
    GatewayId::parse(node).ok()
}

fn into_signal(mail: Mail) -> Option<Signal> {
    match mail {
        Mail::Signal(signal) | Mail::Again(_, Written::Signal(signal)) => Some(signal),
        _ => None,
    }
}

/// What a client that comes back still has to get; news are not among it, since it gets a list.
fn into_due(mail: Mail, authority: &Authority) -> Option<Due> {
    match mail {
        Mail::Signal(signal) => Some(Due::Signal(into_remote(signal, authority))),
        Mail::Receipt(receipt) | Mail::FormerReceipt(_, receipt) => Some(Due::Receipt(receipt)),
        _ => None,
    }
}

/// What an estate becomes in the queue of the heir.
pub(crate) fn into_mail(gateway: &Gateway, space: &Space, estate: &mut Estate) -> VecDeque<Mail> {
    let written = std::mem::take(&mut estate.written).into_iter().map(|(seq, due)| {
        let written = match due {
            Due::Signal(remote) => Written::Signal(from_remote(gateway, space, remote)),
            Due::Receipt(receipt) => Written::Receipt(receipt),
        };
        Mail::Again(seq, written)
    });
    let waiting = std::mem::take(&mut estate.waiting).into_iter().map(|due| match due {
        Due::Signal(remote) => Mail::Signal(from_remote(gateway, space, remote)),
        Due::Receipt(receipt) => Mail::Receipt(receipt),
    });
    written.chain(waiting).collect()
}

/// What the heir takes over, given what is in its queue already.
pub(crate) fn inheritance(estate: &Estate, mail: &VecDeque<Mail>) -> Inheritance {
    // Whoever still wants a receipt for what was written has not been told.
    let untold = mail.iter().find_map(|mail| match mail {
        Mail::Again(seq, Written::Signal(signal)) if signal.receipt => Some(*seq),
        _ => None,
    });
    Inheritance {
        capabilities: estate.capabilities,
        place: estate.place.unwrap_or_default(),
        next_seq: estate.next_seq,
        confirmed: untold.unwrap_or(estate.next_seq).saturating_sub(1),
    }
}

/// Who waits for what another node hands over. Bounded: an entry stands for a session that is about to open, and goes
/// with it.
#[derive(Debug, Default)]
pub(crate) struct HandOvers(Mutex<HashMap<Heir, oneshot::Sender<Option<Estate>>>>);

impl HandOvers {
    /// Waits for the answer, for a while. Begins to listen when it is called, not when it is awaited.
    fn wait_for(&self, heir: Heir) -> impl Future<Output = Option<Estate>> + '_ {
        let (sender, receiver) = oneshot::channel();
        lock(&self.0).insert(heir.clone(), sender);
        async move {
            let answer = tokio::time::timeout(PATIENCE, receiver).await;
            lock(&self.0).remove(&heir);
            answer.ok()?.ok()?
        }
    }

    /// An answer arrived; comes back if nobody waits for it any more.
    fn arrived(&self, heir: &Heir, estate: Option<Estate>) -> Result<(), Option<Estate>> {
        let waiting = lock(&self.0).remove(heir);
        match waiting {
            Some(waiting) => waiting.send(estate),
            None => Err(estate),
        }
    }

    /// No answer will come.
    pub(crate) fn deserted(&self, heir: &Heir) {
        lock(&self.0).remove(heir);
    }
}
