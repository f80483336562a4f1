//! Ends the sessions of dead nodes.
//!
//! A node is first condemned: its beat is taken away, and it stands in a list of what is to be done. Then partition by
//! partition it is barred and its sessions end. Should whoever does that die as well, another one finds the list. Should
//! the dead node come back, it finds its beat missing, says in each partition that it is back, and the rest is left to it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use heliograph_core::id::{GatewayId, SpaceName};
use redis::Value;

use super::calls::{answer, unexpected};
use super::reseat::FATE_SECONDS;
use super::{RedisPresence, lock};
use crate::BusError;
use crate::redis::keys::Partition;
use crate::redis::scripts::{Call, Outcome, SCRIPTS, elements, text};

/// Sessions that are ended in one call.
const BATCH: usize = 200;

/// How a burial ended.
enum Burial {
    Done(u64),
    CameBack,
}

impl RedisPresence {
    /// Buries a node in a task of its own, unless that is under way.
    pub(super) fn spawn_burial(&self, node: GatewayId, beat: u64, condemned: bool) {
        let Some(presence) = self.me.upgrade() else { return };
        if lock(&self.burying).insert(node.clone()) {
            self.tasks.spawn(async move {
                let stop = presence.stop.clone();
                tokio::select! {
                    done = presence.bury(&node, beat, condemned) => if let Err(error) = done {
                        tracing::debug!(%node, %error, "redis: a dead node is not buried yet");
                    },
                    () = stop.cancelled() => {}
                }
                lock(&presence.burying).remove(&node);
            });
        }
    }

    /// Condemns a node, unless it beats again, and ends its sessions.
    async fn bury(&self, node: &GatewayId, beat: u64, condemned: bool) -> Result<(), BusError> {
        if !condemned && !self.condemn(node, beat).await? {
            return Ok(());
        }
        lock(&self.view).died(node.clone(), Instant::now());
        let began = Instant::now();
        match self.end_sessions_of(node, beat).await? {
            Burial::Done(sessions) if *node == self.id => {
                tracing::info!(sessions, "this node has left");
            }
            Burial::Done(sessions) => {
                self.metrics.ghosts_reaped.inc_by(sessions);
                let seconds = began.elapsed().as_secs_f64();
                tracing::warn!(%node, sessions, seconds, "a node is dead, its sessions are ended");
            }
            Burial::CameBack => tracing::info!(%node, "a node that was taken for dead is back"),
        }
        let call = self.beats_call(&SCRIPTS.buried, false).arg(node.as_str()).arg(beat);
        self.topology.invoke::<Value>(call.partition, &call.invocation()).await.map(drop)
    }

    async fn condemn(&self, node: &GatewayId, beat: u64) -> Result<bool, BusError> {
        let call = self.beats_call(&SCRIPTS.condemn, true).arg(node.as_str()).arg(beat);
        self.topology.invoke(call.partition, &call.invocation()).await
    }

    /// Leaves for good: this node's sessions end, and the others see it go.
    pub(crate) async fn leave(&self) -> Result<(), BusError> {
        self.stop().await;
        // The last beat may have been cut off on its way.
        self.show_life().await?;
        let beat = self.beat.load(Ordering::Acquire);
        self.bury(&self.id, beat, false).await
    }

    async fn end_sessions_of(&self, node: &GatewayId, beat: u64) -> Result<Burial, BusError> {
        let mut ended = 0;
        let mut partitions: Vec<Partition> = Partition::all().collect();
        while !partitions.is_empty() {
            let Some(found) = self.bar(node, beat, &partitions).await? else { return Ok(Burial::CameBack) };
            // Where a batch was full, there are more.
            let more = |(partition, entries): &(Partition, Vec<String>)| {
                (entries.len() >= BATCH).then_some(*partition)
            };
            partitions = found.iter().filter_map(more).collect();
            let calls = self.burials(node, beat, found.iter().flat_map(|(_, entries)| entries));
            for answered in self.ask_many(&calls).await? {
                let answered = answer(answered)?;
                match answered.outcome {
                    Outcome::Done => ended += answered.number(1)?,
                    Outcome::Back => return Ok(Burial::CameBack),
                    _ => return Err(unexpected()),
                }
            }
        }
        Ok(Burial::Done(ended))
    }

    /// Bars a dead node from partitions and answers whom it has there, a batch of each; `None` if it is back.
    async fn bar(
        &self,
        node: &GatewayId,
        beat: u64,
        partitions: &[Partition],
    ) -> Result<Option<Vec<(Partition, Vec<String>)>>, BusError> {
        let call = |&partition: &Partition| {
            let name = |what| self.prefix().name_of(partition, what, node.as_str());
            let call = SCRIPTS.doom.call(partition).key(name("fate")).key(name("index"));
            call.arg(beat).arg(BATCH).arg(FATE_SECONDS)
        };
        let calls: Vec<Call> = partitions.iter().map(call).collect();
        let mut found = vec![];
        for (&partition, answered) in partitions.iter().zip(self.ask_many(&calls).await?) {
            let answered = answer(answered)?;
            if answered.outcome == Outcome::Back {
                return Ok(None);
            }
            let entries = elements(answered.get(1)?).iter().filter_map(text).map(str::to_owned).collect();
            found.push((partition, entries));
        }
        Ok(Some(found))
    }

    /// The calls that end these sessions, one for each space.
    fn burials<'a>(
        &self,
        node: &GatewayId,
        beat: u64,
        entries: impl Iterator<Item = &'a String>,
    ) -> Vec<Call> {
        let mut by_space: BTreeMap<SpaceName, Vec<&str>> = BTreeMap::new();
        for (space, peer) in entries.filter_map(|entry| entry.split_once('\n')) {
            if let Ok(space) = SpaceName::parse(space) {
                by_space.entry(space).or_default().push(peer);
            }
        }
        let call = |(space, peers): (&SpaceName, &Vec<&str>)| {
            let mut call = self.space_call(&SCRIPTS.bury, node, space, 0).arg(beat);
            for peer in peers {
                call.push(*peer);
            }
            call
        };
        by_space.iter().map(call).collect()
    }
}
