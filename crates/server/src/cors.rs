//! Cross-origin calls of pages on allowed origins (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! The original answered every origin. Here none is answered but those that the operator names, as for sockets.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The allow-list.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    allowed: std::sync::Arc<[String]>,
}

impl Cors {
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self { allowed: allowed.into() }
    }

    pub(crate) async fn handle(self, request: Request, next: Next) -> Response {
        let Some(origin) = self.allowed_origin(&request) else { return next.run(request).await };
        let preflight = request.method() == Method::OPTIONS;
        let mut response =
            if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("origin"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-next-cursor, retry-after"));
        if preflight {
            let methods = HeaderValue::from_static("GET, POST, DELETE");
            let names = "authorization, content-type, x-api-key, x-device-token, x-device-assertion, x-pairing-id, x-claim-token";
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }

    fn allowed_origin(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.allowed.iter().any(|allowed| allowed == text).then(|| origin.clone())
    }
}
