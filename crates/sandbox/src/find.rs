//! Finding programs on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The program of this name in one of the search path's folders. The error says which Debian package to install.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    program_or_in(name, &[], package)
}

fn program_or_in(name: &str, besides: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Not every user's search path has the folders of servers.
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .chain(besides.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is missing: apt-get install {package}, or put it into PATH"))
}

/// The folder of a set of programs: chosen by the variable, or the one that holds `main`'s real file.
pub(crate) fn folder_of(main: &str, variable: &str, besides: &[PathBuf], package: &str) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os(variable) {
        let chosen = PathBuf::from(chosen);
        let file = chosen.join(main);
        return file
            .is_file()
            .then_some(chosen)
            .with_context(|| format!("{variable}: no {}", file.display()));
    }
    // Debian links some of the programs into the search path, and not all of them.
    let found =
        program_or_in(main, besides, package).with_context(|| format!("or set {variable} to its folder"))?;
    let real = found.canonicalize().with_context(|| found.display().to_string())?;
    real.parent().map(Path::to_owned).context("a program lies in a folder")
}
