//! The dialects of rooms: each has a table of its frames as text, and what holds for every frame, however strange.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod pages;
mod rendezvous;
mod rtc;
mod table;
