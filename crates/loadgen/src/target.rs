//! The server under load, and how to speak to it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{bail, ensure};
use bytes::Bytes;

use crate::client::{Client, prepared, source_address};
use crate::peers::Peer;
use crate::token;

/// Length of an offer or answer as one whole message, in bytes.
pub const DESCRIPTION_BYTES: usize = 1_500;

/// Which of the two it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialect {
    /// The product; tokens are signed with this secret.
    Mesh {
        /// Its `HELIOGRAPH_SIGNING_SECRET`.
        secret: String,
    },
    /// The bare relay.
    Bare {
        /// Whether it is one of several, whose clients hear when they can be reached from the others.
        linked: bool,
    },
}

/// A running server.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to speak to it.
    pub dialect: Dialect,
    /// Its public listener.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
}

/// Nodes that are one service, and the servers behind them.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its nodes; never empty.
    pub nodes: Vec<Target>,
    /// Redis's process, if the nodes have one between them.
    pub redis: Option<u32>,
    /// The first process of their PostgreSQL, which starts others.
    pub postgres: Option<u32>,
}

impl Service {
    /// The node for the peer number `index`: they take turns.
    pub fn node(&self, index: usize) -> &Target {
        &self.nodes[index % self.nodes.len()]
    }

    /// Whether it is the product.
    pub fn speaks_mesh(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.dialect, Dialect::Mesh { .. }))
    }
}

impl From<Target> for Service {
    fn from(node: Target) -> Self {
        Self { nodes: vec![node], redis: None, postgres: None }
    }
}

/// What a client of the product says that it can do; the bare relay is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing: a client of the original protocol.
    Plain,
    /// It wants to know what became of its messages.
    Feedback,
    /// Everything there is.
    Full,
}

/// A message of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An offer, [`DESCRIPTION_BYTES`] long.
    Offer,
    /// An answer, as long.
    Answer,
    /// A candidate, as long as they come.
    Candidate,
}

impl Target {
    /// Connects as `peer` and upgrades; `index` chooses the source address.
    pub async fn connect(&self, peer: &Peer, index: usize) -> anyhow::Result<Client> {
        self.connect_from(peer, source_address(index)).await
    }

    /// As [`Self::connect`], from a loopback address. A server that will not have it is a
    /// [`crate::client::Refused`].
    pub async fn connect_from(&self, peer: &Peer, source: Ipv4Addr) -> anyhow::Result<Client> {
        let path = match &self.dialect {
            Dialect::Mesh { secret } => format!("/ws?token={}", token::sign(peer, secret)?),
            Dialect::Bare { .. } => format!("/ws?id={}", peer.id),
        };
        Client::connect(self.address, source, &path).await
    }

    /// What a client says first, if anything.
    pub fn registration(&self, peer: &Peer, manner: Manner) -> Option<String> {
        let Dialect::Mesh { .. } = self.dialect else { return None };
        let payload = match manner {
            Manner::Plain => "null",
            Manner::Feedback => r#"{"version":1,"capabilities":["feedback"]}"#,
            Manner::Full => {
                r#"{"version":1,"capabilities":["events","feedback","resume","roles","ice","goaway"]}"#
            }
        };
        Some(format!(r#"{{"type":"register","peer_id":"{}","payload":{payload}}}"#, peer.id))
    }

    /// Registers a connected client and waits for its list; with the bare relay until it can be reached.
    pub async fn register(&self, client: &mut Client, peer: &Peer, manner: Manner) -> anyhow::Result<()> {
        if let Some(text) = self.registration(peer, manner) {
            client.send(&text).await?;
            await_list(client).await?;
            return Ok(());
        }
        if self.dialect == (Dialect::Bare { linked: true }) {
            ensure!(client.receive().await?.is_empty(), "a message before the client could be reached");
        }
        Ok(())
    }

    /// Connects and registers.
    pub async fn join(&self, peer: &Peer, index: usize, manner: Manner) -> anyhow::Result<Client> {
        let mut client = self.connect(peer, index).await?;
        self.register(&mut client, peer, manner).await?;
        Ok(client)
    }

    /// A message as a frame ready to be written, any number of times. Both servers hand on the same envelope, so
    /// that as many bytes come out of each; the bare relay gets the target's name before it.
    pub fn message(&self, kind: Kind, from: &Peer, to: &Peer, id: Option<&str>) -> Vec<u8> {
        let envelope = envelope(kind, &from.id, &to.id, id);
        match self.dialect {
            Dialect::Mesh { .. } => prepared(&envelope),
            Dialect::Bare { .. } => prepared(&format!("{}\n{envelope}", to.id)),
        }
    }
}

/// Waits for the peer list; the whole message.
pub async fn await_list(client: &mut Client) -> anyhow::Result<Bytes> {
    loop {
        let text = client.receive().await?;
        // The type stands at one of the ends; a list of thousands in between is not searched.
        let (head, tail) = (&text[..text.len().min(64)], &text[text.len().saturating_sub(64)..]);
        if contains(head, br#""peer_list""#) || contains(tail, br#""peer_list""#) {
            return Ok(text);
        }
        if contains(&text, br#""type":"error""#) {
            bail!("the server refused to register: {}", String::from_utf8_lossy(&text));
        }
    }
}

/// The next message that a peer sent; what the server says itself is skipped.
pub async fn from_peer(client: &mut Client) -> anyhow::Result<()> {
    loop {
        let text = client.receive().await?;
        if !contains(&text, br#""peer_id":"registry""#) {
            return Ok(());
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn envelope(kind: Kind, from: &str, to: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!(r#","id":"{id}""#)).unwrap_or_default();
    let name = match kind {
        Kind::Offer => "offer",
        Kind::Answer => "answer",
        Kind::Candidate => {
            return format!(
                r#"{{"type":"ice_candidate","peer_id":"{from}","target_id":"{to}"{id},"payload":{{"candidate":"candidate:3512096704 1 udp 1677729535 203.0.113.77 51472 typ srflx raddr 192.0.2.15 rport 51472 generation 0 ufrag kX3q network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"kX3q"}}}}"#
            );
        }
    };
    let head = format!(
        r#"{{"type":"{name}","peer_id":"{from}","target_id":"{to}"{id},"payload":{{"type":"{name}","sdp":""#
    );
    let tail = r#""}}"#;
    let sdp = description(DESCRIPTION_BYTES.saturating_sub(head.len() + tail.len()));
    head + &sdp + tail
}

/// A session description of `length` bytes, written as inside a JSON string.
fn description(length: usize) -> String {
    const LINES: [&str; 8] = [
        r"v=0\r\no=- 1764500000000000000 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n",
        r"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n",
        r"a=ice-ufrag:kX3q\r\na=ice-pwd:f2Y0cmFuZG9tLWVub3VnaC10bw\r\na=ice-options:trickle\r\n",
        r"a=fingerprint:sha-256 2B:7E:15:16:28:AE:D2:A6:AB:F7:15:88:09:CF:4F:3C:2B:7E:15:16:28:AE:D2:A6:AB:F7:15:88:09:CF:4F:3C\r\n",
        r"a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n",
        r"a=candidate:1467250027 1 udp 2122260223 192.0.2.15 46243 typ host generation 0 network-id 1\r\n",
        r"a=candidate:3512096704 1 udp 1677729535 203.0.113.77 51472 typ srflx raddr 192.0.2.15 rport 51472\r\n",
        r"a=candidate:2871350211 1 tcp 1518280447 192.0.2.15 9 typ host tcptype active generation 0\r\n",
    ];
    let mut text = String::with_capacity(length);
    for line in LINES.iter().chain(LINES[5..].iter().cycle()) {
        if text.len() + line.len() > length {
            break;
        }
        text.push_str(line);
    }
    text.extend(std::iter::repeat_n('x', length - text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::roster;

    #[test]
    fn messages_are_json_of_the_stated_length() {
        for (kind, name) in
            [(Kind::Offer, "offer"), (Kind::Answer, "answer"), (Kind::Candidate, "ice_candidate")]
        {
            for id in [None, Some("m1")] {
                let text = envelope(kind, "peer-1", "peer-2", id);
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&value["type"], &value["target_id"]), (&name.into(), &"peer-2".into()));
                assert_eq!(value["id"].as_str(), id);
                if kind != Kind::Candidate {
                    assert_eq!(text.len(), DESCRIPTION_BYTES);
                    assert!(value["payload"]["sdp"].as_str().unwrap().starts_with("v=0\r\n"));
                }
            }
        }
    }

    #[test]
    fn the_bare_relay_gets_the_target_first() {
        let peers = roster(2, 2);
        let target = |dialect| Target { dialect, address: ([127, 0, 0, 1], 1).into(), pid: 0 };
        let bare = target(Dialect::Bare { linked: false }).message(Kind::Offer, &peers[0], &peers[1], None);
        let mesh =
            target(Dialect::Mesh { secret: String::new() }).message(Kind::Offer, &peers[0], &peers[1], None);
        assert_eq!(bare.len(), mesh.len() + "peer-00001\n".len());
    }

    #[test]
    fn a_description_has_any_length() {
        for length in [0, 1, 100, 1_400, 5_000] {
            assert_eq!(description(length).len(), length);
        }
    }
}
