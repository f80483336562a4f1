//! Errors of the store as problem documents: the one table.

use heliograph_core::pairing::PairingState;
use heliograph_http::Problem;
use heliograph_store::StoreError;
use http::StatusCode;

/// Waiting devices and open invites become fewer by what people do, or by their expiry.
const FULL_RETRY_SECONDS: u64 = 30;

/// What a client hears of a storage error. A fault of the backend is logged here, and only here.
#[expect(clippy::needless_pass_by_value, reason = "it goes into map_err as it is")]
pub(crate) fn problem(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found("not found"),
        StoreError::Conflict(state) => wrong_state(state),
        StoreError::Exists => Problem::conflict("exists", "exists already"),
        StoreError::Full => {
            let detail = "the mesh has as many of these as it may have, try again later";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "limit_reached", detail)
                .retry_after(FULL_RETRY_SECONDS)
        }
        StoreError::Unavailable(_) | StoreError::Inconsistent(_) => {
            tracing::error!(%error, "storage failed");
            Problem::unavailable("storage_unavailable", "the storage does not answer, try again")
        }
    }
}

/// [`problem`] with other words for what is not there.
pub(crate) fn problem_or(not_found: &'static str) -> impl Fn(StoreError) -> Problem {
    move |error| match error {
        StoreError::NotFound => Problem::not_found(not_found),
        other => problem(other),
    }
}

/// [`problem`] of a list, where nothing but the cursor can be unknown.
pub(crate) fn list_problem(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => {
            Problem::bad_request("bad_cursor", "this cursor belongs to no page of this list")
        }
        other => problem(other),
    }
}

fn wrong_state(state: PairingState) -> Problem {
    Problem::conflict("wrong_state", format!("not possible: it is {}", state.as_str()))
        .currently(state.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: StoreError, status: u16, code: &str) {
        let shown = format!("{:?}", problem(error));
        assert!(
            shown.contains(&format!("status: {status}")) && shown.contains(&format!("{code:?}")),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn each_error_has_its_answer_and_internals_stay_inside() {
        check(StoreError::NotFound, 404, "not_found");
        check(StoreError::Conflict(PairingState::Revoked), 409, "wrong_state");
        check(StoreError::Exists, 409, "exists");
        check(StoreError::Full, 429, "limit_reached");
        check(StoreError::Unavailable("postgres://admin:hunter2@db".into()), 503, "storage_unavailable");
        check(StoreError::Inconsistent("row hunter2".into()), 503, "storage_unavailable");
    }
}
