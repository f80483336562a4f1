//! What the end of a socket asks of its client. The service's codes are in `heliograph_core::close`.

use std::time::Duration;

use heliograph_core::close::{Advice, CloseCode};

use crate::event::Stop;

/// After what happens again at once if it is tried at once.
const SHORT: Duration = Duration::from_secs(1);
/// Where the service has too much to do.
const LONG: Duration = Duration::from_secs(2);

/// How a socket, or the attempt to open one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By a close frame with this code.
    Closed(u16),
    /// Without one, or before there was a socket.
    Lost,
    /// Instead of the upgrade came an HTTP status, perhaps with `Retry-After`.
    Refused { status: u16, retry_after: Option<Duration> },
}

/// What to do then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Come back with the usual jitter, after at least this long.
    ComeBack { floor: Duration },
    /// The token is of no use: get a new one, then come back.
    Authenticate,
    /// Do not come back.
    Stop(Stop),
}

/// What an end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) next: Next,
    /// The service has ended the session: there is nothing to resume.
    pub(crate) session_over: bool,
}

/// What to do after this end.
pub(crate) fn after(end: &End) -> After {
    match end {
        End::Lost => After { next: Next::ComeBack { floor: Duration::ZERO }, session_over: false },
        End::Closed(code) => after_close(*code),
        // What is refused before the upgrade has touched no session.
        End::Refused { status, retry_after } => {
            After { next: after_status(*status, *retry_after), session_over: false }
        }
    }
}

fn after_status(status: u16, retry_after: Option<Duration>) -> Next {
    match status {
        401 => Next::Authenticate,
        403 => Next::Stop(Stop::NotAllowed),
        429 | 503 => Next::ComeBack { floor: retry_after.unwrap_or(LONG) },
        // A load balancer without a node behind it answers with many statuses, and all of them pass.
        _ => Next::ComeBack { floor: retry_after.unwrap_or(SHORT) },
    }
}

fn after_close(code: u16) -> After {
    let known = CloseCode::ALL.into_iter().find(|known| known.code() == code);
    let floor = match (code, known) {
        // One that we do not know is a later version's: as "come back later".
        (_, Some(CloseCode::RateLimited | CloseCode::Unavailable)) | (4000.., None) => LONG,
        (_, Some(known)) if known.advice() == Advice::ComeBackLater => SHORT,
        _ => Duration::ZERO,
    };
    let next = match known.map(CloseCode::advice) {
        Some(Advice::StayAway) => Next::Stop(match code {
            4403 => Stop::NotAllowed,
            4409 => Stop::Superseded,
            _ => Stop::Normal,
        }),
        Some(Advice::Authenticate) => Next::Authenticate,
        Some(Advice::ComeBack | Advice::ComeBackLater) | None => Next::ComeBack { floor },
    };
    After { next, session_over: matches!(code, 1000 | 1002 | 1009 | 4401 | 4403 | 4429) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(end: &End, next: Next, session_over: bool) {
        assert_eq!(after(end), After { next, session_over }, "{end:?}");
    }

    fn back(seconds: u64) -> Next {
        Next::ComeBack { floor: Duration::from_secs(seconds) }
    }

    #[test]
    fn every_code_has_its_answer() {
        check(&End::Closed(1000), Next::Stop(Stop::Normal), true);
        check(&End::Closed(1001), back(0), false);
        check(&End::Closed(1002), back(1), true);
        check(&End::Closed(1006), back(0), false);
        check(&End::Closed(1009), back(1), true);
        check(&End::Closed(1012), back(0), false);
        check(&End::Closed(4401), Next::Authenticate, true);
        check(&End::Closed(4403), Next::Stop(Stop::NotAllowed), true);
        check(&End::Closed(4408), back(0), false);
        check(&End::Closed(4409), Next::Stop(Stop::Superseded), false);
        check(&End::Closed(4413), back(1), false);
        check(&End::Closed(4429), back(2), true);
        check(&End::Closed(4503), back(2), false);
        check(&End::Closed(4999), back(2), false);
        check(&End::Lost, back(0), false);
    }

    #[test]
    fn every_status_has_its_answer() {
        let refused = |status, seconds: Option<u64>| End::Refused {
            status,
            retry_after: seconds.map(Duration::from_secs),
        };
        check(&refused(401, None), Next::Authenticate, false);
        check(&refused(403, None), Next::Stop(Stop::NotAllowed), false);
        check(&refused(429, Some(7)), back(7), false);
        check(&refused(503, None), back(2), false);
        check(&refused(503, Some(30)), back(30), false);
        check(&refused(502, None), back(1), false);
        check(&refused(404, Some(3)), back(3), false);
    }
}
