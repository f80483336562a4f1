//! Shows that this node lives, and looks after the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use heliograph_core::id::{GatewayId, MeshName};
use redis::Value;
use tokio::time::sleep;

use super::view::{BEAT, Beat};
use super::{RedisPresence, lock};
use crate::BusError;
use crate::redis::keys::Partition;
use crate::redis::scripts::{Call, SCRIPTS, elements, number, text};

/// How soon to try again when Redis cannot be reached.
const RETRY: Duration = Duration::from_millis(250);

impl RedisPresence {
    /// Beats until it is stopped.
    pub(super) async fn keep_beating(self: Arc<Self>) {
        let mut changes = self.topology.changes();
        let mut lost = false;
        let mut layouts = self.topology.layouts();
        tokio::select! {
            // Whoever looks for Redis complains if it cannot be found. The sender is in `self`.
            _found = layouts.wait_for(|layouts| *layouts > 0) => {}
            () = self.stop.cancelled() => return,
        }
        loop {
            let beaten = tokio::select! {
                beaten = self.show_life() => beaten,
                () = self.stop.cancelled() => return,
            };
            match &beaten {
                Ok(()) => self.after_beat(&mut lost).await,
                Err(error) if !lost => {
                    lost = true;
                    tracing::warn!(%error, "redis: no heartbeat");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(if lost { RETRY } else { BEAT }) => {}
                // The sender is in `self`.
                _changed = changes.changed() => self.eras.upheaval(),
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Redis answers: looks whether it lost anything, and makes good what is owed.
    async fn after_beat(&self, lost: &mut bool) {
        if std::mem::take(lost) {
            tracing::info!("redis: heartbeats again");
            self.eras.upheaval();
        }
        let looking_after = async {
            self.check_eras().await?;
            self.pay_releases().await?;
            self.audit().await
        };
        tokio::select! {
            done = looking_after => if let Err(error) = done {
                tracing::debug!(%error, "redis: looking after presence, later again");
            },
            () = self.stop.cancelled() => {}
        }
    }

    /// Beats once and takes in what the others show.
    pub(super) async fn show_life(&self) -> Result<(), BusError> {
        let beat =
            Beat { number: self.beat.fetch_add(1, Ordering::AcqRel) + 1, status: lock(&self.status).clone() };
        let call = self.beats_call(&SCRIPTS.beat, true).arg(self.id.as_str()).arg(beat.write());
        let (new, beats, condemned): (u64, Value, Value) =
            self.topology.invoke(call.partition, &call.invocation()).await?;
        if new == 1 && self.was_shown.swap(true, Ordering::AcqRel) {
            self.was_given_up();
            self.eras.upheaval();
        }
        self.was_shown.store(true, Ordering::Release);

        let beats = pairs(&beats).filter_map(|(node, beat)| Beat::read(text(node)?, text(beat)?)).collect();
        let condemned = pairs(&condemned)
            .filter_map(|(node, beat)| Some((GatewayId::parse(text(node)?).ok()?, number(beat)?)))
            .collect();
        let now = Instant::now();
        let (still, unburied) = {
            let mut view = lock(&self.view);
            (view.look(beats, now), view.look_at_condemned(condemned, now))
        };
        for (node, beat) in still.into_iter().filter(|(node, _)| *node != self.id) {
            self.spawn_burial(node, beat, false);
        }
        for (node, beat) in unburied.into_iter().filter(|(node, _)| *node != self.id) {
            self.spawn_burial(node, beat, true);
        }
        Ok(())
    }

    /// A call on what all nodes show.
    pub(super) fn beats_call(
        &self,
        source: &'static crate::redis::scripts::Source,
        with_beats: bool,
    ) -> Call {
        // One partition for all nodes; which one does not matter, but it never changes.
        let partition = Partition::of_space(&MeshName::default_mesh().into());
        let mut call = source.call(partition);
        if with_beats {
            call = call.key(self.prefix().name(partition, "beats"));
        }
        call.key(self.prefix().name(partition, "condemned"))
    }

    /// Looks at one partition of each shard, another one each time: a server that was emptied without a broken
    /// connection has lost them all.
    async fn check_eras(&self) -> Result<(), BusError> {
        let map = self.topology.map();
        let turn = usize::try_from(self.beat.load(Ordering::Relaxed)).unwrap_or(0);
        for shard in &map.shards {
            let partitions: Vec<Partition> = map.partitions(shard).collect();
            let Some(&partition) = partitions.get(turn % partitions.len().max(1)) else { continue };
            let Some(known) = self.eras.now(partition) else { continue };
            let key = self.prefix().name(partition, "era");
            let era: Option<u64> = self.topology.query(partition, redis::cmd("GET").arg(key)).await?;
            if era != Some(known) {
                self.eras.over(partition, known);
            }
        }
        Ok(())
    }
}

/// Keys and values in turn.
fn pairs(value: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    elements(value).chunks_exact(2).map(|pair| (&pair[0], &pair[1]))
}
