//! One counterpart: its connection and its channel.
