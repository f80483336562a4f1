//! `peer`: devices and other peers.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::revocation::{Followed, follow};
use crate::api::{Answer, Api, encode, is_not_found};
use crate::cli::{ListArgs, Peer, PeerArgs, Wait, WaitArgs};
use crate::failure::Failure;
use crate::output::{self, age, text, time};

pub(crate) fn run(peer: Peer) -> Result<(), Failure> {
    match peer {
        Peer::List { list: args, status } => list(&args, status.as_deref()),
        Peer::Show(args) => show(&args),
        Peer::Approve { peer, wait, timeout } => approve(&peer, &WaitArgs { wait, timeout }),
        Peer::Reject(args) => reject(&args),
        Peer::Revoke { peer, wait } => revoke(&peer, &wait),
    }
}

fn list(args: &ListArgs, status: Option<&str>) -> Result<(), Failure> {
    // The server does not filter: with a filter of ours, the limit counts what is left.
    let limit = if status.is_some() { usize::MAX } else { args.limit };
    let mut list = Api::new(&args.server)?.rows("/api/peers", "peers", args.mesh.as_deref(), limit)?;
    if let Some(status) = status {
        list.rows.retain(|row| row["status"] == status);
        list.more |= list.rows.len() > args.limit;
        list.rows.truncate(args.limit);
    }
    let cells = |row: &Value| {
        let [peer, mesh, name, status, role, origin, pairing] =
            ["peer_id", "mesh", "name", "status", "role", "origin", "pairing_id"].map(|name| text(row, name));
        vec![peer, mesh, name, status, role, origin, pairing, sessions(row)]
    };
    let head = ["peer", "mesh", "name", "status", "role", "origin", "pairing", "online"];
    super::show(&list, args.server.json, &head, cells, "no peers")
}

/// Since when the peer is connected.
fn sessions(row: &Value) -> String {
    match row["sessions"].as_array().map(Vec::as_slice) {
        None => "unknown".into(),
        Some([]) => "-".into(),
        Some([session, ..]) => age(session, "since"),
    }
}

fn show(args: &PeerArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    let peer = find(&api, args)?;
    if args.server.json {
        return Ok(output::json(&peer)?);
    }
    let mut facts: Vec<(&str, String)> = [
        ("Peer", "peer_id"),
        ("Mesh", "mesh"),
        ("Name", "name"),
        ("Status", "status"),
        ("Role", "role"),
        ("Origin", "origin"),
        ("Pairing", "pairing_id"),
        ("Public key", "key_fingerprint"),
        ("Version", "version"),
    ]
    .map(|(title, member)| (title, text(&peer, member)))
    .into();
    facts.push(("Since", time(&peer, "created_at")));
    facts.push(("Changed", time(&peer, "updated_at")));
    for session in peer["sessions"].as_array().into_iter().flatten() {
        let (gateway, dialect) = (text(session, "gateway"), text(session, "dialect"));
        facts.push(("Session", format!("on {gateway}, {dialect}, for {}", age(session, "since"))));
    }
    Ok(output::facts(&facts)?)
}

/// The peer by its own id, else by that of its pairing.
fn find(api: &Api, args: &PeerArgs) -> Result<Value, Failure> {
    let by_peer = |peer: &str, mesh: Option<&str>| {
        let mesh = mesh.map(|mesh| format!("?mesh={}", encode(mesh))).unwrap_or_default();
        api.get(&format!("/api/peers/{}{mesh}", encode(peer)))
    };
    match by_peer(&args.id, args.mesh.as_deref()) {
        Err(failure) if is_not_found(&failure) => {
            let peers = api.rows("/api/peers", "peers", args.mesh.as_deref(), usize::MAX)?.rows;
            let peer = peers.into_iter().find(|peer| peer["pairing_id"] == args.id.as_str());
            peer.ok_or_else(|| anyhow!("no peer and no pairing has the id {:?}", args.id).into())
        }
        found => Ok(found?.body),
    }
}

fn approve(args: &PeerArgs, wait: &WaitArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    let answer = on_pairing(&api, args, &format!("approve?{}", wait.query()))?;
    if wait.wait == Wait::Enforced {
        let peer = text(&answer.body, "peer_id");
        return follow(&api, Followed { what: &peer, state: "approved" }, answer, wait, args.server.json);
    }
    say(args, &answer.body, "approved; the device fetches its token itself")
}

fn reject(args: &PeerArgs) -> Result<(), Failure> {
    let answer = on_pairing(&Api::new(&args.server)?, args, "reject")?;
    say(args, &answer.body, "rejected")
}

fn say(args: &PeerArgs, answer: &Value, done: &str) -> Result<(), Failure> {
    if args.server.json {
        return Ok(output::json(answer)?);
    }
    Ok(output::line(&format!("{} {done}", text(answer, "peer_id")))?)
}

/// Decisions are about pairings; who gives a peer's id means its pairing.
fn on_pairing(api: &Api, args: &PeerArgs, verb: &str) -> Result<Answer, Failure> {
    // The token is for the device: who approves at a terminal has no use for it.
    let body = json!({ "deliver": "device" });
    let decide = |pairing: &str| api.post(&format!("/api/pairing/{}/{verb}", encode(pairing)), &body);
    match decide(&args.id) {
        Err(failure) if is_not_found(&failure) => match find(api, args)?["pairing_id"].as_str() {
            Some(pairing) if pairing != args.id => decide(pairing),
            _ => Err(failure),
        },
        decided => decided,
    }
}

fn revoke(args: &PeerArgs, wait: &WaitArgs) -> Result<(), Failure> {
    let api = Api::new(&args.server)?;
    let mesh = args.mesh.as_deref().map(|mesh| format!("&mesh={}", encode(mesh))).unwrap_or_default();
    let path = format!("/api/pairing/{}/revoke?{}{mesh}", encode(&args.id), wait.query());
    let answer = api.post(&path, &json!({}))?;
    let peer = text(&answer.body, "peer_id");
    follow(&api, Followed::revoked(&peer), answer, wait, args.server.json)
}
