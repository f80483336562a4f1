//! Sizes, rates and deadlines. Their defaults are the core's.

use std::time::Duration;

use heliograph_core::limits::Limits;

use super::setting::{Preset, SectionTable, Setting};
use super::source::Reader;
use super::value::{ByteSize, FromText, Scalar, show_duration};

/// What "off" is for a size: beyond any message, yet safe to add to.
const NO_BOUND_BYTES: usize = u32::MAX as usize;

/// A kind of limit: how it is read, and how the core's default is shown.
trait Kind: Scalar {
    type Value;

    fn get(self) -> Self::Value;
    fn show(value: Self::Value) -> String;
}

/// Makes reading and the table from one list. The struct is the core's: a field that it gets and that is not
/// listed here does not compile.
macro_rules! limits {
    ($( $(#[doc = $doc:literal])+ $key:ident: $kind:ty; )+) => {
        pub(super) const TABLE: SectionTable = SectionTable {
            title: "Limits",
            settings: &[$(
                Setting {
                    key: stringify!($key),
                    doc: concat!($($doc, "\n"),+),
                    kind: <$kind as FromText>::kind,
                    exposure: <$kind as FromText>::EXPOSURE,
                    default: Preset::Limit(|limits| <$kind as Kind>::show(limits.$key)),
                    aliases: &[],
                }
            ),+],
        };

        /// Every limit is read before the first unusable one ends it, so that all problems are found.
        pub(super) fn read(reader: &mut Reader<'_>) -> Option<Limits> {
            $( let $key = reader.get::<$kind>(stringify!($key)); )+
            Some(Limits { $( $key: $key?.get(), )+ })
        }
    };
}

limits! {
    /// Largest message from a client. 0: no bound, for trusted networks only.
    max_message_bytes: SizeOrOff;
    /// Sustained messages per second and session. 0: no bound.
    max_messages_per_second: CountOrOff;
    /// Messages that a session may send at once after a pause. 0: no bound.
    message_burst: CountOrOff;
    /// Sockets per client address. 0: no bound.
    max_sockets_per_address: CountOrOff;
    /// Upgrades per second and client address. 0: no bound.
    max_upgrades_per_second: CountOrOff;
    /// Sessions that may be on their way from upgrade to open at once; further clients are told when to come back.
    /// 0: no bound.
    max_opening: CountOrOff;
    /// TCP connections on the public listener altogether.
    max_connections: Count;
    /// Sockets that have not authenticated, altogether.
    max_unauthenticated: Count;
    /// Sockets that have not authenticated, per client address. 0: no bound.
    max_unauthenticated_per_address: CountOrOff;
    /// From accept to the first byte.
    first_byte_deadline: Deadline;
    /// From the first byte to the end of the request head.
    header_deadline: Deadline;
    /// From upgrade to a valid credential, where it comes by message.
    authenticate_deadline: Deadline;
    /// From upgrade to `register`.
    register_deadline: Deadline;
    /// Bytes queued for one socket before it is closed as too slow.
    outbox_bytes: Size;
    /// Messages queued for one socket before it is closed as too slow.
    outbox_messages: CountUsize;
    /// Longest time that one write to a socket may stand still.
    write_deadline: Deadline;
    /// Mean time between pings of the server.
    ping_interval: Deadline;
    /// From a ping to a sign of life.
    pong_deadline: Deadline;
    /// Failed redemptions of invites per client address and minute.
    redeem_failures_per_address: Count;
    /// Failed redemptions of invites from all addresses together per minute.
    redeem_failures_global: Count;
    /// Devices that may wait for approval in one mesh.
    max_pending_per_mesh: Count;
    /// Invites that may be open in one mesh.
    max_open_invites_per_mesh: Count;
    /// Failed authentications per client address and minute.
    auth_failures_per_address: Count;
    /// Members of one room, on all nodes together. 0: no bound.
    max_room_members: CountOrOff;
    /// Rooms of one mesh that one node serves at once. 0: no bound.
    max_rooms_per_mesh: CountOrOff;
}

pub(super) fn check(limits: &Limits, reader: &mut Reader<'_>) {
    if limits.max_message_bytes != NO_BOUND_BYTES && limits.max_message_bytes > limits.outbox_bytes {
        reader.object(
            "max_message_bytes",
            "must not exceed outbox_bytes: such a message could never be delivered",
        );
    }
    if limits.ping_interval < Duration::from_secs(1) {
        reader.object("ping_interval", "must be at least 1s: pings cost every client's battery");
    }
}

/// Implements a kind of number.
macro_rules! number {
    ($kind:ident($type:ty), $words:literal, $parse:expr, $show:expr) => {
        struct $kind($type);

        impl Scalar for $kind {
            const KIND: &'static str = $words;

            fn parse(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$type, String> = $parse;
                parse(text).map(Self)
            }
        }

        impl Kind for $kind {
            type Value = $type;

            fn get(self) -> $type {
                self.0
            }

            fn show(value: $type) -> String {
                let show: fn($type) -> String = $show;
                show(value)
            }
        }
    };
}

number!(Count(u32), "number", |text| above_zero(whole(text)?), |value| value.to_string());
number!(CountOrOff(u32), "number", whole, |value| value.to_string());
number!(CountUsize(usize), "number", |text| above_zero(whole(text)?), |value| value.to_string());
number!(Size(usize), "bytes", |text| above_zero(ByteSize::parse(text)?.0), |value| value.to_string());
number!(SizeOrOff(usize), "bytes", size_or_off, |value| value.to_string());
number!(Deadline(Duration), "duration", |text| above_zero(Duration::parse(text)?), show_duration);

fn whole<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.replace('_', "").parse().map_err(|_| "is not a whole number (or far too large)".into())
}

fn above_zero<N: Default + PartialEq>(value: N) -> Result<N, String> {
    if value == N::default() { Err("would refuse everything; give more than 0".into()) } else { Ok(value) }
}

fn size_or_off(text: &str) -> Result<usize, String> {
    let bytes = ByteSize::parse(text)?.0;
    Ok(if bytes == 0 { NO_BOUND_BYTES } else { bytes })
}
