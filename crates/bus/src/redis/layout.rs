//! Looks up which Redis node serves which partition.
//!
//! All that may know are asked at once, and of their answers the newest counts: one that was paused or cut off still
//! believes what was true before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::connect::{CONNECT_TIMEOUT, ConnectError, Connector, Server};
use super::keys::Partition;
use super::options::{Address, Credentials, Form};
use super::resp::Value;

/// Once one has answered, how long the others may take: one that is paused must not hold up a look.
const LATE: Duration = Duration::from_millis(200);
/// Most nodes of a Cluster that are asked in one look.
const MAX_ASKED: usize = 64;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The node that serves each partition.
    pub(crate) owners: Vec<Option<Address>>,
    /// What all nodes can do.
    pub(crate) server: Server,
    /// Whom to ask the next time, beside those of the URL.
    pub(crate) known: Vec<Address>,
}

/// Looks once.
pub(crate) async fn look(connector: &Arc<Connector>, known: &[Address]) -> Result<Layout, ConnectError> {
    match &connector.options().form {
        Form::Standalone(address) => one(connector, address.clone()).await,
        Form::Sentinel { sentinels, service, credentials } => {
            let address = primary(connector, sentinels, service, credentials).await?;
            one(connector, address).await
        }
        Form::Cluster(seeds) => slots(connector, seeds, known).await,
    }
}

async fn one(connector: &Connector, address: Address) -> Result<Layout, ConnectError> {
    let server = connector.open_primary(&address).await?.server;
    Ok(Layout { owners: Partition::all().map(|_| Some(address.clone())).collect(), server, known: vec![] })
}

/// The primary of a service, as the sentinel says that saw the latest failover.
async fn primary(
    connector: &Arc<Connector>,
    sentinels: &[Address],
    service: &str,
    credentials: &Credentials,
) -> Result<Address, ConnectError> {
    let mut asked = JoinSet::new();
    for sentinel in sentinels {
        let (connector, sentinel) = (Arc::clone(connector), sentinel.clone());
        let (service, credentials) = (service.to_owned(), credentials.clone());
        asked.spawn(async move { ask_sentinel(&connector, &sentinel, &service, &credentials).await });
    }
    let newest = gather(asked).await?.into_iter().max_by_key(|(epoch, _)| *epoch);
    newest.map(|(_, address)| address).ok_or(ConnectError::Timeout)
}

async fn ask_sentinel(
    connector: &Connector,
    sentinel: &Address,
    service: &str,
    credentials: &Credentials,
) -> Result<(i64, Address), ConnectError> {
    let mut connection = connector.open_sentinel(sentinel, credentials).await?;
    let service = service.as_bytes();
    let primary = |answer: &Value<'_>| match answer.elements() {
        [host, port] => Some(Address::new(&text(host)?, text(port)?.parse().ok()?)),
        _ => None,
    };
    let known = connection.call(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service], primary).await?;
    let unknown = || {
        let service = String::from_utf8_lossy(service);
        ConnectError::Refused(format!("the sentinels know no service {service:?}"))
    };
    let address = known.ok_or_else(unknown)?;
    let epoch = |answer: &Value<'_>| answer.get("config-epoch").and_then(text)?.parse().ok();
    let epoch = connection.call(&[b"SENTINEL", b"MASTER", service], epoch).await?;
    Ok((epoch.unwrap_or(0), address))
}

/// One node's view of a Cluster.
struct View {
    /// Whether the node sees a working cluster, and in which epoch it lives.
    standing: (bool, u64),
    server: Server,
    /// First and last slot, and the primary's address.
    ranges: Vec<(u16, u16, Address)>,
    /// All nodes that it knows.
    nodes: Vec<Address>,
}

async fn slots(
    connector: &Arc<Connector>,
    seeds: &[Address],
    known: &[Address],
) -> Result<Layout, ConnectError> {
    let mut asked = JoinSet::new();
    let all: BTreeSet<&Address> = seeds.iter().chain(known).take(MAX_ASKED).collect();
    for node in all.into_iter().cloned() {
        let connector = connector.clone();
        asked.spawn(async move { ask_node(&connector, node).await });
    }
    let views = gather(asked).await?;
    let sharded_pubsub = views.iter().all(|view| view.server.sharded_pubsub);
    let newest = views.into_iter().max_by_key(|view| view.standing).ok_or(ConnectError::Timeout)?;
    let owner = |partition: Partition| {
        let slot = partition.slot();
        let range = newest.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot))?;
        Some(range.2.clone())
    };
    let owners = Partition::all().map(owner).collect();
    Ok(Layout { owners, server: Server { sharded_pubsub, replica: false }, known: newest.nodes })
}

async fn ask_node(connector: &Connector, node: Address) -> Result<View, ConnectError> {
    let mut connection = connector.open(&node).await?;
    let standing = connection
        .call(&[b"CLUSTER", b"INFO"], |answer| {
            let info = text(answer).unwrap_or_default();
            let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
            let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.parse().ok());
            (field("cluster_state:") == Some("ok"), epoch.unwrap_or(0))
        })
        .await?;
    let server = connection.server;
    let mut view = View { standing, server, ranges: vec![], nodes: vec![] };
    connection
        .call(&[b"CLUSTER", b"SLOTS"], |answer| {
            for range in answer.elements() {
                view.read_range(range, &node);
            }
        })
        .await?;
    Ok(view)
}

impl View {
    /// First slot, last slot, the primary, its replicas; each node begins with host and port.
    fn read_range(&mut self, range: &Value<'_>, asked: &Address) {
        let [first, last, nodes @ ..] = range.elements() else { return };
        let mut addresses = nodes.iter().filter_map(|node| match node.elements() {
            [host, port, ..] => {
                // No host: the one that was asked, whose own address it does not know.
                let host = text(host).filter(|host| !host.is_empty() && host != "?");
                let port = u16::try_from(port.number()?).ok()?;
                Some(Address { host: host.unwrap_or_else(|| asked.host.clone()), port })
            }
            _ => None,
        });
        let slot = |value: &Value<'_>| value.number().and_then(|slot| u16::try_from(slot).ok());
        let (Some(first), Some(last), Some(primary)) = (slot(first), slot(last), addresses.next()) else {
            return;
        };
        let new = [primary.clone()].into_iter().chain(addresses).filter(|node| !self.nodes.contains(node));
        let room = MAX_ASKED.saturating_sub(self.nodes.len());
        let new: Vec<_> = new.take(room).collect();
        self.nodes.extend(new);
        self.ranges.push((first, last, primary));
    }
}

fn text(value: &Value<'_>) -> Option<String> {
    value.text().map(|text| String::from_utf8_lossy(text).into_owned())
}

/// All answers that come in time; if there are none, why.
async fn gather<T: Send + 'static>(
    mut asked: JoinSet<Result<T, ConnectError>>,
) -> Result<Vec<T>, ConnectError> {
    let mut answers = vec![];
    let mut failure = ConnectError::Timeout;
    let mut deadline = Instant::now() + 4 * CONNECT_TIMEOUT;
    while let Ok(Some(joined)) = timeout_at(deadline, asked.join_next()).await {
        match joined {
            Ok(Ok(answer)) => {
                answers.push(answer);
                deadline = deadline.min(Instant::now() + LATE);
            }
            // What somebody has to change says more than that another one was away.
            Ok(Err(error)) if error.is_lasting() || !failure.is_lasting() => failure = error,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    if answers.is_empty() { Err(failure) } else { Ok(answers) }
}
