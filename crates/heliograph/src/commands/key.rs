//! `key`: API keys.

use std::path::Path;

use anyhow::anyhow;
use heliograph_auth::keyfile::{KeyEntry, parse_key_file};
use serde_json::{Value, json};

use super::revocation::{Followed, follow};
use crate::api::{Answer, Api, encode};
use crate::cli::{Key, ListArgs, ServerArgs};
use crate::failure::Failure;
use crate::output::{self, Progress, text, time};

pub(crate) fn run(key: Key) -> Result<(), Failure> {
    match key {
        Key::Create { server, peer_id, role, name, mesh } => {
            let mut wish = json!({ "peer_id": peer_id, "role": role.as_str(), "name": name });
            if let Some(mesh) = mesh {
                wish["mesh"] = json!(mesh);
            }
            create(&server, &wish)
        }
        Key::List(args) => list(&args),
        Key::Revoke { server, id, wait } => {
            let api = Api::new(&server)?;
            let answer = api.delete(&format!("/api/keys/{}?{}", encode(&id), wait.query()))?;
            follow(&api, Followed::revoked(&id), answer, &wait, server.json)
        }
        Key::Import { server, file } => import(&server, &file),
    }
}

fn create(server: &ServerArgs, wish: &Value) -> Result<(), Failure> {
    let made = Api::new(server)?.post("/api/keys", wish)?.body;
    if server.json {
        return Ok(output::json(&made)?);
    }
    Ok(output::facts(&[
        ("Key", format!("{}   (shown this once, keep it)", text(&made, "key"))),
        ("Id", text(&made, "id")),
        ("Peer", text(&made, "peer_id")),
        ("Role", text(&made, "role")),
        ("Mesh", text(&made, "mesh")),
    ])?)
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let list = Api::new(&args.server)?.rows("/api/keys", "keys", args.mesh.as_deref(), args.limit)?;
    let cells = |row: &Value| {
        let [id, peer, mesh, role, name] =
            ["id", "peer_id", "mesh", "role", "name"].map(|name| text(row, name));
        vec![id, peer, mesh, role, name, time(row, "created_at"), time(row, "revoked_at")]
    };
    let head = ["key", "peer", "mesh", "role", "name", "made", "revoked"];
    super::show(&list, args.server.json, &head, cells, "no keys")
}

/// Keys that are there already stay as they are, so it can be repeated.
fn import(server: &ServerArgs, file: &Path) -> Result<(), Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    let entries = parse_key_file(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let api = Api::new(server)?;
    api.require_key()?;
    let (mut progress, mut made) = (Progress::new(), 0_usize);
    for (index, entry) in entries.iter().enumerate() {
        progress.show(&format!("importing {} of {}", index + 1, entries.len()));
        let place = || format!("key {} of {shown} ({})", index + 1, entry.peer);
        let answer = import_one(&api, entry).map_err(|failure| failure.within(place))?;
        made += usize::from(answer.status == 201);
    }
    drop(progress);
    let kept = entries.len() - made;
    if server.json {
        return Ok(output::json(&json!({ "imported": made, "known": kept }))?);
    }
    Ok(output::line(&format!("{made} keys imported, {kept} were there already"))?)
}

fn import_one(api: &Api, entry: &KeyEntry) -> Result<Answer, Failure> {
    let wish = json!({
        "peer_id": entry.peer.as_str(),
        "role": entry.role,
        "mesh": entry.mesh.as_str(),
        "name": "imported",
        "secret": entry.secret.expose(),
    });
    let answer = api.post("/api/keys", &wish)?;
    // A server that does not know the member would have made another key, with which no device can connect.
    if answer.body["key"].as_str().is_some_and(|key| !entry.secret.matches(key)) {
        return Err(
            anyhow!("the server makes keys of its own and cannot take this one over: update it").into()
        );
    }
    Ok(answer)
}
