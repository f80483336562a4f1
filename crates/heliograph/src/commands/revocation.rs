//! What a change of rights answers: who has confirmed it, and the wait for those who have not.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use heliograph_server::config::value::Scalar;
use serde_json::Value;

use crate::api::{Answer, Api};
use crate::cli::{Wait, WaitArgs};
use crate::failure::Failure;
use crate::output::{self, Progress, names, text};

/// Between two questions whether all have confirmed.
const POLL: Duration = Duration::from_millis(250);

impl WaitArgs {
    /// The wait in the server's words.
    pub(crate) fn query(&self) -> &'static str {
        match self.wait {
            Wait::Enforced => "wait=enforced",
            Wait::None => "wait=none",
        }
    }

    fn patience(&self) -> Result<Duration, Failure> {
        Duration::parse(&self.timeout)
            .map_err(|why| Failure::usage(format!("--timeout {:?} {why}", self.timeout)))
    }
}

/// A change that has to reach every node, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Followed<'a> {
    /// What was changed.
    pub(crate) what: &'a str,
    /// What it is now.
    pub(crate) state: &'a str,
}

impl<'a> Followed<'a> {
    /// A right that was taken away.
    pub(crate) fn revoked(what: &'a str) -> Self {
        Self { what, state: "revoked" }
    }
}

/// Follows a change to its end and prints the report.
pub(crate) fn follow(
    api: &Api,
    change: Followed<'_>,
    answer: Answer,
    wait: &WaitArgs,
    as_json: bool,
) -> Result<(), Failure> {
    let patience = wait.patience()?;
    let mut report = answer.body;
    if answer.status == 202 && wait.wait == Wait::Enforced {
        poll(api, &mut report, patience)?;
    }
    if as_json {
        output::json(&report)?;
    } else {
        print(change, &report)?;
    }
    if wait.wait == Wait::Enforced && report["enforced"] != true {
        let (Followed { what, state }, poll) = (change, text(&report, "poll"));
        return Err(
            anyhow!("{what} is {state}, but not every node has confirmed it; ask again at {poll}").into()
        );
    }
    Ok(())
}

/// Asks until all have confirmed. Members that only the first answer has stay.
fn poll(api: &Api, report: &mut Value, patience: Duration) -> Result<(), Failure> {
    // Only the path: the key goes to the server that was named and nowhere else.
    let path = report["poll"].as_str().filter(|path| path.starts_with('/') && !path.starts_with("//"));
    let path = path
        .ok_or_else(|| anyhow!("the server does not say where to ask whether every node has confirmed"))?
        .to_owned();
    let (start, mut progress) = (Instant::now(), Progress::new());
    while report["enforced"] != true && start.elapsed() < patience {
        let confirmed = names(report, "acknowledged").len() + names(report, "expired").len();
        progress.show(&format!(
            "waiting for every node: {confirmed} have confirmed, {} s",
            start.elapsed().as_secs()
        ));
        std::thread::sleep(POLL);
        let later = api.get(&path)?.body;
        if let (Some(report), Value::Object(later)) = (report.as_object_mut(), later) {
            report.extend(later);
        }
    }
    Ok(())
}

fn print(change: Followed<'_>, report: &Value) -> Result<(), Failure> {
    let list = |name| match names(report, name) {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    };
    let everywhere =
        if report["enforced"] == true { "everywhere" } else { "not yet confirmed by every node" };
    let mut state = change.state.to_owned();
    if let Some(first) = state.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut facts = vec![(state.as_str(), format!("{} (version {})", change.what, text(report, "version")))];
    facts.extend(group(report));
    facts.extend([
        ("Holds", everywhere.into()),
        ("Acknowledged", list("acknowledged")),
        ("Lease ran out", list("expired")),
        ("Took", format!("{} ms", text(report, "waited_ms"))),
    ]);
    Ok(output::facts(&facts)?)
}

/// What the report of a group says of it.
fn group(report: &Value) -> Vec<(&'static str, String)> {
    let counts = &report["counts"];
    if counts.is_null() {
        return vec![];
    }
    let counted = |name: &str| match (counts[name].as_u64().unwrap_or_default(), names(report, name)) {
        (0, _) => "none".to_owned(),
        (count, named) if named.len() as u64 == count => format!("{count}: {}", named.join(", ")),
        (count, named) => format!("{count}: {}, …", named.join(", ")),
    };
    let mut facts = vec![
        ("Peers revoked", counted("revoked")),
        ("Devices rejected", counted("rejected")),
        ("Keys", text(counts, "keys")),
        ("Invites", text(counts, "invites")),
    ];
    if let Some(kept) = report["kept"].as_str() {
        facts.push(("Kept", format!("{kept}, for whom your key stands")));
    }
    facts
}
