//! Where and on what figures were measured: they mean little without.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Packages whose versions the figures depend on.
const PACKAGES: [&str; 6] =
    ["tokio", "tokio-tungstenite", "hyper", "serde_json", "tikv-jemallocator", "sqlx"];

/// The machine, the programs and the moment.
#[derive(Debug, Clone, Serialize)]
pub struct Circumstances {
    /// In UTC, by RFC 3339.
    pub date: String,
    /// Revision of the sources; `-dirty` when they differ from it.
    pub revision: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory of the machine, in MiB.
    pub memory_mib: u64,
    /// Processes that ran or wanted to, averaged over the minute before the run: not much more than 0 if the machine
    /// was left alone.
    pub load_before: f64,
    /// The kernel's release.
    pub kernel: String,
    /// Version of the compiler.
    pub rustc: String,
    /// Versions of the libraries that matter.
    pub packages: BTreeMap<String, String>,
}

impl Circumstances {
    /// Those of now. What cannot be found out is called "unknown".
    pub fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        Self {
            date: rfc3339(seconds),
            revision: revision(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kilobytes / 1024,
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            rustc: output("rustc", &["--version"]),
            packages: versions(&lock_file()),
        }
    }
}

/// The workspace's lock file, from wherever in it the program was started.
fn lock_file() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors().find_map(|folder| fs::read_to_string(folder.join("Cargo.lock")).ok()).unwrap_or_default()
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

fn field(text: &str, name: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    known(
        lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next().unwrap_or_default(),
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    known(
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
            .as_str(),
    )
}

fn revision() -> String {
    let revision = output("git", &["rev-parse", "--short=12", "HEAD"]);
    // The results themselves always differ.
    let changed =
        output("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results"]);
    if changed == "unknown" { revision } else { revision + "-dirty" }
}

fn versions(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, name| {
        let rest = line.strip_prefix(name)?.strip_prefix(" = \"")?;
        rest.strip_suffix('"').map(str::to_owned)
    };
    let mut versions = BTreeMap::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = value(line, "name").filter(|name| PACKAGES.contains(&name.as_str())) else {
            continue;
        };
        if let Some(version) = lines.next().and_then(|line| value(line, "version")) {
            versions.insert(name, version);
        }
    }
    versions
}

/// Seconds since the Unix epoch as a date and time of day.
fn rfc3339(seconds: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour, minute, second) = (days + 1, rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn versions_are_found() {
        let lock = "[[package]]\nname = \"tokio\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"other\"\nversion = \"9\"\n";
        assert_eq!(versions(lock), BTreeMap::from([("tokio".to_owned(), "1.2.3".to_owned())]));
        assert!(versions("").is_empty());
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(field("processor : 0\nmodel name\t: A CPU\n", "model name"), "A CPU");
        assert_eq!(field("", "model name"), "unknown");
    }
}
