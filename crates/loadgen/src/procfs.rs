//! A process seen from outside: processor time and memory, from `/proc`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Context;
use serde::Serialize;

/// The kernel's clock ticks per second as `/proc` counts them; fixed by its interface to user space.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time that a process has used, at one moment.
#[derive(Debug, Clone)]
pub struct Cpu {
    /// User and system time of all threads, ended ones too, in nanoseconds; in steps of a tick (10 ms).
    ticks_nanos: u64,
    /// The same of the threads that live, to the nanosecond; absent where the kernel does not tell.
    exact_nanos: Option<u64>,
    threads: BTreeSet<u32>,
}

impl Cpu {
    /// That of the process `pid` now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
        let ticks = ticks(&stat).context("/proc/PID/stat looks different than it should")?;
        let mut threads = BTreeSet::new();
        let mut exact = Some(0);
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Some(thread) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may end between the two reads; then the set of threads tells.
            let Ok(line) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")) else {
                exact = None;
                continue;
            };
            exact = exact.zip(on_cpu(&line)).map(|(sum, nanos)| sum + nanos);
            threads.insert(thread);
        }
        Ok(Self { ticks_nanos: ticks * (1_000_000_000 / TICKS_PER_SECOND), exact_nanos: exact, threads })
    }

    /// Nanoseconds used since the process began.
    pub fn total(&self) -> u64 {
        self.exact_nanos.unwrap_or(self.ticks_nanos)
    }

    /// Nanoseconds used since `earlier`: exact unless a thread ended in between, which takes its share along.
    pub fn since(&self, earlier: &Self) -> u64 {
        match self.exact_nanos.zip(earlier.exact_nanos) {
            Some((now, then)) if earlier.threads.is_subset(&self.threads) => now.saturating_sub(then),
            _ => self.ticks_nanos.saturating_sub(earlier.ticks_nanos),
        }
    }
}

/// The process `pid` and those that it started. Whoever ends while this looks is left out.
pub fn family(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = processes.filter(|process| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        parent(&stat) == Some(pid)
    });
    std::iter::once(pid).chain(children).collect()
}

/// The process that started the process `pid`; `None` if it is gone.
pub fn parent_of(pid: u32) -> Option<u32> {
    parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent in a `/proc/PID/stat` line.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `utime` + `stime` of a `/proc/PID/stat` line. The name in parentheses may hold spaces and parentheses itself.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The time on a processor of a `schedstat` line, in nanoseconds.
fn on_cpu(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Memory of a process at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident (`VmRSS`).
    pub rss: u64,
    /// The most that was ever resident (`VmHWM`).
    pub peak: u64,
    /// Proportional share (`Pss`): pages that other processes use too count in part. 0 where it is not told.
    pub pss: u64,
}

impl Memory {
    /// That of the process `pid` now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        Ok(Self {
            rss: kilobytes(&status, "VmRSS:").context("/proc/PID/status has no VmRSS")?,
            peak: kilobytes(&status, "VmHWM:").unwrap_or(0),
            pss: kilobytes(&rollup, "Pss:").unwrap_or(0),
        })
    }
}

/// The value of a line such as `VmRSS:    1234 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The soft and hard limits of open files of this process; `None` means unlimited or unknown.
pub fn open_file_limits() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    parse_limits(&text)
}

fn parse_limits(text: &str) -> (Option<u64>, Option<u64>) {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut values = line.unwrap_or_default().split_ascii_whitespace().map(|value| value.parse().ok());
    (values.next().flatten(), values.next().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000 200";
        assert_eq!(ticks(&format!("42 (relay) {rest}")), Some(300));
        assert_eq!(ticks(&format!("42 (a) b (c)) {rest}")), Some(300));
        assert_eq!(ticks("42 (relay) S 1"), None);
        assert_eq!(parent(&format!("42 (a) b (c)) {rest}")), Some(1));
        assert_eq!(on_cpu("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(on_cpu(""), None);
    }

    #[test]
    fn a_family_has_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (own, theirs) = (std::process::id(), child.id());
        let (family, parent) = (family(own), parent_of(theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.starts_with(&[own]) && family.contains(&theirs), "{family:?}");
        assert_eq!(parent, Some(own));
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1024 * 1024));
        assert_eq!(kilobytes(status, "VmHWM:"), Some(2048 * 1024));
        assert_eq!(kilobytes("Pss_Dirty: 1 kB\nPss:  7 kB\n", "Pss:"), Some(7 * 1024));
        assert_eq!(kilobytes(status, "Pss:"), None);
    }

    #[test]
    fn limits_are_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 20000                files\n";
        assert_eq!(parse_limits(text), (Some(1024), Some(20_000)));
        assert_eq!(parse_limits("Max open files  1024  unlimited  files"), (Some(1024), None));
        assert_eq!(parse_limits(""), (None, None));
    }

    #[test]
    fn work_shows_as_time() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed().as_millis() < 60 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let after = Cpu::of(pid).unwrap();
        // Other tests' threads come and go; either way of counting has to see some of the work.
        assert!(after.since(&before) > 1_000_000, "{before:?} {after:?}");
        let memory = Memory::of(pid).unwrap();
        assert!(memory.rss > 100_000 && memory.peak >= memory.rss / 2);
    }

    #[test]
    fn an_ended_thread_falls_back_to_ticks() {
        let threads = |ids: &[u32]| ids.iter().copied().collect();
        let then = Cpu { ticks_nanos: 10, exact_nanos: Some(15), threads: threads(&[1, 2]) };
        let more = Cpu { ticks_nanos: 30, exact_nanos: Some(37), threads: threads(&[1, 2, 3]) };
        let fewer = Cpu { ticks_nanos: 30, exact_nanos: Some(17), threads: threads(&[1]) };
        assert_eq!(more.since(&then), 22);
        assert_eq!(fewer.since(&then), 20);
    }
}
