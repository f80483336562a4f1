//! The mesh dialect: one JSON object per text frame.
//!
//! ```text
//! {"type": "offer", "peer_id": "me", "target_id": "you", "payload": {"sdp": "…"}, "id": "7"}
//!    what it is       who sends it      for whom            opaque, relayed       wants feedback
//!                                       (directed only)     byte for byte         (optional)
//! ```
//!
//! To a client that may resume, relayed messages and receipts also have a number, `seq`, at the end of the envelope.
//!
//! Source: the chatixia mesh's signaling protocol; additions by capability, see the reference page of the dialect.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode;

/// The sender that the service gives in its own messages.
pub const REGISTRY: &str = heliograph_core::id::SERVICE;

/// Longest token that a `resume` may show, in bytes. Ours have some 70.
pub const MAX_RESUME_TOKEN_BYTES: usize = 256;
