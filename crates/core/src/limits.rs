//! Every size, count and duration of the product, in one file.
//!
//! Constants are facts of the protocol; [`Limits`] are the defaults of what an operator may configure. A
//! configured 0 means "off" where the field says so.

use std::time::Duration;

/// Longest peer id, mesh name or room name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest `id` of a message that asks for feedback, in bytes.
pub const MAX_MESSAGE_ID_BYTES: usize = 64;
/// Longest `type` of an application message, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// Deepest nesting of objects and arrays in a message; the envelope itself is one level.
pub const MAX_JSON_DEPTH: usize = 32;
/// Largest ICE candidate payload, in bytes. Real ones are under 300.
pub const MAX_CANDIDATE_BYTES: usize = 4 * 1024;
/// Most capabilities that a `register` may list.
pub const MAX_CAPABILITIES: usize = 32;
/// Longest profile that a member of a room may show to the others, in bytes: a public key of RSA with 8,192 bits, and
/// what an application usually says of itself.
pub const MAX_PROFILE_BYTES: usize = 4 * 1024;
/// Longest token or key that is looked at, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 4 * 1024;
/// Longest display name of a device or key, in bytes.
pub const MAX_DISPLAY_NAME_BYTES: usize = 100;
/// Largest request head, in bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Largest body of an HTTP request, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Most rows that a list answers at once.
pub const MAX_PAGE: u32 = 500;
/// Rows that a list answers when it is not told how many.
pub const DEFAULT_PAGE: u32 = 100;
/// Longest long-poll.
pub const MAX_LONG_POLL: Duration = Duration::from_mins(1);
/// Most uses that an invite may have.
pub const MAX_INVITE_USES: u32 = 10_000;
/// Shortest and longest life of an invite.
pub const INVITE_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_hours(7 * 24);
/// Allowance for clocks of others in `exp` and `nbf`, in seconds (the original allowed 60).
pub const TOKEN_LEEWAY_SECONDS: u64 = 5;
/// What was written to a client that may resume is kept until it shows that it has it: at most so much.
pub const REPLAY_ENTRIES: usize = 256;
/// At most so many bytes of payloads of it.
pub const REPLAY_BYTES: usize = 256 * 1024;
/// Messages of one session that are on another node and not answered for.
pub const MAX_UNANSWERED: usize = 4_096;
/// How long after the resume window a message that was sent to another node may still be answered for.
pub const ANSWER_GRACE: Duration = Duration::from_secs(10);
/// Part of a lease term that is given up so that clocks may differ in *rate*: one hundredth each way is far
/// beyond what a quartz does.
pub const CLOCK_RATE_MARGIN: f64 = 0.02;

/// What an operator may change. Every default is meant for the open Internet.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Largest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// Sustained messages per second and session; 0 is off.
    pub max_messages_per_second: u32,
    /// Messages that a session may send at once after a pause; 0 is off.
    pub message_burst: u32,
    /// Sockets per client address; 0 is off.
    pub max_sockets_per_address: u32,
    /// Upgrades per second and client address; 0 is off.
    pub max_upgrades_per_second: u32,
    /// Sessions that may be on their way from upgrade to open at once. Beyond, clients are told when to come back: a
    /// node that serves some in time serves all sooner than one that serves none.
    pub max_opening: u32,
    /// TCP connections on the public listener altogether.
    pub max_connections: u32,
    /// Sockets that have not authenticated, altogether. Each may make room for one message of the largest size.
    pub max_unauthenticated: u32,
    /// Sockets that have not authenticated, per client address; 0 is off.
    pub max_unauthenticated_per_address: u32,
    /// From accept to the first byte.
    pub first_byte_deadline: Duration,
    /// From the first byte to the end of the request head.
    pub header_deadline: Duration,
    /// From upgrade to a valid credential, where it comes by message.
    pub authenticate_deadline: Duration,
    /// From upgrade to `register`.
    pub register_deadline: Duration,
    /// Bytes queued for one socket before it is a slow consumer.
    pub outbox_bytes: usize,
    /// Messages queued for one socket before it is a slow consumer.
    pub outbox_messages: usize,
    /// Longest time that one write to a socket may stand still.
    pub write_deadline: Duration,
    /// Mean time between pings of the server; each socket's phase is its own.
    pub ping_interval: Duration,
    /// From a ping to a sign of life.
    pub pong_deadline: Duration,
    /// Failed redemptions per client address and minute; successes do not count.
    pub redeem_failures_per_address: u32,
    /// Failed redemptions from all addresses together per minute.
    pub redeem_failures_global: u32,
    /// Devices that may wait for approval in one mesh.
    pub max_pending_per_mesh: u32,
    /// Invites that may be open in one mesh.
    pub max_open_invites_per_mesh: u32,
    /// Failed authentications per client address and minute (keys, device tokens).
    pub auth_failures_per_address: u32,
    /// Members of one room; 0 is off.
    pub max_room_members: u32,
    /// Rooms of one mesh that one node serves at once; 0 is off.
    pub max_rooms_per_mesh: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * 1024,
            max_messages_per_second: 200,
            message_burst: 2_000,
            max_sockets_per_address: 5_000,
            max_upgrades_per_second: 200,
            max_opening: 500,
            max_connections: 200_000,
            max_unauthenticated: 2_000,
            max_unauthenticated_per_address: 500,
            first_byte_deadline: Duration::from_secs(5),
            header_deadline: Duration::from_secs(10),
            authenticate_deadline: Duration::from_secs(5),
            register_deadline: Duration::from_secs(10),
            outbox_bytes: 1024 * 1024,
            outbox_messages: 8_192,
            write_deadline: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_deadline: Duration::from_secs(15),
            redeem_failures_per_address: 5,
            redeem_failures_global: 100,
            max_pending_per_mesh: 1_000,
            max_open_invites_per_mesh: 10_000,
            auth_failures_per_address: 60,
            max_room_members: 1_000,
            max_rooms_per_mesh: 10_000,
        }
    }
}
