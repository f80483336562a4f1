//! Local programs: JSON lines over a Unix socket.
