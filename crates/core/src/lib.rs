//! The rules of signaling, and nothing else.
//!
//! What is absent matters most here: no `async`, no serde, no clock, no randomness, no I/O. Time comes in as an
//! argument, effects go out as values, and a driver (`heliograph-gateway`) carries them out. The only shared
//! state is [`authority`]: a handful of atomics that every check reads and only the authority feed writes.
//!
//! To add a message type: a variant in [`message`], an arm in [`session::Session::on_client`], an arm in each
//! codec of `heliograph-wire`; the compiler names the places. To add a rule about who may reach whom:
//! [`authority::Authority::may_relay`] and its table of cases. To add a limit: [`limits`].

pub mod authority;
pub mod chain;
pub mod close;
pub mod id;
pub mod limits;
pub mod manners;
pub mod message;
pub mod pairing;
pub mod rate;
pub mod replay;
pub mod session;
pub mod stage;
pub mod unanswered;
