//! What a revocation answers: who has confirmed it, and the wait for those who have not.

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

/// Follows a revocation to its end and prints the report. `what` was revoked.
pub(crate) fn follow(
    api: &Api,
    what: &str,
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
        print(what, &report)?;
    }
    if wait.wait == Wait::Enforced && report["enforced"] != true {
        let poll = text(&report, "poll");
        return Err(
            anyhow!("{what} is revoked, but not every node has confirmed it; ask again at {poll}").into()
        );
    }
    Ok(())
}

/// Asks until all have confirmed. Members that only the first answer has stay.
fn poll(api: &Api, report: &mut Value, patience: Duration) -> Result<(), Failure> {
    // Only the path: the key goes to the server that was named and nowhere else.
    let path = report["poll"].as_str().filter(|path| path.starts_with('/') && !path.starts_with("//"));
    let path = path
        .ok_or_else(|| anyhow!("the server does not say where to ask for the end of the revocation"))?
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

fn print(what: &str, report: &Value) -> Result<(), Failure> {
    let list = |name| match names(report, name) {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    };
    let state = if report["enforced"] == true { "everywhere" } else { "not yet confirmed by every node" };
    Ok(output::facts(&[
        ("Revoked", format!("{what} (version {})", text(report, "version"))),
        ("Holds", state.into()),
        ("Acknowledged", list("acknowledged")),
        ("Lease ran out", list("expired")),
        ("Took", format!("{} ms", text(report, "waited_ms"))),
    ])?)
}
