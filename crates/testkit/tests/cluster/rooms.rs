//! A room whose members are on three nodes.

use std::collections::BTreeSet;

use heliograph_testkit::{Cluster, Dial, MeshClient, Plan};
use tokio::task::JoinSet;

use crate::scene::{NODES, SETTINGS, alone};

const MEMBERS: usize = 500;
/// The last of them leave by themselves.
const LEAVING: usize = 100;

/// A member and what it heard.
struct Member {
    number: usize,
    client: MeshClient,
    /// How many were there when it came, itself among them.
    count: usize,
    announced: Vec<String>,
    left: Vec<String>,
}

fn name(number: usize) -> String {
    format!("m{number}")
}

/// The second part of a frame: whom it is about.
fn whom(frame: &str) -> String {
    frame.split('|').nth(1).unwrap().to_owned()
}

impl Member {
    async fn enter(dial: Dial, number: usize) -> Self {
        let id = name(number);
        let mut client = dial.path("/primus").open(&id).await.unwrap();
        client.send_text(&format!(r#"/announce|{id}|{{"id":"{id}","room":"hall"}}"#)).await;
        let info = client.next_text().await;
        let count =
            info.trim_start_matches(r#"/roominfo|{"memberCount":"#).trim_end_matches('}').parse().unwrap();
        Self { number, client, count, announced: vec![], left: vec![] }
    }

    /// Reads until so many came and left.
    async fn hear(&mut self, announced: usize, left: usize) {
        while self.announced.len() < announced || self.left.len() < left {
            let frame = self.client.next_text().await;
            match frame.split('|').next() {
                Some("/announce") => self.announced.push(whom(&frame)),
                Some("/leave") => self.left.push(whom(&frame)),
                _ => panic!("{}: {frame}", self.number),
            }
        }
        assert_eq!((self.announced.len(), self.left.len()), (announced, left), "{}", self.number);
    }
}

/// All do something at once.
async fn all<F: Future<Output = Member> + Send + 'static>(tasks: impl Iterator<Item = F>) -> Vec<Member> {
    let set: JoinSet<Member> = tasks.collect();
    let mut members = set.join_all().await;
    members.sort_by_key(|member| member.number);
    members
}

async fn hall(cluster: &Cluster) -> Vec<Member> {
    let dial = |number: usize| Dial::to(cluster.node(number % NODES).address());
    let members = all((0..MEMBERS).map(|number| Member::enter(dial(number), number))).await;
    let counts: BTreeSet<usize> = members.iter().map(|member| member.count).collect();
    assert_eq!(counts, (1..=MEMBERS).collect(), "one order for all");
    all(members.into_iter().map(|mut member| async move {
        // Each is shown those who came later, and was counted by them.
        member.hear(MEMBERS - member.count, 0).await;
        member
    }))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_leaves_and_a_dead_node_reach_every_member_once_and_in_one_order() {
    let _alone = alone().await;
    let cluster = Plan::nodes(NODES).settings(&SETTINGS).settings(&[("ROOMS", "open")]).start().await;
    let mut members = hall(&cluster).await;
    for member in &members {
        let distinct: BTreeSet<_> = member.announced.iter().collect();
        assert_eq!(distinct.len(), member.announced.len(), "{} was shown somebody twice", member.number);
    }

    let leaving = members.split_off(MEMBERS - LEAVING);
    for mut member in leaving {
        let id = name(member.number);
        member.client.send_text(&format!(r#"/leave|{id}|{{"id":"{id}"}}"#)).await;
    }
    members = all(members.into_iter().map(|mut member| async move {
        member.hear(MEMBERS - member.count, LEAVING).await;
        member
    }))
    .await;
    assert!(members.windows(2).all(|pair| pair[0].left == pair[1].left), "one order for all");

    cluster.node(0).kill();
    members.retain(|member| member.number % NODES != 0);
    let ghosts = (0..MEMBERS - LEAVING).filter(|number| number % NODES == 0).count();
    members = all(members.into_iter().map(|mut member| async move {
        member.hear(MEMBERS - member.count, LEAVING + ghosts).await;
        member
    }))
    .await;
    for member in &members {
        let distinct: BTreeSet<_> = member.left.iter().collect();
        assert_eq!(distinct.len(), LEAVING + ghosts, "{} was told of somebody twice", member.number);
    }
}
