//! Frames of the mesh dialect, from the client's side.

mod read;
mod write;

pub(crate) use read::{From, GoAway, List, Resumed, SessionInfo, Word, read};
pub(crate) use write::{may_be_sent, message, register, resume};
