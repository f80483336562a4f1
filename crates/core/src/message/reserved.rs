//! The types that no peer can give a message of its own. The service and its clients go by the same ones.

/// Whether only the service sends messages of that type. A client of the original protocol goes by the type alone: it
/// would believe a peer's `peer_list`.
pub fn is_from_service(kind: &str) -> bool {
    matches!(
        kind,
        "peer_list"
            | "peer_joined"
            | "peer_left"
            | "peer_revoked"
            | "approved"
            | "delivered"
            | "undeliverable"
            | "resumed"
            | "goaway"
            | "ice_servers"
            | "pong"
            | "mesh_health"
            | "error"
    )
}

/// Whether messages of that type are for the service itself.
pub fn is_for_service(kind: &str) -> bool {
    matches!(kind, "register" | "resume" | "authenticate" | "heartbeat" | "ping" | "mesh_health")
}
