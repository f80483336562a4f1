//! A client of the mesh dialect for programs in Rust: signaling through Heliograph, without WebRTC itself.
//!
//! ```no_run
//! use heliograph_auth::secret::Secret;
//! use heliograph_client::{Client, Config, Credential, Event, Outcome};
//! use serde_json::value::to_raw_value;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let credential = Credential::api_key(Secret::new(std::env::var("HELIOGRAPH_KEY")?));
//! let (client, mut events) = Client::start(Config::for_server("https://signal.example", credential));
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::PeerList { peers, again: false } => {
//!             for listed in peers {
//!                 let client = client.clone();
//!                 // In a task of its own: an outcome comes behind the events that wait.
//!                 tokio::spawn(async move {
//!                     let hello = to_raw_value("hello").expect("a text has a JSON form");
//!                     if let Outcome::Undeliverable(reason) = client.send("greeting", &listed.peer, &hello).await {
//!                         eprintln!("{} does not hear us: {reason}", listed.peer);
//!                     }
//!                 });
//!             }
//!         }
//!         Event::Message { from, kind, payload, .. } => println!("{from} says {kind}: {}", payload.get()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it takes off a program:
//!
//! - tokens: exchanged, used again while they are good, renewed when the service does not take them any more
//! - coming back: with full jitter, after the pause that the service asks for, and not at all where that would be of no use
//! - resuming: messages that were sent meanwhile come in order and once, also on another node
//! - moving away from a node that drains, without a gap
//! - bounds: every queue has one, see [`limits`]
//!
//! Inside, `session` decides without I/O what happens next, `link` is the task of one socket, and `driver` joins them. The
//! protocol is described in `docs/protocol/mesh.md`, this client for its users in `docs/client-rust.md`.

mod backoff;
mod client;
mod close;
mod config;
mod connect;
mod driver;
mod event;
mod frame;
pub mod limits;
mod link;
mod outcome;
mod pending;
mod session;
mod token;
mod trust;

pub use client::{Client, Events};
pub use config::Config;
pub use connect::{Address, Connector, Duplex, TcpConnector};
pub use event::{Event, IceServer, Listed, Role, State, Stop};
pub use outcome::{Outcome, Reason, Refused, Unknown};
pub use token::{Credential, Token, TokenError, TokenExchange, TokenSource};
pub use trust::Authorities;
