//! Parcels as bytes.
//!
//! ```text
//! version  kind  sender          body
//! u8 = 1   u8    length u8, text fields in the order of their struct, numbers little-endian
//! ```
//!
//! Texts have a length of two bytes, payloads and whatever is repeated one of four. A later version may append fields:
//! what follows the ones known here is skipped. It may add kinds: they are dropped and counted. A payload is copied once
//! into the frame, and on the other side stays where it arrived.
//!
//! News are told by the presence scripts, in the same step in which they become true. So they have a second form that a
//! script can write, `J PLACE PEER` and `L PLACE AT PEER`, with a line feed and the member's profile at the end of the
//! former where it shows one; it names no sender, and all nodes take it, the one that ran
//! the script too.

use bytes::Bytes;
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName, Version};
use heliograph_core::message::{Capabilities, Kind, Member, Receipt, TraceContext, Undeliverable};

use self::field::{Reader, Writer};
use crate::{Due, Estate, HandOver, Parcel, RemoteSignal, TakeOver, Unanswered};

mod field;
#[cfg(test)]
mod tests;

/// Largest frame, in bytes. A whole estate fits; Redis cuts a subscriber off that is 32 MiB behind.
pub(crate) const MAX_FRAME: usize = 16 * 1024 * 1024;

const VERSION: u8 = 1;

const SIGNAL: u8 = 1;
const RECEIPT: u8 = 2;
const SUPERSEDED: u8 = 3;
const JOINED: u8 = 4;
const LEFT: u8 = 5;
const TAKE_OVER: u8 = 6;
const HAND_OVER: u8 = 7;
const DRAIN: u8 = 8;
const BROADCAST: u8 = 9;

/// A text or an estate is larger than a frame can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// What a frame is to the node that received it.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at once, where it is made; a box would cost each message one"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoded {
    Parcel(Parcel),
    /// This node sent it.
    Echo,
    /// Of a later version, or a kind of a later version.
    Unknown,
    Malformed,
}

/// Writes a frame at the end of `to`. After an error, what was written there is of no use.
pub(crate) fn encode(to: &mut Vec<u8>, sender: &GatewayId, parcel: &Parcel) -> Result<(), TooLarge> {
    let start = to.len();
    if let Parcel::Joined(Member { peer, place, profile: Some(profile) }) = parcel {
        to.extend_from_slice(format!("J {place} {peer}\n").as_bytes());
        to.extend_from_slice(profile);
        return Ok(());
    }
    let mut to = Writer::new(to);
    to.u8(VERSION);
    to.u8(kind_of(parcel));
    to.short_text(sender.as_str());
    match parcel {
        Parcel::Signal(signal) | Parcel::Broadcast(signal) => write_signal(&mut to, signal),
        Parcel::Receipt { epoch, receipt } => {
            to.u64(epoch.0);
            write_receipt(&mut to, receipt);
        }
        Parcel::Superseded { by } => to.u64(by.0),
        Parcel::Joined(member) => write_member(&mut to, member),
        Parcel::Left { member, at } => {
            write_member(&mut to, member);
            to.u64(*at);
        }
        Parcel::TakeOver(take_over) => write_take_over(&mut to, take_over),
        Parcel::HandOver(hand_over) => write_hand_over(&mut to, hand_over),
        Parcel::Drain { on } => to.bool(*on),
    }
    if to.fits() && to.written() - start <= MAX_FRAME { Ok(()) } else { Err(TooLarge) }
}

fn kind_of(parcel: &Parcel) -> u8 {
    match parcel {
        Parcel::Signal(_) => SIGNAL,
        Parcel::Broadcast(_) => BROADCAST,
        Parcel::Receipt { .. } => RECEIPT,
        Parcel::Superseded { .. } => SUPERSEDED,
        Parcel::Joined(_) => JOINED,
        Parcel::Left { .. } => LEFT,
        Parcel::TakeOver(_) => TAKE_OVER,
        Parcel::HandOver(_) => HAND_OVER,
        Parcel::Drain { .. } => DRAIN,
    }
}

/// Reads a frame that arrived at the node `me`.
pub(crate) fn decode(frame: &Bytes, me: &GatewayId) -> Decoded {
    match frame.first() {
        Some(b'J' | b'L') => return decode_news(frame).map_or(Decoded::Malformed, Decoded::Parcel),
        Some(&VERSION) => {}
        Some(_) => return Decoded::Unknown,
        None => return Decoded::Malformed,
    }
    let mut from = Reader::new(frame, 1);
    let Some(kind) = from.u8() else { return Decoded::Malformed };
    if !(SIGNAL..=BROADCAST).contains(&kind) {
        return Decoded::Unknown;
    }
    match from.short_text() {
        // A fence stands between the parcels of others, so whoever raised it has to see where.
        Some(sender) if sender == me.as_str() && kind != SUPERSEDED => Decoded::Echo,
        Some(_) => read_body(kind, &mut from).map_or(Decoded::Malformed, Decoded::Parcel),
        None => Decoded::Malformed,
    }
}

fn read_body(kind: u8, from: &mut Reader<'_>) -> Option<Parcel> {
    Some(match kind {
        SIGNAL => Parcel::Signal(read_signal(from)?),
        BROADCAST => Parcel::Broadcast(read_signal(from)?),
        RECEIPT => Parcel::Receipt { epoch: Epoch(from.u64()?), receipt: read_receipt(from)? },
        SUPERSEDED => Parcel::Superseded { by: Epoch(from.u64()?) },
        JOINED => Parcel::Joined(read_member(from)?),
        LEFT => Parcel::Left { member: read_member(from)?, at: from.u64()? },
        TAKE_OVER => Parcel::TakeOver(read_take_over(from)?),
        HAND_OVER => Parcel::HandOver(read_hand_over(from)?),
        DRAIN => Parcel::Drain { on: from.bool()? },
        _ => return None,
    })
}

/// Parts a name from what its bearer shows of itself. No name holds a line feed.
pub(crate) fn split_profile(text: &str) -> (&str, Option<Bytes>) {
    match text.split_once('\n') {
        Some((name, profile)) => (name, Some(Bytes::copy_from_slice(profile.as_bytes()))),
        None => (text, None),
    }
}

/// `J PLACE PEER`, `J PLACE PEER LF PROFILE` or `L PLACE AT PEER`; the peer may hold spaces.
fn decode_news(frame: &[u8]) -> Option<Parcel> {
    let text = std::str::from_utf8(frame).ok()?;
    let (word, rest) = text.split_once(' ')?;
    let (place, rest) = rest.split_once(' ')?;
    let place = place.parse().ok()?;
    let member = |peer| Some(Member::new(PeerId::parse(peer).ok()?, place));
    match word {
        "J" => {
            let (peer, profile) = split_profile(rest);
            Some(Parcel::Joined(Member { profile, ..member(peer)? }))
        }
        "L" => {
            let (at, peer) = rest.split_once(' ')?;
            Some(Parcel::Left { member: member(peer)?, at: at.parse().ok()? })
        }
        _ => None,
    }
}

const HAS_ID: u8 = 1;
const HAS_TRACE: u8 = 1 << 1;
const WANTS_RECEIPT: u8 = 1 << 2;
/// Appended behind the payload, where versions that do not know it skip it.
const HAS_BEHIND: u8 = 1 << 3;

const OFFER: u8 = 0;
const ANSWER: u8 = 1;
const CANDIDATE: u8 = 2;
const APPLICATION: u8 = 3;

fn write_signal(to: &mut Writer<'_>, signal: &RemoteSignal) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    to.u8(flag(signal.id.is_some(), HAS_ID)
        | flag(signal.trace.is_some(), HAS_TRACE)
        | flag(signal.receipt, WANTS_RECEIPT)
        | flag(signal.behind.is_some(), HAS_BEHIND));
    to.text(signal.from.as_str());
    to.u64(signal.from_epoch.0);
    to.u64(signal.from_version.0);
    match &signal.kind {
        Kind::Offer => to.u8(OFFER),
        Kind::Answer => to.u8(ANSWER),
        Kind::Candidate => to.u8(CANDIDATE),
        Kind::Application(name) => {
            to.u8(APPLICATION);
            to.text(name);
        }
    }
    if let Some(id) = &signal.id {
        to.text(id);
    }
    to.u64(signal.accepted_unix_us);
    if let Some(trace) = signal.trace {
        to.u128(trace.trace_id);
        to.u64(trace.span_id);
    }
    to.bytes(&signal.payload);
    if let Some(behind) = &signal.behind {
        to.text(behind.as_str());
    }
}

fn read_signal(from: &mut Reader<'_>) -> Option<RemoteSignal> {
    let flags = from.u8()?;
    let has = |flag| flags & flag != 0;
    Some(RemoteSignal {
        from: read_peer(from)?,
        from_epoch: Epoch(from.u64()?),
        from_version: Version(from.u64()?),
        kind: match from.u8()? {
            OFFER => Kind::Offer,
            ANSWER => Kind::Answer,
            CANDIDATE => Kind::Candidate,
            APPLICATION => Kind::Application(from.text()?.into()),
            _ => return None,
        },
        id: if has(HAS_ID) { Some(from.text()?.into()) } else { None },
        receipt: has(WANTS_RECEIPT),
        accepted_unix_us: from.u64()?,
        trace: if has(HAS_TRACE) {
            Some(TraceContext { trace_id: from.u128()?, span_id: from.u64()? })
        } else {
            None
        },
        payload: from.text_bytes()?,
        behind: if has(HAS_BEHIND) { Some(read_peer(from)?) } else { None },
    })
}

/// In this order for ever; a number is the index plus one.
const FAILURES: [Undeliverable; 8] = [
    Undeliverable::Unavailable,
    Undeliverable::BusUnavailable,
    Undeliverable::AuthorizationUnavailable,
    Undeliverable::QueueFull,
    Undeliverable::RateLimited,
    Undeliverable::TooLarge,
    Undeliverable::Malformed,
    Undeliverable::Expired,
];

fn write_receipt(to: &mut Writer<'_>, receipt: &Receipt) {
    let number = |failure| (1..).zip(FAILURES).find(|(_, known)| *known == failure).map(|(number, _)| number);
    to.u8(receipt.failure.and_then(number).unwrap_or(0));
    to.text(&receipt.target);
    to.bool(receipt.id.is_some());
    if let Some(id) = &receipt.id {
        to.text(id);
    }
}

fn read_receipt(from: &mut Reader<'_>) -> Option<Receipt> {
    let failure = match from.u8()? {
        0 => None,
        // A reason of a later version: that it failed is what matters.
        number => Some(*FAILURES.get(usize::from(number) - 1).unwrap_or(&Undeliverable::Unavailable)),
    };
    let target = from.text()?.into();
    let id = if from.bool()? { Some(from.text()?.into()) } else { None };
    Some(Receipt { id, target, failure })
}

fn write_member(to: &mut Writer<'_>, member: &Member) {
    to.u64(member.place);
    to.text(member.peer.as_str());
}

fn read_member(from: &mut Reader<'_>) -> Option<Member> {
    let place = from.u64()?;
    Some(Member::new(read_peer(from)?, place))
}

fn read_peer(from: &mut Reader<'_>) -> Option<PeerId> {
    PeerId::parse(from.text()?).ok()
}

fn read_space(from: &mut Reader<'_>) -> Option<SpaceName> {
    SpaceName::parse(from.text()?).ok()
}

fn write_take_over(to: &mut Writer<'_>, take_over: &TakeOver) {
    to.text(take_over.space.as_str());
    to.text(take_over.peer.as_str());
    to.u64(take_over.by.0);
    to.text(take_over.to.as_str());
    to.text(&take_over.token);
    to.optional_u64(take_over.received);
}

fn read_take_over(from: &mut Reader<'_>) -> Option<TakeOver> {
    Some(TakeOver {
        space: read_space(from)?,
        peer: read_peer(from)?,
        by: Epoch(from.u64()?),
        to: GatewayId::parse(from.text()?).ok()?,
        token: from.text()?.into(),
        received: from.optional_u64()?,
    })
}

fn write_hand_over(to: &mut Writer<'_>, hand_over: &HandOver) {
    to.text(hand_over.space.as_str());
    to.text(hand_over.peer.as_str());
    to.u64(hand_over.by.0);
    to.bool(hand_over.estate.is_some());
    let Some(estate) = &hand_over.estate else { return };
    to.u8(estate.capabilities.bits());
    to.optional_u64(estate.place);
    to.u64(estate.first_epoch.0);
    to.u64(estate.next_seq);
    to.u64(estate.lost);
    to.each(&estate.written, |to, (seq, due)| {
        to.u64(*seq);
        write_due(to, due);
    });
    to.each(&estate.waiting, write_due);
    to.each(&estate.unanswered, |to, unanswered| {
        to.text(&unanswered.id);
        to.text(&unanswered.target);
    });
}

fn read_hand_over(from: &mut Reader<'_>) -> Option<HandOver> {
    Some(HandOver {
        space: read_space(from)?,
        peer: read_peer(from)?,
        by: Epoch(from.u64()?),
        estate: if from.bool()? { Some(read_estate(from)?) } else { None },
    })
}

fn read_estate(from: &mut Reader<'_>) -> Option<Estate> {
    Some(Estate {
        capabilities: Capabilities::from_bits(from.u8()?),
        place: from.optional_u64()?,
        first_epoch: Epoch(from.u64()?),
        next_seq: from.u64()?,
        lost: from.u64()?,
        written: from.each(|from| Some((from.u64()?, read_due(from)?)))?,
        waiting: from.each(read_due)?,
        unanswered: from
            .each(|from| Some(Unanswered { id: from.text()?.into(), target: from.text()?.into() }))?,
    })
}

fn write_due(to: &mut Writer<'_>, due: &Due) {
    match due {
        Due::Signal(signal) => {
            to.u8(SIGNAL);
            write_signal(to, signal);
        }
        Due::Receipt(receipt) => {
            to.u8(RECEIPT);
            write_receipt(to, receipt);
        }
    }
}

fn read_due(from: &mut Reader<'_>) -> Option<Due> {
    match from.u8()? {
        SIGNAL => read_signal(from).map(Due::Signal),
        RECEIPT => read_receipt(from).map(Due::Receipt),
        _ => None,
    }
}
