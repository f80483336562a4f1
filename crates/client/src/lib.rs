//! A client of the mesh dialect for programs in Rust.

mod client;
mod config;
mod connect;
mod driver;
mod event;
pub mod limits;
mod outcome;
mod token;
mod trust;

pub use client::{Client, Events};
pub use config::Config;
pub use connect::{Address, Connector, Duplex, TcpConnector};
pub use event::{Event, IceServer, Listed, Role, State, Stop};
pub use outcome::{Outcome, Reason, Refused, Unknown};
pub use token::{Credential, Token, TokenError, TokenExchange, TokenSource};
