//! Asks the scripts of a space and reads their answers.

use std::sync::Arc;

use bytes::Bytes;
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName};
use heliograph_core::message::Member;
use redis::{Pipeline, Value};
use tokio::time::Instant;

use super::{PATIENCE, RedisPresence};
use crate::redis::frame::split_profile;
use crate::redis::keys::{Partition, Prefix};
use crate::redis::scripts::{Call, Outcome, Source, elements, number, text};
use crate::{BusError, Destination, Previous, Visit, Whereabouts};

/// Most calls in one pipeline: a few milliseconds of Redis's time.
const PIPELINE: usize = 64;

/// What a script answered.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    parts: Vec<Value>,
    /// The space's order, where it was asked for.
    pub(super) list: Value,
}

impl Answer {
    /// A part of the answer; the outcome is part 0.
    pub(super) fn get(&self, at: usize) -> Result<&Value, BusError> {
        self.parts.get(at).ok_or_else(unexpected)
    }

    /// A number in the answer.
    pub(super) fn number(&self, at: usize) -> Result<u64, BusError> {
        number(self.get(at)?).ok_or_else(unexpected)
    }
}

pub(super) fn unexpected() -> BusError {
    BusError::Unavailable("Redis answered something unexpected".into())
}

/// Whether a script of a transaction did not run because the server does not know it.
fn is_unknown_script(answered: &Value) -> bool {
    let unknown = |value: &Value| matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT");
    elements(answered).iter().any(unknown)
}

fn elements_of(value: Value) -> Vec<Value> {
    if let Value::Array(elements) = value { elements } else { vec![] }
}

/// Reads a script's answer.
pub(super) fn answer(value: Value) -> Result<Answer, BusError> {
    let Value::Array(parts) = value else { return Err(unexpected()) };
    let outcome = parts.first().and_then(Outcome::of).ok_or_else(unexpected)?;
    Ok(Answer { outcome, parts, list: Value::Nil })
}

impl RedisPresence {
    pub(super) fn prefix(&self) -> &Prefix {
        &self.topology.connector().options().prefix
    }

    pub(super) fn space_key(&self, space: &SpaceName, what: &str) -> (Partition, Vec<u8>) {
        let partition = Partition::of_space(space);
        (partition, self.prefix().name_of(partition, what, space.as_str()))
    }

    /// A call of a space's script on behalf of a node, with the keys and arguments that all of them take.
    pub(super) fn space_call(
        &self,
        source: &'static Source,
        node: &GatewayId,
        space: &SpaceName,
        era: u64,
    ) -> Call {
        let partition = Partition::of_space(space);
        let sharded = self.topology.shard(partition).is_none_or(|shard| shard.sharded_pubsub);
        let prefix = self.prefix();
        source
            .call(partition)
            .key(prefix.name(partition, "clock"))
            .key(prefix.name(partition, "era"))
            .key(prefix.name_of(partition, "fate", node.as_str()))
            .key(prefix.name_of(partition, "index", node.as_str()))
            .key(prefix.name_of(partition, "seats", space.as_str()))
            .key(prefix.name_of(partition, "order", space.as_str()))
            .key(prefix.channel(&Destination::Space(space.clone())))
            .arg(era)
            .arg(node.as_str())
            .arg(if sharded { "SPUBLISH" } else { "PUBLISH" })
            .arg(space.as_str())
    }

    pub(super) fn release_call(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        epoch: Epoch,
        place: Option<u64>,
        era: u64,
    ) -> Call {
        let place = place.map(|place| place.to_string()).unwrap_or_default();
        let call = self.space_call(&super::SCRIPTS.release, &self.id, space, era);
        call.arg(peer.as_str()).arg(epoch.0).arg(place)
    }

    /// Asks under the era that this node knows; if it is another one by now, after this node has said whom it has.
    pub(super) async fn ask(
        &self,
        space: &SpaceName,
        source: &'static Source,
        arguments: impl Fn(Call) -> Call,
    ) -> Result<Answer, BusError> {
        self.ask_until_open(space, source, arguments, None).await
    }

    /// As [`Self::ask`], and reads the space's order in the same moment.
    ///
    /// By a transaction: a list that goes through a script takes Redis several times as long, and in a storm of
    /// reconnects the lists are all that Redis does.
    pub(super) async fn ask_with_list(
        &self,
        space: &SpaceName,
        source: &'static Source,
        arguments: impl Fn(Call) -> Call,
    ) -> Result<Answer, BusError> {
        let (_, order) = self.space_key(space, "order");
        self.ask_until_open(space, source, arguments, Some(&order)).await
    }

    async fn ask_until_open(
        &self,
        space: &SpaceName,
        source: &'static Source,
        arguments: impl Fn(Call) -> Call,
        order: Option<&[u8]>,
    ) -> Result<Answer, BusError> {
        let deadline = Instant::now() + PATIENCE;
        let partition = Partition::of_space(space);
        loop {
            let era = self.eras.known(partition, deadline).await?;
            let call = arguments(self.space_call(source, &self.id, space, era));
            let answer = match order {
                Some(order) => self.invoke_with_list(&call, order).await?,
                None => answer(self.topology.invoke(partition, &call.invocation()).await?)?,
            };
            match answer.outcome {
                Outcome::Closed => self.eras.over(partition, era),
                Outcome::Gone => {
                    self.was_given_up();
                    self.eras.over(partition, era);
                }
                Outcome::Done | Outcome::Newer | Outcome::Back | Outcome::Full => return Ok(answer),
            }
        }
    }

    async fn invoke_with_list(&self, call: &Call, order: &[u8]) -> Result<Answer, BusError> {
        let mut transaction = Pipeline::with_capacity(2);
        transaction.atomic().ignore_errors().add_command(call.command());
        transaction.cmd("ZRANGE").arg(order).arg(0).arg(-1);
        let mut answered = self.topology.pipeline(call.partition, &transaction).await?;
        if is_unknown_script(&answered) {
            self.topology.query::<Value>(call.partition, &call.source.load()).await?;
            answered = self.topology.pipeline(call.partition, &transaction).await?;
        }
        let [said, list] = <[Value; 2]>::try_from(elements_of(answered)).map_err(|_| unexpected())?;
        Ok(Answer { list, ..answer(said)? })
    }

    /// Runs many calls, few round trips to each shard; answers in the order of the calls. Those of one space run in the
    /// order in which they stand.
    pub(super) async fn ask_many(&self, calls: &[Call]) -> Result<Vec<Value>, BusError> {
        let mut answers = vec![Value::Nil; calls.len()];
        let map = self.topology.map();
        for shard in &map.shards {
            let here =
                |&at: &usize| map.shard(calls[at].partition).is_some_and(|owner| Arc::ptr_eq(owner, shard));
            let at: Vec<usize> = (0..calls.len()).filter(here).collect();
            for at in at.chunks(PIPELINE) {
                let answered = self.ask_shard(calls, at).await?;
                for (&at, answer) in at.iter().zip(answered) {
                    answers[at] = answer;
                }
            }
        }
        if answers.contains(&Value::Nil) {
            return Err(BusError::Unavailable("no Redis node serves a partition".into()));
        }
        Ok(answers)
    }

    async fn ask_shard(&self, calls: &[Call], at: &[usize]) -> Result<Vec<Value>, BusError> {
        let Some(first) = at.first().map(|&at| &calls[at]) else { return Ok(vec![]) };
        let mut pipeline = Pipeline::with_capacity(at.len() + 1);
        for (i, &this) in at.iter().enumerate() {
            let source = calls[this].source;
            if i == 0 || !std::ptr::eq(source, calls[at[i - 1]].source) {
                pipeline.add_command(source.load()).ignore();
            }
            pipeline.add_command(calls[this].command());
        }
        self.topology.pipeline(first.partition, &pipeline).await
    }
}

/// The session that a claim took over from.
pub(super) fn previous(claimed: &Answer) -> Option<Previous> {
    let number_at = |at| number(claimed.get(at).ok()?);
    Some(Previous {
        gateway: GatewayId::parse(text(claimed.get(2).ok()?)?).ok()?,
        epoch: Epoch(number_at(3)?),
        place: number_at(4).filter(|&place| place != 0),
    })
}

/// The members of a space's order, without whoever has the place `but`.
pub(super) fn member_list(order: &Value, but: u64) -> Vec<Member> {
    let member = |entry: &Value| {
        let (place, rest) = text(entry)?.split_once(' ')?;
        let place = place.parse().ok().filter(|&place| place != but)?;
        let (peer, profile) = split_profile(rest);
        Some(Member { peer: PeerId::parse(peer).ok()?, place, profile })
    };
    elements(order).iter().filter_map(member).collect()
}

/// What a session says of itself, as it stands in Redis.
pub(super) fn write_visit(visit: &Visit) -> Vec<u8> {
    let mut text = format!("{}\n{}", visit.since_unix_ms, visit.dialect).into_bytes();
    if let Some(profile) = &visit.profile {
        text.push(b'\n');
        text.extend_from_slice(profile);
    }
    text
}

/// A seat as it stands in Redis.
pub(super) fn read_seat(text: &str) -> Option<Whereabouts> {
    let mut parts = text.splitn(6, '\n');
    let mut next = || parts.next();
    Some(Whereabouts {
        epoch: Epoch(next()?.parse().ok()?),
        placed: !next()?.is_empty(),
        gateway: GatewayId::parse(next()?).ok()?,
        visit: Visit {
            since_unix_ms: next()?.parse().ok()?,
            dialect: next()?.to_owned().into(),
            profile: next().map(|profile| Bytes::copy_from_slice(profile.as_bytes())),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_read_as_scripts_write_them() {
        let visit = Visit { since_unix_ms: 12, dialect: "mesh".into(), profile: None };
        let gateway = GatewayId::parse("gw 1: {x}").unwrap();
        let expect = Whereabouts { gateway, epoch: Epoch(7), placed: true, visit };
        assert_eq!(read_seat("7\n9\ngw 1: {x}\n12\nmesh"), Some(expect));
        assert!(read_seat("7\n\ngw\n12\nmesh").is_some_and(|seat| !seat.placed));
        for text in ["", "7", "x\n\ngw\n12\nmesh", "7\n\n\n12\nmesh", "7\n\ngw\nx\nmesh", "7\n\ngw\n12"] {
            assert_eq!(read_seat(text), None, "{text:?}");
        }
    }
}
