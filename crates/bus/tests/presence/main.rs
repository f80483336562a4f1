//! Presence over Redis when things go wrong: Redis emptied, killed, paused, failed over; nodes dead, cut off, back.
//! That it keeps its promises when nothing does is in `redis.rs`.
//!
//! Needs the programs `redis-server` and `redis-cli` (Debian: `apt-get install redis-server redis-sentinel
//! redis-tools`); the tests fail without them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a panic is how they fail")]

mod budget;
mod claims;
mod deaths;
mod introductions;
mod names;
mod outages;
mod world;
