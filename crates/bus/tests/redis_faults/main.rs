//! The bus over Redis when things go wrong: servers killed, failed over, silent one way; slots that move; too much at
//! once. That it keeps its promises when nothing does is in `redis.rs`.
//!
//! Needs the programs `redis-server`, `redis-cli` and `redis-sentinel` (Debian: `apt-get install redis-server
//! redis-sentinel redis-tools`); the tests fail without them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a panic is how they fail")]

mod access;
mod failover;
mod flow;
mod half_open;
mod many;
mod outage;
mod picky;
#[path = "../redis_support/mod.rs"]
mod redis_support;
mod traffic;
