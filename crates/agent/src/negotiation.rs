//! What a connection does next: perfect negotiation as a pure state machine.
