//! JSON bodies with a bound on size and time.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use heliograph_core::limits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::Problem;

/// Longest time for a body to arrive: without it, one byte per second would hold a connection for ever.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A JSON body of at most [`limits::MAX_BODY_BYTES`]. An empty body reads as `{}`, whatever its content type:
/// clients of the original send none.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let body = Limited::new(request.into_body(), limits::MAX_BODY_BYTES).collect();
        let bytes = match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(Problem::bad_request("body_unreadable", "the body could not be read")),
            Err(_) => {
                return Err(Problem::new(
                    http::StatusCode::REQUEST_TIMEOUT,
                    "body_too_slow",
                    "the body took too long",
                ));
            }
        };
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| malformed(&error))
    }
}

fn too_large() -> Problem {
    Problem::new(
        http::StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is larger than {} bytes", limits::MAX_BODY_BYTES),
    )
}

/// serde's text for a wrong member names the member and the expected type; values that it would quote are cut off.
fn malformed(error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        let place = format!("the body is not valid JSON (line {} column {})", error.line(), error.column());
        return Problem::bad_request("malformed_json", place);
    }
    let text = error.to_string();
    let named =
        ["missing field", "unknown field", "duplicate field"].iter().any(|start| text.starts_with(start));
    let detail =
        if named { text.split(" at line").next().unwrap_or_default() } else { "a member has the wrong type" };
    Problem::bad_request("malformed_body", detail)
}
