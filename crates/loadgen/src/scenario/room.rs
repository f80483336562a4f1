//! One large room over all nodes, and pairs in a small one at one node beside it, both of the rtc dialect.

use super::{Cost, Meter, close_all};
use crate::client::{Client, prepared, source_address};
use crate::target::{DESCRIPTION_BYTES, Service, Target};

/// Rounds in which one member at each node speaks to all.
const BROADCASTS: usize = 40;
/// Pairs that speak to each other, all at the first node.
const PAIRS: usize = 50;
/// Rounds in which one of each pair speaks to the other.
const DIRECTED: usize = 400;

/// What one copy costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copies {
    /// Of a message to the room, to one of its members.
    pub broadcast: Cost,
    /// Of a message to one member, within a node.
    pub directed: Cost,
}

/// `members` meet in one room, in turns at the nodes.
pub async fn run(service: &Service, members: usize) -> anyhow::Result<Copies> {
    let broadcast = to_all(service, members).await?;
    let directed = to_one(service).await?;
    Ok(Copies { broadcast, directed })
}

async fn to_all(service: &Service, members: usize) -> anyhow::Result<Cost> {
    let mut room = gather(members, "all", |index| service.node(index)).await?;
    let said: Vec<_> = (0..members).map(|index| frame(&format!("/say|{}|", id(index)))).collect();
    let speakers = service.nodes.len().min(members);
    let meter = Meter::start(service)?;
    for round in 0..BROADCASTS {
        // Members stand in turns at the nodes: neighbours are at different ones.
        let first = round * speakers % members;
        let speaking: Vec<_> = (0..speakers).map(|offset| (first + offset) % members).collect();
        for &index in &speaking {
            room[index].writer().write(&said[index]).await?;
        }
        for (index, member) in room.iter_mut().enumerate() {
            let own = usize::from(speaking.contains(&index));
            for _ in own..speakers {
                member.receive().await?;
            }
        }
    }
    let cost = meter.stop((BROADCASTS * speakers * (members - 1)) as u64)?;
    close_all(room).await?;
    Ok(cost)
}

async fn to_one(service: &Service) -> anyhow::Result<Cost> {
    let mut room = gather(PAIRS * 2, "pairs", |_| &service.nodes[0]).await?;
    let (senders, receivers) = room.split_at_mut(PAIRS);
    let said: Vec<_> =
        (0..PAIRS).map(|index| frame(&format!("/to|{}|/say|{}|", id(index + PAIRS), id(index)))).collect();
    let meter = Meter::start(service)?;
    for _ in 0..DIRECTED {
        for (sender, said) in senders.iter().zip(&said) {
            sender.writer().write(said).await?;
        }
        for receiver in receivers.iter_mut() {
            receiver.receive().await?;
        }
    }
    let cost = meter.stop((DIRECTED * PAIRS) as u64)?;
    close_all(room).await?;
    Ok(cost)
}

/// Members that have heard all that there is to hear of one another.
async fn gather<'a>(
    members: usize,
    room: &str,
    node: impl Fn(usize) -> &'a Target,
) -> anyhow::Result<Vec<Client>> {
    let mut gathered = Vec::with_capacity(members);
    for index in 0..members {
        let mut client = Client::connect(node(index).address, source_address(index), "/").await?;
        let id = id(index);
        client.send(&format!(r#"/announce|{id}|{{"id":"{id}","room":"{room}"}}"#)).await?;
        client.receive().await?; // how many there are
        gathered.push(client);
    }
    for (index, member) in gathered.iter_mut().enumerate() {
        for _later in index + 1..members {
            member.receive().await?;
        }
    }
    Ok(gathered)
}

fn id(index: usize) -> String {
    format!("member-{index:05}")
}

/// A message that begins so, as long as an offer.
fn frame(head: &str) -> Vec<u8> {
    let tail = r#"{"sdp":""}"#.len();
    let filling = "x".repeat(DESCRIPTION_BYTES.saturating_sub(head.len() + tail));
    prepared(&format!(r#"{head}{{"sdp":"{filling}"}}"#))
}
