//! One agent per engine: two that share one would each believe in all its slots.
//!
//! A claim is a locked file in a directory that the agents of one user share;
//! the system gives it back when the agent ends, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::PathBuf;

use orchion_service::config;

use super::http::Target;

/// A held claim; dropping it gives it back.
#[derive(Debug)]
pub struct Claim {
    _file: Option<File>,
}

/// Another agent of this host serves the engine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("another agent of this host serves the engine at {0}")]
pub struct Taken(String);

impl Claim {
    /// Claims the engine at `target`. Where no file can be locked at all, the
    /// claim is given: better two agents at one engine than none.
    ///
    /// # Errors
    /// [`Taken`] when another agent has it.
    pub fn of(target: &Target) -> Result<Self, Taken> {
        let file = match open(target) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!("engines cannot be claimed on this host: {error}");
                return Ok(Self { _file: None });
            }
        };
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Taken(target.authority())),
            Err(TryLockError::Error(error)) => {
                tracing::debug!("engines cannot be claimed on this host: {error}");
                Ok(Self { _file: None })
            }
        }
    }
}

fn open(target: &Target) -> std::io::Result<File> {
    let dir = dir();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&dir)?;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    // However the loopback is written, it is the same engine.
    let host = match target.is_loopback() {
        true => "loopback".to_owned(),
        false => target.host().chars().map(plain).collect(),
    };
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(format!("{host}-{}.lock", target.port())))
}

/// Where the agents of this user meet.
fn dir() -> PathBuf {
    if let Some(runtime) = config::variable("XDG_RUNTIME_DIR") {
        return PathBuf::from(runtime).join("orchion").join("engines");
    }
    #[cfg(unix)]
    let user = nix::unistd::getuid().to_string();
    #[cfg(not(unix))]
    let user = config::variable("USERNAME").unwrap_or_default();
    std::env::temp_dir()
        .join(format!("orchion-{user}"))
        .join("engines")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_one_agent_however_it_is_written() {
        // Nothing listens there; the port only names the lock.
        let at = |host: &str| Target::parse(&format!("http://{host}:1")).unwrap();
        let held = Claim::of(&at("127.0.0.1")).unwrap();
        assert!(Claim::of(&at("localhost")).is_err());
        assert!(Claim::of(&at("example")).is_ok());
        drop(held);
        assert!(Claim::of(&at("localhost")).is_ok());
    }
}
