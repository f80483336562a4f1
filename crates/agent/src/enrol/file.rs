//! Files that are for one user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use heliograph_auth::secret::Secret;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Nobody but the user reads or writes it.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Secret>> {
    match File::open(path) {
        Ok(file) => read_text(&file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of an open file, from where it stands.
pub(super) fn read_text(file: &File) -> io::Result<Secret> {
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(Secret::new(text))
}

/// Puts a new file in the place of `path`, with its folder if that is missing.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = make_folder(path)?;
    let new = beside(path, ".new");
    // Left by a process that was killed. A link that somebody put there would go as well.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(&folder)
}

/// Opens a file for reading and writing, and makes it and its folder if they are missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let folder = make_folder(path)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(path)?;
    sync_folder(&folder)?;
    Ok(file)
}

fn make_folder(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&folder)?;
    Ok(folder)
}

/// A name is on the disk when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// `path` with something after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
