//! `mesh`: meshes as a whole.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;

use super::revocation::{Followed, follow};
use crate::api::{Api, encode};
use crate::cli::{Mesh, ServerArgs, WaitArgs};
use crate::failure::Failure;
use crate::output::plain;

/// Longest answer to a question, in bytes.
const MAX_REPLY_BYTES: u64 = 1024;

pub(crate) fn run(mesh: Mesh) -> Result<(), Failure> {
    match mesh {
        Mesh::Revoke { server, name, yes, wait } => {
            if !yes {
                confirm(&name)?;
            }
            revoke(&server, &name, &wait)
        }
    }
}

fn revoke(server: &ServerArgs, name: &str, wait: &WaitArgs) -> Result<(), Failure> {
    let api = Api::new(server)?;
    let path = format!("/api/meshes/{}/revoke?{}", encode(name), wait.query());
    let answer = api.post(&path, &json!({}))?;
    follow(&api, Followed::revoked(&format!("mesh {name}")), answer, wait, server.json)
}

/// Asks a person to type the name. A script has to say `--yes`.
fn confirm(name: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("this takes the rights of a whole mesh away for good: say --yes"));
    }
    let question = format!(
        "All peers and keys of the mesh {} lose their rights for good. Type its name to go on: ",
        plain(name)
    );
    let mut stderr = io::stderr();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    let mut reply = String::new();
    let read = asked.and_then(|()| io::Read::take(stdin.lock(), MAX_REPLY_BYTES).read_line(&mut reply));
    match read {
        Ok(_) if reply.trim() == name => Ok(()),
        _ => Err(Failure::usage("the name was not typed: nothing is changed")),
    }
}
