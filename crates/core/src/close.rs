//! Close codes: why a socket ended, and what its client should do. The table is also the protocol page.

/// What a client should do after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Come back at once, with the usual jitter.
    ComeBack,
    /// Come back after a pause.
    ComeBackLater,
    /// Get a new token first.
    Authenticate,
    /// Do not come back by itself.
    StayAway,
}

/// Why the service closes a socket. Numbers: RFC 6455 §7.4.1 below 4000, ours above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client asked for it.
    Normal,
    /// The frame breaks RFC 6455.
    ProtocolError,
    /// The node is restarting; another one accepts.
    ServiceRestart,
    /// A message is larger than the limit.
    TooLarge,
    /// The credential is missing, wrong or over.
    Unauthenticated,
    /// The peer may not be here.
    Forbidden,
    /// A deadline passed: authentication, registration or a sign of life.
    Deadline,
    /// A newer session of the same peer took over.
    Superseded,
    /// The client reads too slowly.
    SlowConsumer,
    /// The client sends too much.
    RateLimited,
    /// The service cannot serve now.
    Unavailable,
}

impl CloseCode {
    /// All codes, for tables and metrics.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::ProtocolError,
        Self::ServiceRestart,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Deadline,
        Self::Superseded,
        Self::SlowConsumer,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::TooLarge => 1009,
            Self::ServiceRestart => 1012,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::Deadline => 4408,
            Self::Superseded => 4409,
            Self::SlowConsumer => 4413,
            Self::RateLimited => 4429,
            Self::Unavailable => 4503,
        }
    }

    /// The reason text on the wire, short and plain.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "bye",
            Self::ProtocolError => "not a valid WebSocket frame",
            Self::TooLarge => "message too large",
            Self::ServiceRestart => "node restarts, come back",
            Self::Unauthenticated => "authenticate again",
            Self::Forbidden => "not allowed",
            Self::Deadline => "deadline missed",
            Self::Superseded => "superseded by a newer session",
            Self::SlowConsumer => "reads too slowly",
            Self::RateLimited => "too many messages",
            Self::Unavailable => "come back later",
        }
    }

    /// What the client should do next.
    pub fn advice(self) -> Advice {
        match self {
            Self::Normal | Self::Forbidden | Self::Superseded => Advice::StayAway,
            Self::ServiceRestart | Self::Deadline => Advice::ComeBack,
            Self::Unauthenticated => Advice::Authenticate,
            Self::ProtocolError
            | Self::TooLarge
            | Self::SlowConsumer
            | Self::RateLimited
            | Self::Unavailable => Advice::ComeBackLater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_reasons_fit_a_close_frame() {
        let mut codes: Vec<u16> = CloseCode::ALL.iter().map(|c| c.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CloseCode::ALL.len());
        // RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code.
        assert!(CloseCode::ALL.iter().all(|c| c.reason().len() <= 123));
    }
}
