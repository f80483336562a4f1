//! Says to Redis whom this node has, after Redis may have lost it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heliograph_core::id::{Epoch, SpaceName};
use redis::Value;
use tokio::time::{Instant, sleep};

use super::RedisPresence;
use super::calls::{Answer, answer, member_list, unexpected, write_visit};
use super::eras::PerPartition;
use super::own::Debt;
use crate::redis::keys::{PARTITIONS, Partition};
use crate::redis::scripts::{Call, Outcome, SCRIPTS, elements, number};
use crate::{BusError, Placement, Reseated, Seat};

/// How long a partition waits, from the first node that says whom it has, until it takes claims again. Nodes notice that
/// Redis was emptied within a heartbeat and then have the rest of this.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How often to ask whether it does.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long to ask.
const OPENING: Duration = Duration::from_secs(5);
/// Seats in one call: well under a millisecond of Redis's time.
const BATCH: usize = 200;
/// How often all is said anew because Redis was emptied meanwhile.
const ROUNDS: usize = 5;
/// How long the return of a node is remembered, and that it was given up, in seconds.
pub(super) const FATE_SECONDS: u64 = 3_600;

/// What is said and what became of it.
struct Saying<'a> {
    seats: &'a [Seat],
    /// The place of each, which changes when it is moved.
    places: Vec<Option<u64>>,
    outcomes: Vec<Reseated>,
    /// Under which era each was said; 0 is none.
    eras: Vec<u64>,
}

impl RedisPresence {
    pub(super) async fn say_all(&self, seats: &[Seat]) -> Result<Vec<Reseated>, BusError> {
        let _one_at_a_time = self.reseating.lock().await;
        // So that nobody buries this node anew.
        self.show_life().await?;
        let upheaval = self.eras.begin();
        // Before this node is back: those who buried it have told of these departures already.
        self.pay_releases().await?;
        self.come_back().await?;

        let mut saying = Saying::of(seats);
        let mut due = saying.own(self);
        for _ in 0..ROUNDS {
            self.say(&mut saying, &due).await?;
            let eras = self.open_eras().await?;
            due.retain(|&at| saying.is_due(at, &eras));
            if due.is_empty() {
                self.eras.learn(&eras, upheaval);
                return Ok(self.said(saying));
            }
        }
        Err(BusError::Unavailable("Redis was emptied again and again".into()))
    }

    /// Others gave this node up for lost: it is to say that it is back.
    pub(super) fn was_given_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Takes back, in all partitions, that this node was given up for lost. Whoever is still burying it stops there.
    async fn come_back(&self) -> Result<(), BusError> {
        if !self.given_up.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        tracing::warn!("redis: other nodes gave this one up for lost; its sessions are put back");
        let beat = self.beat.load(Ordering::Acquire);
        let calls: Vec<Call> = Partition::all()
            .map(|partition| {
                let fate = self.prefix().name_of(partition, "fate", self.id.as_str());
                SCRIPTS.back.call(partition).key(fate).arg(beat).arg(FATE_SECONDS)
            })
            .collect();
        let done = self.ask_many(&calls).await;
        if done.is_err() {
            self.was_given_up();
        }
        done.map(drop)
    }

    /// Says the seats at these positions.
    async fn say(&self, saying: &mut Saying<'_>, due: &[usize]) -> Result<(), BusError> {
        let mut by_space: BTreeMap<&SpaceName, Vec<usize>> = BTreeMap::new();
        for &at in due {
            by_space.entry(&saying.seats[at].space).or_default().push(at);
        }
        let batches: Vec<&[usize]> = by_space.values().flat_map(|all| all.chunks(BATCH)).collect();
        let calls: Vec<Call> = batches.iter().map(|batch| self.reseat_call(saying, batch)).collect();
        let answers = self.ask_many(&calls).await?;
        for (batch, answered) in batches.into_iter().zip(answers) {
            let answered = answer(answered)?;
            if answered.outcome != Outcome::Done {
                self.was_given_up();
                return Err(BusError::Unavailable("this node was given up for lost meanwhile".into()));
            }
            saying.take(batch, &answered)?;
        }
        Ok(())
    }

    fn reseat_call(&self, saying: &Saying<'_>, batch: &[usize]) -> Call {
        let mut call = self.space_call(&SCRIPTS.reseat, &self.id, &saying.seats[batch[0]].space, 0);
        for &at in batch {
            let seat = &saying.seats[at];
            call.push(seat.peer.as_str());
            call.push(seat.epoch.0);
            call.push(saying.places[at].map(|place| place.to_string()).unwrap_or_default());
            // An inherited place is not listed.
            call.push(u8::from(seat.place.is_some() && !seat.hidden));
            call.push(write_visit(&seat.visit));
        }
        call
    }

    /// Opens the eras of all partitions; waits until the last is open.
    async fn open_eras(&self) -> Result<PerPartition, BusError> {
        let deadline = Instant::now() + OPENING;
        let mut eras: PerPartition = [0; PARTITIONS as usize];
        loop {
            let closed: Vec<Partition> = Partition::all().filter(|p| eras[p.index()] == 0).collect();
            if closed.is_empty() {
                return Ok(eras);
            }
            if Instant::now() > deadline {
                return Err(BusError::Unavailable("Redis does not open its partitions".into()));
            }
            let calls: Vec<Call> = closed.iter().map(|&partition| self.open_call(partition)).collect();
            for (partition, answered) in closed.into_iter().zip(self.ask_many(&calls).await?) {
                let answered = answer(answered)?;
                match answered.outcome {
                    Outcome::Done => eras[partition.index()] = answered.number(1)?,
                    Outcome::Closed => {}
                    _ => {
                        self.was_given_up();
                        return Err(BusError::Unavailable(
                            "this node was given up for lost meanwhile".into(),
                        ));
                    }
                }
            }
            if eras.contains(&0) {
                sleep(ASK_AGAIN).await;
            }
        }
    }

    fn open_call(&self, partition: Partition) -> Call {
        let prefix = self.prefix();
        let call = SCRIPTS.open.call(partition).key(prefix.name(partition, "era"));
        let call = call.key(prefix.name(partition, "opening"));
        let settle_us = u64::try_from(SETTLE.as_micros()).unwrap_or(u64::MAX);
        call.key(prefix.name_of(partition, "fate", self.id.as_str())).arg(settle_us)
    }

    /// Remembers what was said.
    fn said(&self, mut saying: Saying<'_>) -> Vec<Reseated> {
        for (at, (seat, &place)) in saying.seats.iter().zip(&saying.places).enumerate() {
            if saying.eras[at] == 0 {
                continue;
            }
            let outcome = &mut saying.outcomes[at];
            match self.sessions.get(&seat.space, &seat.peer).filter(|own| own.epoch == seat.epoch) {
                // It moved by itself meanwhile, and knows.
                Some(own) if matches!(outcome, Reseated::Moved(to) if own.place == Some(to.place)) => {
                    *outcome = Reseated::Kept;
                }
                Some(_) => self.sessions.placed(&seat.space, &seat.peer, seat.epoch, place),
                // It ended while it was put back.
                None => {
                    let who = (seat.space.clone(), seat.peer.clone());
                    self.ledger.add(Debt::Release { who, epoch: seat.epoch, place });
                }
            }
        }
        saying.outcomes
    }
}

impl<'a> Saying<'a> {
    fn of(seats: &'a [Seat]) -> Self {
        Self {
            seats,
            places: seats.iter().map(|seat| seat.place).collect(),
            outcomes: vec![Reseated::Kept; seats.len()],
            eras: vec![0; seats.len()],
        }
    }

    /// Which of the seats are to be said: those that are still this node's.
    fn own(&mut self, presence: &RedisPresence) -> Vec<usize> {
        let mut due = vec![];
        for (at, seat) in self.seats.iter().enumerate() {
            match presence.sessions.get(&seat.space, &seat.peer) {
                Some(own) if own.epoch > seat.epoch => self.outcomes[at] = Reseated::Superseded(own.epoch),
                Some(own) if own.epoch == seat.epoch => {
                    // It may have taken a place, or given it up, since its node looked.
                    self.places[at] = own.place;
                    due.push(at);
                }
                _ended => {}
            }
        }
        due
    }

    /// Reads what became of a batch.
    fn take(&mut self, batch: &[usize], answered: &Answer) -> Result<(), BusError> {
        // Before the era is open, it has no number.
        let era = number(answered.get(1)?).unwrap_or(0);
        let outcomes = elements(answered.get(2)?);
        let everyone = answered.get(3)?;
        for (&at, outcome) in batch.iter().zip(outcomes.chunks_exact(2)) {
            self.eras[at] = era;
            self.take_one(at, outcome, everyone)?;
        }
        if outcomes.len() == 2 * batch.len() { Ok(()) } else { Err(unexpected()) }
    }

    fn take_one(&mut self, at: usize, outcome: &[Value], everyone: &Value) -> Result<(), BusError> {
        let number = number(&outcome[1]).ok_or_else(unexpected)?;
        match Outcome::of(&outcome[0]) {
            // What was told of it in an earlier round still holds.
            Some(Outcome::Done) if number == 0 => {}
            Some(Outcome::Done) => self.places[at] = None,
            Some(Outcome::Newer) => self.outcomes[at] = Reseated::Superseded(Epoch(number)),
            Some(Outcome::Back) => {
                self.places[at] = Some(number);
                let members = member_list(everyone, number);
                self.outcomes[at] = Reseated::Moved(Placement { place: number, members });
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// Whether a seat is to be said (again): it was said before the partition's era began.
    fn is_due(&self, at: usize, eras: &PerPartition) -> bool {
        let superseded = matches!(self.outcomes[at], Reseated::Superseded(_));
        !superseded && self.eras[at] != eras[Partition::of_space(&self.seats[at].space).index()]
    }
}
