//! The file of the socket: private, and one agent's only.

use std::fs::{DirBuilder, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

/// Bytes of a path that fit into the address of a Unix socket (`sockaddr_un`), with a zero after them.
const MAX_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Another agent that starts in the same folder is done within this many waits.
const LOCK_TRIES: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The system's addresses are short.
    #[error("the path of the socket has {0} bytes, at most {MAX_PATH_BYTES} fit: choose a shorter one")]
    PathTooLong(usize),
    /// Whoever may write into a folder can put another socket there.
    #[error("others may write to the folder {}: run `chmod go-w` on it, or choose another folder", .0.display())]
    OpenFolder(PathBuf),
    /// Neither ours nor root's.
    #[error("the folder {} belongs to another user: choose one of your own", .0.display())]
    ForeignFolder(PathBuf),
    /// Somebody answers there.
    #[error("an agent is running on {} already: use it, end it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// Not removed, since it may be of use to somebody.
    #[error("{} exists and is not a socket: choose another path, or remove it", .0.display())]
    NotASocket(PathBuf),
    /// Somebody holds the folder's lock, which an agent that starts does for a moment.
    #[error("another program keeps the folder {} locked: try again, or choose another folder", .0.display())]
    Locked(PathBuf),
    /// The system said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Bridge {
    listener: UnixListener,
    _file: SocketFile,
}

impl Bridge {
    /// Listens on `path`: mode 0600, in a folder into which only its owner can put things, which is made if it is
    /// missing (0700). What an agent left that was killed is removed, if nobody answers there.
    pub(crate) async fn bind(path: &Path) -> Result<Self, BindError> {
        let length = path.as_os_str().len();
        if length > MAX_PATH_BYTES {
            return Err(BindError::PathTooLong(length));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        make_folder(folder)?;
        // Of two agents that find the same dead socket, the slower one would remove the socket of the other.
        let _lock = lock(folder).await?;
        remove_if_dead(path).await?;
        let listener = UnixListener::bind(path).map_err(|error| failed("listen on", path, error))?;
        let file = SocketFile::of(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| failed("make private", path, error))?;
        Ok(Self { listener, _file: file })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

fn make_folder(folder: &Path) -> Result<(), BindError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed("make the folder", folder, error))?;
    let metadata = std::fs::metadata(folder).map_err(|error| failed("look at the folder", folder, error))?;
    check_folder(folder, metadata.uid(), metadata.mode())
}

/// In a sticky folder such as `/tmp`, others can put files, but cannot replace ours.
pub(super) fn check_folder(folder: &Path, owner: u32, mode: u32) -> Result<(), BindError> {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(BindError::ForeignFolder(folder.to_owned()));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(BindError::OpenFolder(folder.to_owned()));
    }
    Ok(())
}

/// The folder's own lock leaves no file behind, and ends with whoever holds it.
async fn lock(folder: &Path) -> Result<File, BindError> {
    let file = File::open(folder).map_err(|error| failed("open the folder", folder, error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(LOCK_WAIT).await,
            Err(TryLockError::Error(error)) => return Err(failed("lock the folder", folder, error)),
        }
    }
    Err(BindError::Locked(folder.to_owned()))
}

async fn remove_if_dead(path: &Path) -> Result<(), BindError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| failed("remove the dead socket", path, error))
        }
        // Too busy to answer is alive, too.
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(BindError::InUse(path.to_owned())),
        Err(error) => Err(failed("find out who listens on", path, error)),
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::System { doing, path: path.to_owned(), source }
}

/// Removes the file when dropped, if it still is the one that we made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Result<Self, BindError> {
        let metadata = std::fs::symlink_metadata(path).map_err(|error| failed("look at", path, error))?;
        // The process may go elsewhere, and the path may be relative.
        let path = std::path::absolute(path).map_err(|error| failed("find", path, error))?;
        Ok(Self { path, identity: identity(&metadata) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the file of the socket");
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
