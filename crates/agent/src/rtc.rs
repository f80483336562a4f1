//! The WebRTC library; no other file names it.
