//! The sidecar: WebRTC DataChannels for programs in any language, through Heliograph.
//!
//! ```text
//! program ── JSON lines ── bridge ─┐                         ┌─ peer: negotiation + rtc ══ DataChannel ══ other agents, pages
//! program ── JSON lines ── bridge ─┴─ mesh ── client ── /ws ─┘
//! ```
//!
//! - `negotiation` decides, without I/O, what a connection does next; `rtc` alone knows the WebRTC library; `peer` joins the two
//! - `mesh` holds the peers and hears the service; `bridge` speaks to local programs
//! - `enrol` turns an invite code into a device token

mod agent;
mod bridge;
pub mod config;
pub mod enrol;
mod mesh;
mod negotiation;
mod peer;
mod rtc;

pub use agent::run;
pub use config::Config;
