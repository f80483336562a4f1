//! Where a credential may stand in a request.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The value of header `name`, if it is readable text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1; the scheme's case does not matter).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = header(headers, AUTHORIZATION.as_str())?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// An API key: `x-api-key`, or a bearer that looks like one.
pub fn api_key(headers: &HeaderMap) -> Option<&str> {
    header(headers, "x-api-key").or_else(|| bearer(headers))
}
