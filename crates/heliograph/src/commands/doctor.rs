//! `doctor`: looks at everything that usually goes wrong, and says what to do about it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use heliograph_server::config::{Config, Mode, RedisUrl, StorageConfig};
use serde_json::{Value, json};
use ureq::http::Method;

use super::config::look;
use crate::api::{Answer, Api};
use crate::cli::DoctorArgs;
use crate::failure::Failure;
use crate::output;

/// Clocks that differ by more make tokens look expired or from the future. The header has whole seconds.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);
/// How every SQLite file begins.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Perhaps meant so.
    Note,
    Bad,
}

/// What was looked at, what was found, and what to do.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    subject: String,
    found: String,
    advice: &'static str,
}

fn good(subject: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Good, subject: subject.into(), found: found.into(), advice: "" }
}

fn note(subject: impl Into<String>, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { verdict: Verdict::Note, subject: subject.into(), found: found.into(), advice }
}

fn bad(subject: impl Into<String>, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { verdict: Verdict::Bad, subject: subject.into(), found: found.into(), advice }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = vec![];
    let (mode, inspection) = look(&args.inspect);
    match inspection.config {
        Ok(config) => node(mode, &config, &mut findings),
        Err(problems) => {
            let advice = "correct it; docs/configuration.md has all settings";
            findings.extend(
                problems.as_slice().iter().map(|problem| bad("configuration", problem.to_string(), advice)),
            );
        }
    }
    server(&Api::new(&args.server)?, &mut findings);
    print(&findings, args.server.json)?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
        0 => Ok(()),
        count => Err(anyhow!("{count} of {} checks found something to do", findings.len()).into()),
    }
}

fn print(findings: &[Finding], as_json: bool) -> Result<(), Failure> {
    let word = |verdict| match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "bad",
    };
    if as_json {
        let describe = |f: &Finding| json!({ "verdict": word(f.verdict), "subject": f.subject, "found": f.found, "advice": f.advice });
        return Ok(output::json(&json!({ "checks": findings.iter().map(describe).collect::<Vec<_>>() }))?);
    }
    for finding in findings {
        output::line(&format!("{:4}  {:15}  {}", word(finding.verdict), finding.subject, finding.found))?;
        if !finding.advice.is_empty() {
            output::line(&format!("{:23}-> {}", "", finding.advice))?;
        }
    }
    Ok(())
}

/// The node that would run here.
fn node(mode: Mode, config: &Config, findings: &mut Vec<Finding>) {
    findings.push(good("configuration", format!("good for `heliograph {}`", mode.as_str())));
    if config.storage.sqlite_file().is_some() {
        findings.push(data_dir(&config.storage.data_dir));
    }
    findings.push(database(&config.storage));
    findings.extend(config.storage.redis_url.as_ref().map(redis));
    findings.push(ice(config));
    let listen = &config.listen;
    findings.push(port("listen", listen.listen, "/.well-known/jwks.json"));
    if let Some(admin) = listen.admin_listen {
        findings.push(port("admin_listen", admin, "/openapi.json"));
    }
    let ops = port("ops_listen", listen.ops_listen, "/livez");
    let runs = ops.found.contains(SERVED);
    findings.push(ops);
    if runs {
        findings.push(readiness(listen.ops_listen));
    }
}

/// Tries what a start would do: make the directory and write there. What it makes it takes away.
fn data_dir(dir: &Path) -> Finding {
    let shown = dir.display();
    // The nearest directory that exists is the one that has to be writable.
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let Some(existing) = absolute.ancestors().find(|dir| dir.exists()) else {
        return bad(
            "data directory",
            format!("{shown} has no place to be"),
            "choose another with --data-dir",
        );
    };
    let probe = existing.join(format!(".heliograph-doctor-{}", std::process::id()));
    match std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) if existing == absolute => good("data directory", format!("{shown} can be written")),
        Ok(()) => good("data directory", format!("{shown} will be made at the first start")),
        Err(error) => bad(
            "data directory",
            format!("{} cannot be written: {error}", existing.display()),
            "give this user the right, or choose another with --data-dir",
        ),
    }
}

/// What a start would find.
fn database(storage: &StorageConfig) -> Finding {
    match (&storage.database_url, storage.sqlite_file()) {
        (_, Some(path)) => database_file(&path),
        (Some(url), None) => {
            let advice = "correct HELIOGRAPH_DATABASE_URL, or do what the message says";
            looked_at("database", advice, heliograph_server::check_database(url))
        }
        (None, None) => bad("database", "none is configured", "set HELIOGRAPH_DATABASE_URL"),
    }
}

/// The way to the other nodes.
fn redis(url: &RedisUrl) -> Finding {
    let advice = "see that Redis runs there and that HELIOGRAPH_REDIS_URL says how to be let in";
    looked_at("redis", advice, heliograph_server::check_bus(url))
}

fn looked_at(subject: &'static str, advice: &'static str, looked: anyhow::Result<String>) -> Finding {
    match looked {
        Ok(found) => good(subject, found),
        Err(error) => bad(subject, format!("{error:#}"), advice),
    }
}

/// A look at the file only: to open it would bring it to this version, and one process has it at a time.
fn database_file(path: &Path) -> Finding {
    let shown = path.display();
    match beginning(path) {
        Ok(bytes) if bytes.is_empty() || bytes == SQLITE_MAGIC => {
            good("database", format!("{shown} is an SQLite file"))
        }
        Ok(_) => {
            bad("database", format!("{shown} is no SQLite file"), "restore a backup, or name another file")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            good("database", format!("{shown} will be made at the first start"))
        }
        Err(error) => {
            bad("database", format!("{shown} cannot be read: {error}"), "give this user the right to read it")
        }
    }
}

fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    File::open(path)?.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The syntax was checked with the configuration.
fn ice(config: &Config) -> Finding {
    let (stun, turn) = (config.ice.ice_urls.len(), config.ice.turn_urls.len());
    match (stun, turn) {
        (0, 0) => note(
            "ICE servers",
            "none",
            "peers in different networks will not connect; set HELIOGRAPH_ICE_URLS, and HELIOGRAPH_TURN_URLS for strict ones",
        ),
        (_, 0) => {
            note("ICE servers", format!("{stun} STUN"), "peers behind strict firewalls need TURN as well")
        }
        _ => good("ICE servers", format!("{stun} STUN, {turn} TURN")),
    }
}

const SERVED: &str = "is served by heliograph";

/// Whether a node could listen there, or one does.
fn port(setting: &'static str, address: SocketAddr, path: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => good(setting, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match ask(address, path) {
            Ok(_) => good(setting, format!("{address} {SERVED}")),
            Err(_) => bad(
                setting,
                format!("{address} is in use by another program"),
                "stop it, or choose another address",
            ),
        },
        Err(error) => {
            bad(setting, format!("{address} cannot be listened on: {error}"), "choose another address")
        }
    }
}

/// What a node on this machine answers.
pub(crate) fn ask(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    // "Every address" is no place to call.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let server = format!("http://{}", SocketAddr::new(ip, address.port()));
    Api::anonymous(&server).send(&Method::GET, path, &[], None)
}

/// What the running node says of its storage, its bus and its lease.
fn readiness(ops: SocketAddr) -> Finding {
    match ask(ops, "/readyz") {
        Ok(_) => good("readiness", "storage, authorization and bus are ready"),
        Err(error) => bad(
            "readiness",
            format!("the node is not ready: {error:#}"),
            "read its log; GET /readyz names the check",
        ),
    }
}

/// The server that client commands would ask.
fn server(api: &Api, findings: &mut Vec<Finding>) {
    let answer = match api.send(&Method::GET, "/api/config", &[], None) {
        Ok(answer) => answer,
        Err(error) => {
            let advice = "client commands need it: start it, or name another with HELIOGRAPH_SERVER";
            findings.push(note("server", format!("{error:#}"), advice));
            return;
        }
    };
    if !answer.body["iceServers"].is_array() {
        let advice = "name the right one with HELIOGRAPH_SERVER";
        findings.push(bad("server", format!("{} is no heliograph", api.server()), advice));
        return;
    }
    findings.push(good("server", format!("{} answers", api.server())));
    findings.push(clock(answer.date, SystemTime::now()));
    findings.push(key(api));
}

fn clock(theirs: Option<SystemTime>, ours: SystemTime) -> Finding {
    let Some(theirs) = theirs else {
        return note("clock", "the server does not say what time it is", "compare the clocks by hand");
    };
    let apart = match ours.duration_since(theirs) {
        Ok(apart) => apart,
        Err(error) => error.duration(),
    };
    if apart <= CLOCK_TOLERANCE {
        return good("clock", "agrees with the server's");
    }
    let found = format!("{} s apart from the server's", apart.as_secs());
    bad("clock", found, "tokens will look expired or from the future; synchronize both (NTP)")
}

fn key(api: &Api) -> Finding {
    if !api.has_key() {
        return note("key", "none given", "set HELIOGRAPH_KEY for the commands that administer");
    }
    match api.get("/api/keys?limit=1") {
        Ok(Answer { body: Value::Object(_), .. }) => good("key", "is an administrator's"),
        Ok(_) => bad("key", "the server's answer makes no sense", "look at what stands between"),
        Err(Failure::Failed(error)) => bad("key", format!("{error:#}"), "set HELIOGRAPH_KEY to an admin key"),
        Err(_) => bad("key", "cannot be sent", "set HELIOGRAPH_KEY to an admin key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let ours = SystemTime::now();
        let verdict = |theirs| clock(theirs, ours).verdict;
        assert_eq!(verdict(Some(ours - Duration::from_secs(2))), Verdict::Good);
        assert_eq!(verdict(Some(ours + Duration::from_mins(1))), Verdict::Bad);
        assert_eq!(verdict(Some(ours - Duration::from_mins(1))), Verdict::Bad);
        assert_eq!(verdict(None), Verdict::Note);
    }

    #[test]
    fn ports_are_free_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        // Whoever is there does not speak HTTP: it hangs up.
        let address = taken.local_addr().unwrap();
        std::thread::spawn(move || while taken.accept().is_ok() {});
        let finding = port("listen", address, "/livez");
        assert_eq!(
            (finding.verdict, finding.found),
            (Verdict::Bad, format!("{address} is in use by another program"))
        );
        assert_eq!(port("listen", "127.0.0.1:0".parse().unwrap(), "/").verdict, Verdict::Good);
    }

    #[test]
    fn a_directory_that_cannot_be_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(data_dir(&file.path().join("below")).verdict, Verdict::Bad);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(data_dir(&dir.path().join("new")).verdict, Verdict::Good);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
