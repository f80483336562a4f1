//! What all HTTP handlers share: problem documents, client addresses, bodies and credentials.

pub mod address;
pub mod body;
pub mod credential;
pub mod problem;

pub use address::{ClientAddress, TrustedProxies};
pub use body::JsonBody;
pub use problem::Problem;
