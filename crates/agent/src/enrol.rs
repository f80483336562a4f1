//! From an invite code to a device token.
