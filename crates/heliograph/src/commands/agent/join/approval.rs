//! The wait for an administrator.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use heliograph_agent::enrol::Pairing;
use heliograph_auth::secret::Secret;
use heliograph_server::config::value::Scalar;
use ureq::http::Method;

use crate::api::{Answer, Api, Refusal, encode};
use crate::failure::Failure;
use crate::output::{self, Progress, span};

/// How long the server may hold one question, in seconds.
const HOLD: u64 = 30;
/// Shortest time from one question to the next: a node that drains answers at once.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure, unless the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
/// How often a terminal is told that this still waits.
const TICK: Duration = Duration::from_millis(250);

/// What became of a pairing.
#[derive(Debug)]
pub(super) enum Approval {
    /// Approved, with the device token.
    Given(Secret),
    /// Approved, and somebody else has got the token.
    Taken,
    Rejected,
    Revoked,
    /// The server does not know it any more.
    Unknown,
}

impl Approval {
    /// Why there is no token, and what to do.
    pub(super) fn words(&self, pairing: &Pairing) -> String {
        let Pairing { id, server, peer_id, .. } = pairing;
        match self {
            Self::Given(_) => format!("pairing {id} is approved"),
            Self::Taken => format!(
                "pairing {id} is approved, but its token, which is given out once, went to somebody else or was lost on \
                 its way: revoke {peer_id} and join with a new code"
            ),
            Self::Rejected => format!("an administrator has rejected pairing {id}"),
            Self::Revoked => format!("an administrator has revoked pairing {id}"),
            Self::Unknown => format!("{server} does not know pairing {id} any more: join with a new code"),
        }
    }
}

/// How long somebody is willing to wait; without a bound the wait is for a person, who may be on holiday.
pub(super) struct Patience(Option<Duration>);

impl Patience {
    pub(super) fn new(timeout: Option<&str>) -> Result<Self, Failure> {
        let read = |text: &str| {
            Duration::parse(text).map_err(|why| Failure::usage(format!("--timeout {text:?} {why}")))
        };
        timeout.map(read).transpose().map(Self)
    }

    fn is_over(&self, start: Instant) -> bool {
        self.0.is_some_and(|patience| start.elapsed() >= patience)
    }

    /// How long the server may hold the next question.
    fn hold(&self, start: Instant) -> u64 {
        let left = self.0.map_or(HOLD, |patience| patience.saturating_sub(start.elapsed()).as_secs() + 1);
        left.min(HOLD)
    }
}

/// Asks until somebody has decided. A server that is away is asked again.
pub(super) fn wait(pairing: &Pairing, patience: &Patience, as_json: bool) -> Result<Approval, Failure> {
    let api = Api::anonymous(pairing.server.as_str());
    let (start, mut failures) = (Instant::now(), 0);
    let mut waiting = Waiting { progress: Progress::new(), start, id: &pairing.id, trouble: None };
    while !patience.is_over(start) {
        let asked = Instant::now();
        let answer = waiting.during(|| ask(&api, pairing, patience.hold(start)));
        let pause = match answer.and_then(|answer| read(&answer)) {
            Ok(Some(approval)) => return Ok(approval),
            Ok(None) => {
                (failures, waiting.trouble) = (0, None);
                SHORTEST_PAUSE.saturating_sub(asked.elapsed())
            }
            Err(error) => {
                let refusal = Refusal::of(&error);
                if refusal.is_some_and(|refusal| matches!(refusal.status, 401 | 404)) {
                    return Ok(Approval::Unknown);
                }
                let pause = pause(failures, refusal.and_then(|refusal| refusal.retry_after));
                failures += 1;
                waiting.trouble_is(&error, as_json)?;
                pause
            }
        };
        waiting.during(|| std::thread::sleep(pause));
    }
    let words = "nobody has approved it in time; it is not lost: the same command goes on";
    Err(anyhow!("pairing {}: {words}", pairing.id).into())
}

fn ask(api: &Api, pairing: &Pairing, hold: u64) -> anyhow::Result<Answer> {
    let bearer = Secret::new(format!("Bearer {}", pairing.claim_token.expose()));
    let path = format!("/api/pairing/{}/status?wait={hold}", encode(&pairing.id));
    api.send(&Method::GET, &path, &[("authorization", bearer.expose())], None)
}

/// What was decided; nothing yet is `None`.
fn read(answer: &Answer) -> anyhow::Result<Option<Approval>> {
    let token = answer.body["device_token"].as_str().map(Secret::new);
    let status = answer.body["status"].as_str().context("the answer has no status: is it heliograph?")?;
    match (status, token) {
        ("approved", Some(token)) => Ok(Some(Approval::Given(token))),
        ("approved", None) => Ok(Some(Approval::Taken)),
        ("rejected", _) => Ok(Some(Approval::Rejected)),
        ("revoked", _) => Ok(Some(Approval::Revoked)),
        ("pending_approval", _) => Ok(None),
        (other, _) => Err(anyhow!("the answer has a status that is not known: {other:?}")),
    }
}

/// The pause after so many failures before: spread, so that devices that lost their server together do not come back
/// together.
fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let longest = LONGEST_PAUSE.min(SHORTEST_PAUSE * 2_u32.saturating_pow(failures.min(8)));
    let spread = longest.mul_f64(rand::random_range(0.5..=1.0));
    spread.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

struct Waiting<'a> {
    progress: Progress,
    start: Instant,
    id: &'a str,
    /// Why the server cannot be asked at the moment.
    trouble: Option<String>,
}

impl Waiting<'_> {
    /// Does something that takes long, and shows that time goes by.
    fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (done, is_done) = mpsc::sync_channel::<()>(0);
            let worker = scope.spawn(move || {
                let _done = done;
                work()
            });
            while is_done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                self.show();
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn show(&mut self) {
        let waited = span(self.start.elapsed().as_secs());
        let trouble = self.trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        self.progress.show(&format!("waiting for the approval of pairing {}, {waited}{trouble}", self.id));
    }

    /// Says that the server is away, once per kind of trouble.
    fn trouble_is(&mut self, error: &anyhow::Error, as_json: bool) -> Result<(), Failure> {
        let trouble = format!("{error:#}");
        if self.trouble.as_ref() == Some(&trouble) {
            return Ok(());
        }
        if as_json {
            output::json_line(&serde_json::json!({ "status": "pending_approval", "trouble": trouble }))?;
        } else if !Progress::is_seen() {
            output::line(&format!("still waiting: {trouble}"))?;
        }
        self.trouble = Some(trouble);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_decisions_or_none_yet() {
        let check = |body: serde_json::Value, expect: &str| {
            let read = read(&Answer { status: 200, body, date: None });
            let shown = read.map_or_else(|error| error.to_string(), |approval| format!("{approval:?}"));
            assert!(shown.starts_with(expect), "{shown}");
        };
        check(json!({ "status": "pending_approval" }), "None");
        check(json!({ "status": "approved", "device_token": "dt_1" }), "Some(Given(•••))");
        check(json!({ "status": "approved" }), "Some(Taken)");
        check(json!({ "status": "rejected" }), "Some(Rejected)");
        check(json!({ "status": "revoked", "device_token": null }), "Some(Revoked)");
        check(json!({ "status": "maybe" }), "the answer has a status that is not known");
        check(json!(null), "the answer has no status");
    }

    #[test]
    fn pauses_grow_are_spread_and_heed_the_server() {
        let check = |failures, retry_after: Option<u64>, from: f64, to: f64| {
            let pause = pause(failures, retry_after.map(Duration::from_secs)).as_secs_f64();
            assert!((from..=to).contains(&pause), "{pause}");
        };
        check(0, None, 0.5, 1.0);
        check(2, None, 2.0, 4.0);
        check(u32::MAX, None, 15.0, 30.0);
        check(0, Some(40), 40.0, 40.0);
        check(9, Some(1), 15.0, 30.0);
        check(0, Some(u64::MAX), 600.0, 600.0);
    }

    #[test]
    fn the_server_holds_a_question_no_longer_than_somebody_waits() {
        let now = Instant::now();
        assert_eq!(Patience(None).hold(now), HOLD);
        assert_eq!(Patience(Some(Duration::from_hours(1))).hold(now), HOLD);
        assert!(Patience(Some(Duration::from_secs(2))).hold(now) <= 3);
        assert!(!Patience(None).is_over(now) && Patience(Some(Duration::ZERO)).is_over(now));
    }
}
