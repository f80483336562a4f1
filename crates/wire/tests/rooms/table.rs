//! Tables of golden frames, and what the tests of the dialects of rooms share.
//!
//! An entry is `## name`, the frame, `=>` what it says, and where it is relayed `~>` what the others get.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use heliograph_core::id::{Epoch, MeshName, PeerId, RoomName, SpaceName};
use heliograph_core::message::{
    ClientMessage, Directed, Enter, Envelope, Kind, Member, Peer, Proof, Receipt, ServerMessage, Signal,
    Undeliverable, Who,
};
use heliograph_wire::Dialect;

/// Stands in malformed frames where a careless error text would quote.
pub(crate) const MARKER: &str = "PLANTED";
/// Who sends the frames of the tables.
pub(crate) const SENDER: &str = "me";

pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) frame: &'a str,
    pub(crate) expect: &'a str,
    pub(crate) relayed: Option<&'a str>,
}

pub(crate) fn entries(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.split("\n## ").skip(1).map(|entry| {
        let (name, rest) = entry.trim_end().split_once('\n').unwrap();
        let (frame, rest) = rest.split_once("\n=> ").unwrap_or((rest, ""));
        let (expect, relayed) = match rest.split_once("\n~> ") {
            Some((expect, relayed)) => (expect, Some(relayed)),
            None => (rest, None),
        };
        Entry { name, frame, expect, relayed }
    })
}

/// Each frame says what the table says, and the others get what the table says.
pub(crate) fn check_decode(dialect: Dialect, table: &str) {
    let mut seen = 0;
    for Entry { name, frame, expect, relayed } in entries(table) {
        let frame = Bytes::from(frame.to_owned());
        let decoded = dialect.decode(&frame);
        let shown = decoded.as_ref().map_or_else(|malformed| format!("malformed: {malformed}"), summary);
        assert_eq!(shown, expect, "{name}");
        assert!(decoded.is_ok() || !expect.contains(MARKER), "{name} quotes the frame");
        let written = decoded.ok().and_then(|envelope| relay(envelope.message));
        let written = written.map(|message| encoded(dialect, &message));
        assert_eq!(written.as_deref(), relayed, "{name}, at the others");
        seen += 1;
    }
    assert!(seen > 10, "the table is read");
}

/// Each message is written as the table says, in its order.
pub(crate) fn check_encode(dialect: Dialect, table: &str, messages: &[(&str, ServerMessage)]) {
    let names: Vec<_> = entries(table).map(|entry| entry.name).collect();
    assert_eq!(names, messages.iter().map(|message| message.0).collect::<Vec<_>>());
    for (Entry { name, frame, .. }, (_, message)) in entries(table).zip(messages) {
        assert_eq!(encoded(dialect, message), frame, "{name}");
    }
}

/// What the others get of a message that is relayed, or of one who enters.
pub(crate) fn relay(message: ClientMessage<'_>) -> Option<ServerMessage> {
    match message {
        ClientMessage::Directed(Directed { kind, payload, .. }) => Some(signal(kind, payload, false)),
        ClientMessage::Broadcast { kind, payload } => Some(signal(kind, payload, true)),
        ClientMessage::Enter(Enter { profile: Some(profile), .. }) => Some(joined(SENDER, Some(profile))),
        _ => None,
    }
}

fn summary(envelope: &Envelope<'_>) -> String {
    let mut shown = match &envelope.message {
        ClientMessage::Enter(Enter { who, room, profile: _, proves }) => {
            let mut shown = match who {
                Who::Id(id) => format!("enter as {id:?}"),
                Who::Key(key) => format!("enter with key {}", utf8(key)),
            };
            if let Some(room) = room {
                write!(shown, " room {room:?}").unwrap();
            }
            if *proves {
                shown.push_str(" and proof");
            }
            shown
        }
        ClientMessage::Prove(Proof { algorithm, signature }) => {
            format!("prove by {algorithm:?} {signature:?}")
        }
        ClientMessage::Leave => "leave".to_owned(),
        ClientMessage::Directed(Directed { kind, target, .. }) => {
            format!("{} to {:?}", kind_name(kind), target.as_deref().unwrap())
        }
        ClientMessage::Broadcast { kind, .. } => format!("{} to all", kind_name(kind)),
        other => panic!("no dialect of rooms says {other:?}"),
    };
    if let Some(sender) = &envelope.sender {
        write!(shown, " from {sender:?}").unwrap();
    }
    shown
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Offer => "offer".to_owned(),
        Kind::Answer => "answer".to_owned(),
        Kind::Candidate => "candidate".to_owned(),
        Kind::Application(name) => format!("application {name:?}"),
    }
}

pub(crate) fn encoded(dialect: Dialect, message: &ServerMessage) -> String {
    let mut out = vec![];
    dialect.encode(message, &peer_id("receiver"), &mut out);
    String::from_utf8(out).unwrap()
}

pub(crate) fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) fn peer_id(text: &str) -> PeerId {
    PeerId::parse(text).unwrap()
}

pub(crate) fn joined(peer: &str, profile: Option<Bytes>) -> ServerMessage {
    ServerMessage::PeerJoined { peer: peer_id(peer), profile, role: None }
}

pub(crate) fn list(peers: &[(&str, Option<&'static str>)]) -> ServerMessage {
    let member = |(place, (name, profile)): (u64, &(&str, Option<&'static str>))| Member {
        peer: peer_id(name),
        place,
        profile: profile.map(Bytes::from),
    };
    ServerMessage::PeerList { peers: (0..).zip(peers).map(member).collect(), welcome: None }
}

pub(crate) fn receipt(target: &str, failure: Option<Undeliverable>) -> ServerMessage {
    ServerMessage::Receipt { receipt: Receipt { id: None, target: target.into(), failure }, seq: None }
}

pub(crate) fn signal(kind: Kind, payload: Bytes, to_all: bool) -> ServerMessage {
    let space = SpaceName::room_of(&MeshName::default_mesh(), &RoomName::parse("lobby").unwrap());
    let signal = Signal {
        from: Arc::new(Peer::new(space, peer_id(SENDER))),
        from_epoch: Epoch(1),
        kind,
        id: None,
        payload,
        receipt: false,
        to_all,
        accepted_at: Instant::now(),
        via_bus: false,
        trace: None,
    };
    ServerMessage::Signal { signal, seq: None }
}
