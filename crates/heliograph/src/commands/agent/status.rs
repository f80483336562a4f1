//! `agent status`: how a running agent stands.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use heliograph_agent::config::Surroundings;
use serde_json::Value;

use crate::cli::StatusArgs;
use crate::failure::Failure;
use crate::output::{self, span, text};

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for one piece of it, so that the whole is bounded too.
const PIECE: Duration = Duration::from_secs(1);
/// Most that is read: the status of a large mesh, and what the agent says to every program before it.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

pub(crate) fn run(args: StatusArgs) -> Result<(), Failure> {
    let path = Surroundings::of_process().socket(args.socket)?;
    let status = ask(&path)?;
    if args.json {
        return Ok(output::json(&status)?);
    }
    show(&status)
}

fn ask(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no agent answers at {shown}: start it with `heliograph agent run`, or name its socket with --socket"
        ),
        ErrorKind::PermissionDenied => anyhow!("the agent at {shown} belongs to another user: ask as that user"),
        _ => anyhow!("cannot ask at {shown}: {error}"),
    })?;
    stream.set_read_timeout(Some(PIECE))?;
    stream.set_write_timeout(Some(PIECE))?;
    (&stream)
        .write_all(b"{\"type\":\"status\"}\n")
        .with_context(|| format!("cannot ask the agent at {shown}"))?;
    answer(&stream).with_context(|| format!("the agent at {shown} gives no status"))
}

/// The first status among the lines; the others are for programs that stay.
fn answer(stream: &UnixStream) -> anyhow::Result<Value> {
    let (mut reader, mut line) = (BufReader::new(stream).take(MAX_BYTES), vec![]);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match reader.read_until(b'\n', &mut line) {
            Ok(_) if !line.ends_with(b"\n") => bail!("it ended the connection"),
            Ok(_) => {}
            // Half a line stays where it is.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut notice: Value = serde_json::from_slice(&line).context("it does not speak JSON lines")?;
        line.clear();
        match notice["type"].as_str() {
            Some("status") => return Ok(notice["payload"].take()),
            Some("error") => bail!("{}", text(&notice["payload"], "message")),
            _ => {}
        }
    }
    bail!("it did not answer within {}", span(PATIENCE.as_secs()))
}

fn show(status: &Value) -> Result<(), Failure> {
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let open = peers.iter().filter(|peer| peer["channel"] == "open").count();
    let mut facts = vec![("State", state(status))];
    for (title, member) in [("Peer", "peer_id"), ("Mesh", "mesh"), ("Server", "server")] {
        if !status[member].is_null() {
            facts.push((title, text(status, member)));
        }
    }
    if let Some(seconds) = status["running_s"].as_u64() {
        facts.push(("Running", span(seconds)));
    }
    let relayed = if status["relay_only"] == true { ", through TURN servers alone" } else { "" };
    facts.extend([
        ("Channels", format!("{open} open, {} peers{relayed}", peers.len())),
        // Without this one, which leaves at once.
        ("Programs", status["programs"].as_u64().unwrap_or_default().saturating_sub(1).to_string()),
        ("Version", text(status, "version")),
    ]);
    output::facts(&facts)?;
    if peers.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let head = ["peer", "present", "connection", "channel", "local", "remote", "sent", "received"];
    let members =
        ["peer_id", "present", "connection", "channel", "local", "remote", "bytes_sent", "bytes_received"];
    let row = |peer: &Value| members.map(|member| text(peer, member)).into();
    Ok(output::table(&head, &peers.iter().map(row).collect::<Vec<_>>(), "no peers")?)
}

/// How it stands with the service, and why.
fn state(status: &Value) -> String {
    let mut state = text(status, "state");
    if let Some(reason) = status["reason"].as_str() {
        state = format!("{state}: {reason}");
    }
    if let Some(retry) = status["retry_in_ms"].as_u64() {
        state = format!("{state}, tries again within {}", span(retry.div_ceil(1_000)));
    }
    state
}
