//! `invite`: codes with which devices pair.

use std::time::Duration;

use heliograph_server::config::value::Scalar;
use serde_json::json;

use super::revocation::{Followed, follow};
use crate::api::{Api, encode};
use crate::cli::{Invite, ListArgs, ServerArgs, WaitArgs};
use crate::failure::Failure;
use crate::output::{self, span, text, time};

pub(crate) fn run(invite: Invite) -> Result<(), Failure> {
    match invite {
        Invite::Create { server, mesh, ttl, uses, digits } => {
            let ttl = Duration::parse(&ttl).map_err(|why| Failure::usage(format!("--ttl {ttl:?} {why}")))?;
            let format = if digits { "digits" } else { "base32" };
            let mut wish = json!({ "ttl_seconds": ttl.as_secs(), "uses": uses, "format": format });
            if let Some(mesh) = mesh {
                wish["mesh"] = json!(mesh);
            }
            create(&server, &wish)
        }
        Invite::List(args) => list(&args),
        Invite::Revoke { server, id, with_enrolled, wait } => revoke(&server, &id, with_enrolled, &wait),
    }
}

fn create(server: &ServerArgs, wish: &serde_json::Value) -> Result<(), Failure> {
    let made = Api::new(server)?.post("/api/pairing/generate-code", wish)?.body;
    if server.json {
        return Ok(output::json(&made)?);
    }
    output::facts(&[
        ("Code", text(&made, "code")),
        ("Mesh", text(&made, "mesh")),
        ("Uses", text(&made, "uses")),
        ("Expires in", made["expires_in"].as_u64().map_or_else(|| "-".into(), span)),
        ("Invite", text(&made, "id")),
    ])?;
    Ok(output::line("Type the code on the device, then: heliograph peer list --status pending_approval")?)
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let list = Api::new(&args.server)?.rows("/api/invites", "invites", args.mesh.as_deref(), args.limit)?;
    let cells = |row: &serde_json::Value| {
        let [id, mesh, status, uses, by] =
            ["id", "mesh", "status", "uses_left", "created_by"].map(|name| text(row, name));
        vec![id, mesh, status, uses, time(row, "expires_at"), by]
    };
    let head = ["invite", "mesh", "status", "uses left", "expires", "made by"];
    super::show(&list, args.server.json, &head, cells, "no invites; make one with `heliograph invite create`")
}

fn revoke(server: &ServerArgs, id: &str, with_enrolled: bool, wait: &WaitArgs) -> Result<(), Failure> {
    let api = Api::new(server)?;
    let path = format!("/api/invites/{}", encode(id));
    if with_enrolled {
        let answer = api.delete(&format!("{path}?enrolled=revoke&{}", wait.query()))?;
        return follow(&api, Followed::revoked(&format!("invite {id}")), answer, wait, server.json);
    }
    let answer = api.delete(&path)?.body;
    if server.json {
        return Ok(output::json(&answer)?);
    }
    Ok(output::line(&format!("invite {id} can no longer be used; who came by it stays (--with-enrolled)"))?)
}
