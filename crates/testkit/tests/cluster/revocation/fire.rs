//! Pairs of clients that send to one another, and revocations among them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use heliograph_testkit::history::{Expectations, Peer, Summary, What};
use heliograph_testkit::{Answer, Api, Plan, eventually};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::scene::{Scene, credential, name, plan};

/// Messages per second of each of the two whose traffic is under fire.
pub(crate) const HOT: f64 = 150.0;
/// Of all others.
const CALM: f64 = 4.0;
/// So much more is sent before a revocation, while it is awaited and after it.
const SALVO: u64 = 20;
/// Peers that stand by: a message to one that is about to come would wait for its answer for long.
const STANDBY: usize = 3;
/// Revoked peers that go on trying; the ones before them only listen.
const HOSTILE: usize = 10;

/// A cluster under fire.
pub(crate) struct Fire {
    pub(crate) scene: Scene,
    pairs: Vec<[Member; 2]>,
    /// The next peer that was never there.
    fresh: usize,
    /// Those who stand by to take the place of a revoked peer.
    standby: VecDeque<Member>,
    revoked: VecDeque<Member>,
    /// How long each calm revocation took, as its report says, in milliseconds.
    waited: Vec<u64>,
    /// And as its caller saw it.
    took: Vec<Duration>,
}

/// A client and its peer's number.
#[derive(Debug, Clone, Copy)]
struct Member {
    client: usize,
    number: usize,
}

/// One of a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Victim {
    pair: usize,
    side: usize,
}

/// What a revocation was answered.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) status: u16,
    pub(crate) enforced: bool,
    pub(crate) acknowledged: Vec<String>,
    pub(crate) expired: Vec<String>,
    pub(crate) waited_ms: u64,
    pub(crate) took: Duration,
}

impl Fire {
    /// A cluster that is planned so, with so many pairs, and peers for so many revocations.
    pub(crate) async fn start(make: impl FnOnce(Plan) -> Plan, pairs: usize, revocations: usize) -> Self {
        let planned = make(plan(2 * pairs + revocations + STANDBY)).log_writes();
        let scene = Scene::start_in_pairs(planned, pairs).await;
        let member = |client| Member { client, number: client };
        let pairs: Vec<_> = (0..pairs).map(|pair| [member(2 * pair), member(2 * pair + 1)]).collect();
        let fresh = 2 * pairs.len();
        let (standby, revoked) = (VecDeque::new(), VecDeque::new());
        let mut fire = Self { scene, pairs, fresh, standby, revoked, waited: vec![], took: vec![] };
        (0..STANDBY).for_each(|_| fire.call());
        fire
    }

    /// Somebody new comes.
    fn call(&mut self) {
        let member =
            Member { client: self.scene.swarm.add(&credential(self.fresh), vec![]), number: self.fresh };
        self.fresh += 1;
        self.standby.push_back(member);
    }

    /// One after the other.
    pub(crate) fn victim(&self, number: usize) -> Victim {
        Victim { pair: number % self.pairs.len(), side: number / self.pairs.len() % 2 }
    }

    /// One of each pair, whose own session is on a node.
    pub(crate) async fn victims_on(&self, node: usize) -> Vec<Victim> {
        let (gateway, admin) = (self.scene.cluster.node(node).gateway(), self.scene.cluster.access().admin());
        let mut found = vec![];
        for (pair, members) in self.pairs.iter().enumerate() {
            for (side, member) in members.iter().enumerate() {
                let peer = admin.get(&format!("/api/peers/{}", name(member.number))).await.expect(200);
                if peer["sessions"][0]["gateway"] == gateway {
                    found.push(Victim { pair, side });
                    break;
                }
            }
        }
        found
    }

    fn member(&self, victim: Victim) -> Member {
        self.pairs[victim.pair][victim.side]
    }

    /// Both of a pair send as fast as they can, or not any more.
    pub(crate) async fn set_rate(&self, victim: Victim, rate: f64) {
        for member in self.pairs[victim.pair] {
            self.scene.swarm.set_rate(member.client, rate).await;
        }
    }

    /// Revokes a peer through one node while it and its partner send to one another. Both go on for a while; then somebody
    /// new takes its place.
    pub(crate) async fn revoke(&mut self, victim: Victim, node: usize) -> Report {
        let report = self.revoke_only(victim, node).await;
        self.scene.swarm.more_traffic(SALVO).await;
        self.replace(victim).await;
        report
    }

    /// As [`Self::revoke`], and nobody takes its place yet.
    pub(crate) async fn revoke_only(&mut self, victim: Victim, node: usize) -> Report {
        self.set_rate(victim, HOT).await;
        self.scene.swarm.more_traffic(SALVO).await;
        let admin = self.scene.cluster.node(node).admin();
        let report = self.ask(victim, &admin).await;
        self.note(victim, &report).await;
        report
    }

    /// The revocation alone; it waits for as long as it takes.
    pub(crate) async fn ask(&self, victim: Victim, admin: &Api) -> Report {
        ask(&name(self.member(victim).number), admin).await
    }

    /// As [`Self::ask`], while something else goes on.
    pub(crate) fn ask_beside(&self, victim: Victim, admin: &Api) -> JoinHandle<Report> {
        let (peer, admin) = (name(self.member(victim).number), admin.clone());
        tokio::spawn(async move { ask(&peer, &admin).await })
    }

    /// The connections of both of a pair break; they come back.
    pub(crate) async fn reset(&self, victim: Victim) {
        for member in self.pairs[victim.pair] {
            self.scene.swarm.reset(member.client).await;
        }
    }

    /// From this moment on nothing may be written to the peer or from it, if that is what the report says.
    pub(crate) async fn note(&mut self, victim: Victim, report: &Report) {
        if !report.enforced {
            return;
        }
        let peer = Peer::from(name(self.member(victim).number));
        self.scene.swarm.recorder().record(&"administrator".into(), 0, What::RevokeAnswered(peer));
        for member in self.pairs[victim.pair] {
            self.scene.swarm.ask(member.client).await;
        }
    }

    /// Somebody new takes the place of a revoked peer, which goes on trying.
    pub(crate) async fn replace(&mut self, victim: Victim) {
        self.set_rate(victim, CALM).await;
        let [old, partner] = [victim.side, 1 - victim.side].map(|side| self.pairs[victim.pair][side]);
        self.call();
        let Some(new) = self.standby.pop_front() else { return };
        let swarm = &self.scene.swarm;
        swarm.wait_until_stands(new.client).await;
        swarm.write_to(new.client, name(partner.number).into()).await;
        swarm.write_to(partner.client, name(new.number).into()).await;
        self.pairs[victim.pair][victim.side] = new;
        self.revoked.push_back(old);
        if self.revoked.len() > HOSTILE
            && let Some(first) = self.revoked.pop_front()
        {
            swarm.silence(first.client).await;
        }
    }

    /// As [`Self::replace`].
    pub(crate) async fn replace_all(&mut self, victims: impl IntoIterator<Item = Victim>) {
        for victim in victims {
            self.replace(victim).await;
        }
    }

    /// A revocation that nothing disturbs: every node acknowledges it.
    pub(crate) async fn revoke_calmly(&mut self, victim: Victim, node: usize) {
        let report = self.revoke(victim, node).await;
        report.expect(&self.names(0..self.scene.cluster.nodes().len()), &[]);
        self.waited.push(report.waited_ms);
        self.took.push(report.took);
    }

    /// The names of some nodes, in order.
    pub(crate) fn names(&self, nodes: impl IntoIterator<Item = usize>) -> Vec<String> {
        let mut names: Vec<_> =
            nodes.into_iter().map(|node| self.scene.cluster.node(node).gateway().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// All nodes are ready, believe in their leases and relay, and a revocation is what it was before.
    pub(crate) async fn is_as_before(&mut self, next: usize) {
        for node in self.scene.cluster.nodes() {
            node.wait_until_ready().await;
            eventually("not closed", async || {
                (node.metric("heliograph_authorization_fail_closed").await == 0).then_some(())
            })
            .await;
        }
        self.flows().await;
        let victim = self.victim(next);
        self.revoke_calmly(victim, next % self.scene.cluster.nodes().len()).await;
    }

    /// Waits until messages are written on each node that has clients.
    pub(crate) async fn flows(&self) {
        for node in self.scene.cluster.nodes() {
            let start = node.relayed().await;
            eventually("messages flow", async || {
                let idle = node.metric(r#"heliograph_sessions{dialect="mesh"}"#).await == 0;
                (idle || node.relayed().await >= start + 5).then_some(())
            })
            .await;
        }
    }

    /// Ends it; no promise was broken, and the nodes told of each write.
    pub(crate) async fn finish(self, expect: impl FnOnce(&mut Expectations)) -> Summary {
        let ((waited, longest), (took, tail)) = (spread(self.waited), spread(self.took));
        println!("waited: median {waited} ms, p99 {longest} ms; answered: median {took:?}, p99 {tail:?}");
        let summary = self.scene.finish(expect).await;
        assert!(summary.writes >= summary.received, "not each write was logged: {summary:?}");
        assert!(summary.undeliverable.contains_key("unavailable"), "nobody was refused: {summary:?}");
        summary
    }
}

impl Report {
    fn of(answer: &Answer, took: Duration) -> Self {
        let report = answer.json();
        let names = |member: &str| {
            let names = report[member].as_array().into_iter().flatten();
            names.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let enforced = report["enforced"] == true;
        assert_eq!(enforced, answer.status == 200, "{}", answer.text);
        Self {
            status: answer.status,
            enforced,
            acknowledged: names("acknowledged"),
            expired: names("expired"),
            waited_ms: report["waited_ms"].as_u64().unwrap_or(0),
            took,
        }
    }

    /// It is enforced, and so.
    #[track_caller]
    pub(crate) fn expect(&self, acknowledged: &[String], expired: &[String]) {
        assert!(self.enforced, "{self:?}");
        assert_eq!((&*self.acknowledged, &*self.expired), (acknowledged, expired), "{self:?}");
    }
}

async fn ask(peer: &str, admin: &Api) -> Report {
    let begun = Instant::now();
    let answer = admin.post_empty(&format!("/api/pairing/{peer}/revoke?timeout_ms=20000")).await;
    Report::of(&answer, begun.elapsed())
}

/// The median and the 99th percentile of some; nothing of none.
fn spread<T: Ord + Copy + Default>(mut each: Vec<T>) -> (T, T) {
    each.sort_unstable();
    let at = |percent: usize| each.get(each.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
