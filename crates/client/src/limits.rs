//! The bounds of this client: what fills its buffers is sent by others.

use std::time::Duration;

/// Largest frame that is sent unless the configuration says otherwise: the service's default limit, in bytes.
pub const FRAME_BYTES: usize = 65_536;
/// Largest frame that is read, in bytes. The list of a large mesh is the longest one.
pub const INCOMING_BYTES: usize = 4 * 1024 * 1024;
/// Messages that wait for their outcome at the same time.
pub const PENDING: usize = 256;
/// How long each of them waits unless the configuration says otherwise.
pub const FEEDBACK: Duration = Duration::from_secs(10);
/// Events that wait for the program; beyond, the socket is not read.
pub const EVENTS: usize = 256;
/// Frames that wait to be written to one socket,
pub const OUTGOING: usize = 1024;
/// and their bytes.
pub const OUTGOING_BYTES: usize = 1024 * 1024;
/// A session that lasted this long makes the next back-off start from the beginning.
pub const STABLE: Duration = Duration::from_secs(10);
/// From the start of an attempt to the list; for as long an old socket is still read after a move.
pub const HANDSHAKE: Duration = Duration::from_secs(15);
/// A token exchange is given up after this time.
pub const EXCHANGE: Duration = Duration::from_secs(20);
/// A quiet socket is asked for a sign of life after this time,
pub const KEEPALIVE: Duration = Duration::from_secs(25);
/// and given up when none comes within this time.
pub const SILENCE: Duration = Duration::from_secs(15);
/// A token is renewed when it is good for less than this.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(30);
/// How long a socket that we close may take to end.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// The longest pause that anybody can ask for with `Retry-After` or `goaway`.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(10);
