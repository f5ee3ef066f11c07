//! Where a `nats-server` may be: named by `ORCHION_NATS_SERVER`, on `PATH`, or
//! in Orchion's cache folder from an earlier fetch.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::{Error, OLDEST, VERSION};

/// The places to look in, taken from the environment once.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// `ORCHION_NATS_SERVER`: a binary that is used or reported, never passed over.
    pub explicit: Option<PathBuf>,
    /// `PATH`: the first server on it that is new enough.
    pub path: OsString,
    /// Orchion's cache folder; `None` when neither the variables nor a home say where it is.
    pub cache: Option<PathBuf>,
}

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The binary.
    pub path: PathBuf,
    /// What it calls itself, such as `2.15.1`.
    pub version: String,
    /// Where it was found.
    pub source: Source,
}

/// Where a server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Named by `ORCHION_NATS_SERVER`.
    Explicit,
    /// Installed on this machine.
    Path,
    /// Fetched by Orchion earlier.
    Cache,
}

impl Search {
    /// Reads `ORCHION_NATS_SERVER`, `PATH`, and the cache folder (`ORCHION_CACHE`,
    /// else `$XDG_CACHE_HOME/orchion`, else `~/.cache/orchion`).
    #[must_use]
    pub fn from_environment() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || {
            set("HOME")
                .or_else(|| set("USERPROFILE"))
                .map(PathBuf::from)
        };
        let cache = set("ORCHION_CACHE").map(PathBuf::from).or_else(|| {
            set("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| home().map(|home| home.join(".cache")))
                .map(|cache| cache.join("orchion"))
        });
        Self {
            explicit: set("ORCHION_NATS_SERVER").map(PathBuf::from),
            path: set("PATH").unwrap_or_default(),
            cache,
        }
    }

    /// Finds a server without fetching one.
    ///
    /// # Errors
    /// [`Error::NotAServer`] and [`Error::TooOld`] for the one that was named,
    /// [`Error::Damaged`] for a cached copy that fails its checksum. Unusable
    /// ones on `PATH` are passed over.
    pub fn locate(&self) -> Result<Option<Found>, Error> {
        if let Some(path) = &self.explicit {
            return explicit(path).map(Some);
        }
        if let Some(found) = self.on_path() {
            return Ok(Some(found));
        }
        self.cached()
    }

    /// The folder that holds the fetched release.
    pub(crate) fn cache_folder(&self) -> Result<PathBuf, Error> {
        let cache = self.cache.as_ref().ok_or(Error::NoCacheFolder)?;
        Ok(cache.join("nats-server").join(VERSION))
    }

    /// The fetched release, if it is there and whole.
    pub(crate) fn cached(&self) -> Result<Option<Found>, Error> {
        let Ok(folder) = self.cache_folder() else {
            return Ok(None);
        };
        let path = binary(&folder);
        if !path.is_file() {
            return Ok(None);
        }
        let kept = fs::read_to_string(checksum_file(&path)).unwrap_or_default();
        if kept.trim() != checksum(&path)? {
            return Err(Error::Damaged { path });
        }
        Ok(Some(Found {
            path,
            version: VERSION.to_owned(),
            source: Source::Cache,
        }))
    }

    /// The first file of that name on `PATH`.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(&file))
            .find(|path| path.is_file())
    }

    fn on_path(&self) -> Option<Found> {
        std::env::split_paths(&self.path)
            .map(|folder| binary(&folder))
            .find_map(|path| {
                let version = path
                    .is_file()
                    .then(|| version(&path).ok().flatten())
                    .flatten()?;
                is_new_enough(&version).then_some(Found {
                    path,
                    version,
                    source: Source::Path,
                })
            })
    }
}

/// The binary inside `folder`.
pub(crate) fn binary(folder: &Path) -> PathBuf {
    folder.join(format!("nats-server{}", std::env::consts::EXE_SUFFIX))
}

/// The file that keeps the checksum of `binary`.
pub(crate) fn checksum_file(binary: &Path) -> PathBuf {
    binary.with_extension("sha256")
}

/// SHA-256 of a file in lower-case hex.
pub(crate) fn checksum(path: &Path) -> Result<String, Error> {
    let content = fs::read(path).map_err(Error::file("read", path))?;
    Ok(Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// What the server calls itself; `None` when the answer is no nats-server's.
pub(crate) fn version(path: &Path) -> io::Result<Option<String>> {
    let output = Command::new(path).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .trim()
        .strip_prefix("nats-server: v")
        .map(str::to_owned))
}

fn explicit(path: &Path) -> Result<Found, Error> {
    let refused = |source| Error::NotAServer {
        path: path.to_path_buf(),
        source,
    };
    let version = version(path)
        .map_err(|error| refused(Some(error)))?
        .ok_or_else(|| refused(None))?;
    if !is_new_enough(&version) {
        return Err(Error::TooOld {
            path: path.to_path_buf(),
            version,
        });
    }
    Ok(Found {
        path: path.to_path_buf(),
        version,
        source: Source::Explicit,
    })
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    release >= OLDEST
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_named_server_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = fake(folder.path(), "2.12.0");
        let search = Search {
            explicit: Some(path.clone()),
            ..Search::default()
        };

        let found = search.locate().unwrap().unwrap();

        assert_eq!(
            found,
            Found {
                path,
                version: "2.12.0".to_owned(),
                source: Source::Explicit
            }
        );
    }

    #[test]
    fn a_named_server_that_is_too_old_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let search = Search {
            explicit: Some(fake(folder.path(), "2.9.25")),
            ..Search::default()
        };

        assert!(matches!(search.locate(), Err(Error::TooOld { .. })));
    }

    #[test]
    fn a_named_server_that_is_absent_is_refused() {
        let search = Search {
            explicit: Some("/nonexistent/server".into()),
            ..Search::default()
        };

        let error = search.locate().unwrap_err();

        assert!(matches!(
            &error,
            Error::NotAServer {
                source: Some(_),
                ..
            }
        ));
        assert!(error.to_string().contains("ORCHION_NATS_SERVER"));
    }

    #[test]
    fn an_old_server_on_the_path_is_passed_over() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake(old.path(), "2.10.3");
        let path = fake(new.path(), "2.14.0");
        let search = Search {
            path: std::env::join_paths([old.path(), new.path()]).unwrap(),
            ..Search::default()
        };

        let found = search.locate().unwrap().unwrap();

        assert_eq!((found.path, found.source), (path, Source::Path));
    }

    #[test]
    fn a_cached_server_is_used_only_while_it_is_whole() {
        let cache = tempfile::tempdir().unwrap();
        let search = Search {
            cache: Some(cache.path().to_path_buf()),
            ..Search::default()
        };
        assert_eq!(search.locate().unwrap(), None);

        let folder = search.cache_folder().unwrap();
        fs::create_dir_all(&folder).unwrap();
        let path = fake(&folder, VERSION);
        fs::write(checksum_file(&path), checksum(&path).unwrap()).unwrap();
        assert_eq!(search.locate().unwrap().unwrap().source, Source::Cache);

        fs::write(&path, "something else").unwrap();
        assert!(matches!(search.locate(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(Search::default().locate().unwrap(), None);
    }

    fn fake(folder: &Path, version: &str) -> PathBuf {
        let path = binary(folder);
        fs::write(
            &path,
            format!("#!/bin/sh\necho 'nats-server: v{version}'\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}
