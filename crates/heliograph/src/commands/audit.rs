//! `audit`: the log of all changes.

use anyhow::anyhow;
use serde_json::Value;

use crate::api::Api;
use crate::cli::{Audit, ListArgs, ServerArgs};
use crate::failure::Failure;
use crate::output::{self, text, time};

pub(crate) fn run(audit: Audit) -> Result<(), Failure> {
    match audit {
        Audit::List(args) => list(&args),
        Audit::Verify { server } => verify(&server),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let list = Api::new(&args.server)?.rows("/api/audit", "entries", args.mesh.as_deref(), args.limit)?;
    let cells = |row: &Value| {
        let [version, actor, action, mesh, subject, detail] =
            ["version", "actor", "action", "mesh", "subject", "detail"].map(|name| text(row, name));
        vec![version, time(row, "at"), actor, action, mesh, subject, detail]
    };
    let head = ["version", "at", "by", "action", "mesh", "subject", "detail"];
    super::show(&list, args.server.json, &head, cells, "no changes yet")
}

fn verify(server: &ServerArgs) -> Result<(), Failure> {
    let answer = Api::new(server)?.get("/api/audit/verify")?.body;
    if server.json {
        output::json(&answer)?;
    }
    if answer["ok"] != true {
        let first_bad = text(&answer, "first_bad");
        return Err(anyhow!(
            "the log was changed afterwards: entry {first_bad} is the first that does not fit"
        )
        .into());
    }
    if !server.json {
        output::line(&format!(
            "the log is whole: {} entries, each fits the one before",
            text(&answer, "entries")
        ))?;
    }
    Ok(())
}
