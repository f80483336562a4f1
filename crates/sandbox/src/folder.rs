//! Folders for the servers' data, which do not stay behind.
//!
//! All folders of a process lie in one, which the process holds locked. What a killed process left is found by its
//! lock that nobody holds: whatever still runs in it is ended, and it is removed.
//!
//! Data lie in memory where there is room: a busy disk makes a new database take a minute.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// What the folders of processes are called, before something that is different for each.
const PREFIX: &str = "heliograph-sandbox-";
/// The locked file in each.
const LOCK: &str = "in-use";
/// Where Linux has files in memory, and how many bytes must be free there: containers often have 64 MiB.
const MEMORY: &str = "/dev/shm";
const ROOM: u64 = 4 * 1024 * 1024 * 1024;
/// The user and the group `nobody`: Postgres refuses to run as root.
pub(crate) const NOBODY: u32 = 65_534;

/// A folder of one's own; removed when dropped.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    _home: Arc<Home>,
}

impl Folder {
    /// An empty folder for data, in memory if there is much of it and `TMPDIR` does not say otherwise. `name` tells
    /// a person what it is for.
    pub fn new(name: &str) -> Result<Self> {
        static HOME: Known = Known::new(Weak::new());
        let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
        let in_memory = has_room(Path::new(MEMORY)).then(|| MEMORY.into());
        Self::within(&HOME, &chosen.or(in_memory).unwrap_or_else(std::env::temp_dir), name)
    }

    /// An empty folder for what may grow large, such as logs.
    pub fn on_disk(name: &str) -> Result<Self> {
        static HOME: Known = Known::new(Weak::new());
        Self::within(&HOME, &std::env::temp_dir(), name)
    }

    fn within(home: &Known, parent: &Path, name: &str) -> Result<Self> {
        let home = known_or_new(home, parent).context("cannot make a temporary folder")?;
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&home.folder);
        Ok(Self { folder: folder.context("cannot make a temporary folder")?, _home: home })
    }

    /// Hands it to the user as which unprivileged programs run.
    pub(crate) fn give_away(&self) -> Result<()> {
        if is_root() {
            chown(self.path(), Some(NOBODY), Some(NOBODY)).context("cannot change the owner of a folder")?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The folder of this process; goes with the last folder in it.
#[derive(Debug)]
struct Home {
    folder: TempDir,
    _lock: File,
}

/// The folder of this process in one place, while there is any in it.
type Known = Mutex<Weak<Home>>;

fn known_or_new(known: &Known, parent: &Path) -> Result<Arc<Home>> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(home) = known.upgrade() {
        return Ok(home);
    }
    remove_what_was_left(parent);
    let home = Arc::new(make_home(parent)?);
    *known = Arc::downgrade(&home);
    Ok(home)
}

fn has_room(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|there| there.f_bavail.saturating_mul(there.f_frsize) >= ROOM)
}

fn make_home(parent: &Path) -> Result<Home> {
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
    if is_root() {
        // The unprivileged user goes through it to its own.
        chown(folder.path(), None, Some(NOBODY))?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o710))?;
    }
    // Under its name it is locked from the start: nobody may take it for one that was left.
    let unnamed = folder.path().join("not-yet");
    let lock = File::create(&unnamed)?;
    lock.try_lock()?;
    fs::rename(unnamed, folder.path().join(LOCK))?;
    Ok(Home { folder, _lock: lock })
}

/// Ends and removes what processes left that did not end by themselves. Another may be at the same work: what is
/// gone already is no error, and what cannot be removed is left for the next.
fn remove_what_was_left(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _left = remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(home: &Path) -> Result<()> {
    let lock = File::open(home.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    end_processes_in(home)?;
    fs::remove_dir_all(home)?;
    Ok(())
}

/// A server that was paused when its parent died could not follow; it works in its folder, by which it is known.
fn end_processes_in(home: &Path) -> Result<()> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let works_here =
            || fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder.starts_with(home));
        if let Some(pid) = pid
            && works_here()
        {
            // It may have ended by now.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A folder like the one of a process that was killed, with a program that still runs in it.
    fn left(parent: &Path) -> (std::path::PathBuf, File, Child) {
        let home = parent.join(format!("{PREFIX}left"));
        fs::create_dir_all(home.join("data")).unwrap();
        let lock = File::create(home.join(LOCK)).unwrap();
        let program = Command::new("sleep").arg("1000").current_dir(home.join("data")).spawn().unwrap();
        (home, lock, program)
    }

    #[test]
    fn what_a_killed_process_left_is_ended_and_removed() {
        let parent = TempDir::new().unwrap();
        let (home, _nobody_locks_it, mut program) = left(parent.path());
        remove_what_was_left(parent.path());
        assert!(!home.exists());
        assert!(!program.wait().unwrap().success());
    }

    #[test]
    fn what_is_in_use_stays() {
        let parent = TempDir::new().unwrap();
        let (home, lock, mut program) = left(parent.path());
        lock.try_lock().unwrap();
        remove_what_was_left(parent.path());
        assert!(home.exists());
        assert!(program.try_wait().unwrap().is_none());
        program.kill().unwrap();
        program.wait().unwrap();
    }

    #[test]
    fn the_folder_of_this_process_goes_with_the_last_one_in_it() {
        let (one, other) = (Folder::new("one").unwrap(), Folder::new("other").unwrap());
        let home = one.path().parent().unwrap().to_owned();
        assert_eq!(other.path().parent(), Some(&*home));
        drop(one);
        assert!(home.exists());
        drop(other);
        assert!(!home.exists());
    }
}
