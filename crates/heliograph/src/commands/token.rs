//! `token`: a session token for a key.

use ureq::http::Method;

use crate::api::Api;
use crate::cli::TokenArgs;
use crate::failure::Failure;
use crate::output::{self, text};

pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    let key = api.require_key()?;
    let header = if key.expose().starts_with("dt_") { "x-device-token" } else { "x-api-key" };
    let answer = api.send(&Method::POST, "/api/token", &[(header, key.expose())], None)?.body;
    if args.server.json {
        return Ok(output::json(&answer)?);
    }
    Ok(output::line(&text(&answer, "token"))?)
}
