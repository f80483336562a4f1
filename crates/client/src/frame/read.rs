//! What we hear. Types that this version does not know are none of its business.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use heliograph_core::id::{PeerId, SERVICE};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{IceServer, Listed, Role};
use crate::limits;
use crate::outcome::Reason;

/// Longest text of an error that is kept, in characters.
const MAX_TEXT: usize = 300;

/// One frame.
pub(crate) struct Frame {
    /// Its number in the session, where it has one.
    pub(crate) seq: Option<u64>,
    pub(crate) from: From,
}

/// Who says it. A peer may send any type; only the service itself may speak about others.
pub(crate) enum From {
    Service(Word),
    Peer { from: PeerId, kind: String, payload: Box<RawValue>, id: Option<String> },
}

/// What the service says.
pub(crate) enum Word {
    PeerList(List),
    Resumed(Resumed),
    PeerJoined(Listed),
    PeerLeft(PeerId),
    PeerRevoked(PeerId),
    Approved,
    Delivered {
        id: String,
    },
    Undeliverable {
        id: Option<String>,
        target: Option<PeerId>,
        reason: Reason,
    },
    IceServers(Vec<IceServer>),
    GoAway(GoAway),
    Error {
        code: String,
        message: String,
    },
    /// `pong`, and whatever a newer service says.
    Other,
}

/// The answer to a registration.
pub(crate) struct List {
    pub(crate) peers: Vec<Listed>,
    pub(crate) grants_feedback: bool,
    pub(crate) grants_resume: bool,
    pub(crate) session: Option<SessionInfo>,
    pub(crate) ice_servers: Option<Vec<IceServer>>,
}

/// What a list says of the session.
pub(crate) struct SessionInfo {
    pub(crate) epoch: u64,
    pub(crate) resume_token: Option<Secret>,
    pub(crate) resume_window: Duration,
}

/// The answer to a resumption.
pub(crate) enum Resumed {
    /// The session is a new one.
    Fresh,
    /// It goes on.
    GoesOn { recovered: u64, lost: u64, resume_token: Option<Secret>, resume_window: Option<Duration> },
}

/// The node drains.
#[derive(Deserialize)]
pub(crate) struct GoAway {
    pub(crate) reconnect_after_ms: Option<u64>,
    pub(crate) deadline_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    seq: Option<u64>,
}

/// Reads a frame; `None` if it is none of this dialect. What was wrong with it is not said, so that nothing of it is
/// ever quoted.
pub(crate) fn read(text: &str) -> Option<Frame> {
    let envelope: Envelope<'_> = serde_json::from_str(text).ok()?;
    let payload = envelope.payload.map_or("null", RawValue::get);
    let from = if envelope.peer_id == SERVICE {
        From::Service(word(&envelope.kind, payload)?)
    } else {
        From::Peer {
            from: PeerId::parse(&envelope.peer_id).ok()?,
            kind: envelope.kind.into_owned(),
            payload: RawValue::from_string(payload.to_owned()).ok()?,
            id: envelope.id.map(Cow::into_owned),
        }
    };
    Some(Frame { seq: envelope.seq, from })
}

fn word(kind: &str, payload: &str) -> Option<Word> {
    Some(match kind {
        "peer_list" => Word::PeerList(serde_json::from_str::<RawList<'_>>(payload).ok()?.checked()),
        "resumed" => Word::Resumed(serde_json::from_str::<RawResumed>(payload).ok()?.checked()),
        "peer_joined" => {
            let Who { peer, role } = serde_json::from_str(payload).ok()?;
            Word::PeerJoined(Listed {
                peer: PeerId::parse(&peer).ok()?,
                role: role.and_then(|role| Role::parse(&role)),
            })
        }
        "peer_left" => Word::PeerLeft(peer(payload)?),
        "peer_revoked" => Word::PeerRevoked(peer(payload)?),
        "approved" => Word::Approved,
        "delivered" => Word::Delivered { id: serde_json::from_str::<Receipt>(payload).ok()?.id? },
        "undeliverable" => {
            let Receipt { id, target, reason } = serde_json::from_str(payload).ok()?;
            let target = target.and_then(|target| PeerId::parse(&target).ok());
            Word::Undeliverable {
                id,
                target,
                reason: reason.map_or(Reason::Unavailable, |word| Reason::parse(&word)),
            }
        }
        "ice_servers" => {
            Word::IceServers(checked_ice(serde_json::from_str::<RawIce>(payload).ok()?.ice_servers))
        }
        "goaway" => Word::GoAway(serde_json::from_str(payload).ok()?),
        "error" => {
            let ServiceError { code, message } = serde_json::from_str(payload).ok()?;
            Word::Error { code: cut(&code), message: cut(&message) }
        }
        _ => Word::Other,
    })
}

fn peer(payload: &str) -> Option<PeerId> {
    PeerId::parse(&serde_json::from_str::<Who>(payload).ok()?.peer).ok()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[derive(Deserialize)]
struct Who {
    peer: String,
    role: Option<String>,
}

#[derive(Deserialize)]
struct Receipt {
    id: Option<String>,
    target: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ServiceError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct RawIce {
    ice_servers: Vec<RawIceServer>,
}

#[derive(Deserialize)]
struct RawIceServer {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

/// `RTCIceServer.urls` is one or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

fn checked_ice(servers: Vec<RawIceServer>) -> Vec<IceServer> {
    let checked = servers.into_iter().map(|server| IceServer {
        urls: match server.urls {
            Urls::One(url) => vec![url],
            Urls::Many(urls) => urls,
        },
        username: server.username,
        credential: server.credential.map(|credential| Arc::new(Secret::new(credential))),
    });
    checked.collect()
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(borrow, default)]
    peers: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    capabilities: Vec<Cow<'a, str>>,
    session: Option<RawSession>,
    #[serde(borrow, default)]
    roles: HashMap<Cow<'a, str>, Cow<'a, str>>,
    ice_servers: Option<Vec<RawIceServer>>,
}

#[derive(Deserialize)]
struct RawSession {
    epoch: u64,
    resume_token: Option<String>,
    #[serde(default)]
    resume_window_ms: u64,
}

impl RawList<'_> {
    fn checked(self) -> List {
        let grants = |name: &str| self.capabilities.iter().any(|capability| capability == name);
        let listed = |id: &Cow<'_, str>| {
            let role = self.roles.get(id).and_then(|role| Role::parse(role));
            PeerId::parse(id).ok().map(|peer| Listed { peer, role })
        };
        List {
            peers: self.peers.iter().filter_map(listed).collect(),
            grants_feedback: grants("feedback"),
            grants_resume: grants("resume"),
            session: self.session.map(|session| SessionInfo {
                epoch: session.epoch,
                resume_token: session.resume_token.map(Secret::new),
                resume_window: Duration::from_millis(session.resume_window_ms),
            }),
            ice_servers: self.ice_servers.map(checked_ice),
        }
    }
}

#[derive(Deserialize)]
struct RawResumed {
    #[serde(default)]
    fresh: bool,
    recovered: Option<u64>,
    lost: Option<u64>,
    resume_token: Option<String>,
    resume_window_ms: Option<u64>,
}

impl RawResumed {
    fn checked(self) -> Resumed {
        if self.fresh {
            return Resumed::Fresh;
        }
        Resumed::GoesOn {
            recovered: self.recovered.unwrap_or(0),
            lost: self.lost.unwrap_or(0),
            resume_token: self.resume_token.map(Secret::new),
            resume_window: self.resume_window_ms.map(Duration::from_millis),
        }
    }
}

impl GoAway {
    /// When to move, if the node says so,
    pub(crate) fn reconnect_after(&self) -> Option<Duration> {
        self.reconnect_after_ms.map(pause)
    }

    /// and when it closes the socket.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(pause)
    }
}

fn pause(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(limits::LONGEST_PAUSE)
}
