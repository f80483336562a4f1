//! Servers of one's own on this machine: Postgres, Redis (alone, as a Cluster, behind Sentinels), any other program,
//! and a proxy that makes the network between two of them fail. For tests, the benchmark and `cargo xtask cluster`.
//!
//! They are real servers, found on the machine: an error says what to install. Each has a folder and ports of its
//! own on 127.0.0.1, so that any number of test processes may run at once, and ends when its handle is dropped. When
//! this process ends without dropping it (it was killed, or the handle is in a `static`), the kernel ends it
//! (`spawner.rs`), and the next process that starts a server removes the folder that was left behind (`folder.rs`).
//!
//! To add a server: a module with a type that owns its [`Process`], waits until it serves, and says what to install.

mod find;
mod folder;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod spawner;
mod tail;
mod wait;

pub use find::program as find_program;
pub use folder::Folder;
pub use port::Port;
pub use postgres::Postgres;
pub use process::{Process, Program};
pub use proxy::{Direction, Proxy};
pub use redis::{Redis, RedisNode, RedisOptions, Reply};
