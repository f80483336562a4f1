//! What a description says of the side that made it.

/// The longest text of a description that is remembered, bytes.
const MAX_BYTES: usize = 256;

/// Which connection made a description, and with which ICE credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The `o=` line up to the session's id, which stays the same for the life of one connection (RFC 8829, 5.2.1); a new
    /// one means that the other side has started over, for example after a restart of the program.
    session: Option<Box<str>>,
    /// The ICE username fragment; another one with every restart (RFC 8839, 4.4.1.1.1).
    fragment: Option<Box<str>>,
}

impl Identity {
    pub(super) fn of(sdp: &str) -> Self {
        let value = |prefix: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(prefix));
            line.filter(|value| value.len() <= MAX_BYTES)
        };
        let mut origin = value("o=").unwrap_or_default().split(' ');
        let session = origin.next().zip(origin.next()).map(|(user, id)| format!("{user} {id}").into());
        Self { session, fragment: value("a=ice-ufrag:").map(Into::into) }
    }

    /// Whether both are of one connection; also if one of them does not say.
    pub(super) fn is_same_session(&self, other: &Self) -> bool {
        self.session.is_none() || self.session == other.session
    }

    /// Whether no restart lies between them.
    pub(super) fn has_same_credentials(&self, other: &Self) -> bool {
        self.fragment.is_some() && self.fragment == other.fragment
    }
}
