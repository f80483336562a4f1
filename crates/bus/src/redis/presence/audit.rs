//! Makes good what Redis was not told, and finds what it has of this node although the node knows nothing of it: a claim
//! whose answer was lost, a command that was carried out after its sender had given it up, a release that a failover
//! undid.

use std::collections::BTreeMap;
use std::time::Instant;

use heliograph_core::id::{PeerId, SpaceName};

use super::calls::answer;
use super::own::{Debt, GHOST_AGE, Who};
use super::{RedisPresence, lock};
use crate::BusError;
use crate::redis::keys::Partition;
use crate::redis::scripts::{Call, Outcome, SCRIPTS};

/// Releases that are made good at once.
const RELEASES: usize = 1_000;
/// Looks into the index with each heartbeat. All partitions have their turn in a quarter of a minute.
const LOOKS: usize = 8;
/// Sessions that a look shows, more or less.
const SHOWN: usize = 200;

/// How far the round has come.
#[derive(Default)]
pub(super) struct Audit {
    partition: usize,
    cursor: u64,
}

impl RedisPresence {
    /// Ends in Redis what ended here while it was away. What fails again stays owed.
    pub(super) async fn pay_releases(&self) -> Result<(), BusError> {
        loop {
            let debts = self.ledger.take_releases(RELEASES);
            let mut owed = vec![];
            let mut calls = vec![];
            for debt in debts {
                let Debt::Release { who: (space, peer), epoch, place } = &debt else { continue };
                let era = self.eras.now(Partition::of_space(space));
                let call = era.map(|era| (self.release_call(space, peer, *epoch, *place, era), era));
                let owing = self.ledger.owe(debt);
                if let Some((call, era)) = call {
                    owed.push((owing, era));
                    calls.push(call);
                }
            }
            if calls.is_empty() {
                return Ok(());
            }
            let answers = self.ask_many(&calls).await?;
            for (((owing, era), call), answered) in owed.into_iter().zip(&calls).zip(answers) {
                match answer(answered)?.outcome {
                    Outcome::Done => owing.paid(),
                    _ => self.eras.over(call.partition, era),
                }
            }
        }
    }

    /// Goes a step on in the round through all that Redis has of this node, and looks into doubts.
    pub(super) async fn audit(&self) -> Result<(), BusError> {
        let mut ghosts = self.ledger.take_doubts(SHOWN, Instant::now());
        for _ in 0..LOOKS {
            self.look_for_ghosts(&mut ghosts).await?;
        }
        self.forget(ghosts).await
    }

    /// Looks at some of what Redis has of this node; adds what is unknown here.
    async fn look_for_ghosts(&self, ghosts: &mut Vec<Who>) -> Result<(), BusError> {
        let Audit { partition, cursor } = *lock(&self.audit);
        let Some(partition) = Partition::at(partition) else {
            *lock(&self.audit) = Audit::default();
            return Ok(());
        };
        let index = self.prefix().name_of(partition, "index", self.id.as_str());
        let scan = redis::cmd("SSCAN").arg(index).arg(cursor).arg("COUNT").arg(SHOWN).to_owned();
        let (cursor, entries): (u64, Vec<String>) = self.topology.query(partition, &scan).await?;
        for (space, peer) in entries.iter().filter_map(|entry| entry.split_once('\n')) {
            let (Ok(space), Ok(peer)) = (SpaceName::parse(space), PeerId::parse(peer)) else { continue };
            if self.sessions.get(&space, &peer).is_none() {
                ghosts.push((space, peer));
            }
        }
        let partition = if cursor == 0 { partition.index() + 1 } else { partition.index() };
        *lock(&self.audit) = Audit { partition, cursor };
        Ok(())
    }

    /// Ends these sessions if they stand in Redis as this node's, are none of its own, and not just being claimed.
    async fn forget(&self, ghosts: Vec<Who>) -> Result<(), BusError> {
        let mut by_space: BTreeMap<SpaceName, Vec<PeerId>> = BTreeMap::new();
        for (space, peer) in ghosts {
            by_space.entry(space).or_default().push(peer);
        }
        let age_us = u64::try_from(GHOST_AGE.as_micros()).unwrap_or(u64::MAX);
        let calls: Vec<Call> = by_space
            .iter()
            .filter_map(|(space, peers)| {
                let era = self.eras.now(Partition::of_space(space))?;
                let mut call = self.space_call(&SCRIPTS.forget, &self.id, space, era).arg(age_us);
                for peer in peers {
                    call.push(peer.as_str());
                    call.push(self.sessions.get(space, peer).map_or(0, |own| own.epoch.0));
                }
                Some(call)
            })
            .collect();
        for answered in self.ask_many(&calls).await? {
            let answered = answer(answered)?;
            if answered.outcome == Outcome::Done {
                self.metrics.ghosts_found.inc_by(answered.number(1)?);
            }
        }
        Ok(())
    }
}
