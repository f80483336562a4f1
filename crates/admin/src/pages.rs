//! The pages: a handful of files inside the binary.
//!
//! To add a file: put it into `web/` and into [`FILES`].

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use heliograph_http::Problem;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use crate::Mode;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($kind:ident $directory:literal $name:literal)*) => {
        [$(File { name: $name, kind: $kind, text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), $directory, $name)) }),*]
    };
}

static FILES: [File; 15] = files! {
    HTML "/../../web/" "index.html"
    HTML "/../../web/" "console.html"
    HTML "/../../web/" "rooms.html"
    SCRIPT "/../../web/" "client.js"
    TYPES "/../../web/" "client.d.ts"
    SCRIPT "/../../web/" "admin.js"
    SCRIPT "/../../web/" "console.js"
    SCRIPT "/../../web/" "demo.js"
    SCRIPT "/../../web/" "room.js"
    SCRIPT "/../../web/" "rooms.js"
    SCRIPT "/../../web/" "ui.js"
    STYLE "/../../web/" "style.css"
    IMAGE "/../../web/" "logo.svg"
    JSON "/src/" "openapi.json"
    JSON "/src/" "asyncapi.json"
};

const TYPES: &str = "text/plain; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Files that have a page of their own, and not a name under `/assets/`.
const PAGES: [&str; 5] = ["index.html", "console.html", "rooms.html", "openapi.json", "asyncapi.json"];

/// What `GET /` answers to a browser.
pub fn root_page(mode: Mode, headers: &HeaderMap) -> Response {
    match mode {
        Mode::Dev => serve("index.html", headers),
        Mode::Serve => {
            let text =
                "Heliograph, a WebRTC signaling service.\nConsole: /console\nHTTP interface: /openapi.json\n";
            let mut response = text.into_response();
            protect(response.headers_mut());
            response
        }
    }
}

pub(crate) async fn console(headers: HeaderMap) -> Response {
    serve("console.html", &headers)
}

pub(crate) async fn rooms(headers: HeaderMap) -> Response {
    serve("rooms.html", &headers)
}

pub(crate) async fn client(headers: HeaderMap) -> Response {
    serve("client.js", &headers)
}

pub(crate) async fn client_types(headers: HeaderMap) -> Response {
    serve("client.d.ts", &headers)
}

pub(crate) async fn openapi(headers: HeaderMap) -> Response {
    serve("openapi.json", &headers)
}

pub(crate) async fn asyncapi(headers: HeaderMap) -> Response {
    serve("asyncapi.json", &headers)
}

pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    if PAGES.contains(&name.as_str()) {
        return Problem::not_found("there is no such file").into_response();
    }
    serve(&name, &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some((file, tag)) = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.name == name) else {
        return Problem::not_found("there is no such file").into_response();
    };
    let mut response = if is_known(headers, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, file.kind)], file.text).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    protect(headers);
    response
}

/// Entity tags, in the order of [`FILES`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|file| tag(file.text)).collect());

/// Half a digest tells versions of a file apart well enough.
fn tag(text: &str) -> String {
    let mut tag = String::from("\"");
    for byte in Sha256::digest(text).iter().take(16) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // A proxy that compresses marks the tag as weak; the content is the same.
    known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

fn protect(headers: &mut HeaderMap) {
    let mut set =
        |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(CACHE_CONTROL, "no-cache");
}
