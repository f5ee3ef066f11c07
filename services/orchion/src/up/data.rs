//! What `orchion up` keeps, in one folder:
//!
//! ```text
//! up.lock             held while it runs
//! nats/               configuration, passwords (mode 0600), nats-server.pid
//! nats/store/         streams and buckets
//! node-agent/         identity of the first node; node-agent-2, … of the others
//! log-sink/           stored logs
//! logs/               what the services and nats-server write
//! gateway-token       made when the gateway is opened to the network (mode 0600)
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orchion_service::config;
use uuid::Uuid;

use crate::exit::{Failure, Kind, Result};

/// How long a leftover server may take to end.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);

/// The folder, held by this process.
pub(super) struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the folder for this process alone.
    pub(super) fn open() -> Result<Self> {
        let root = config::data_dir();
        let failed = |error: std::io::Error| {
            Failure::new(
                Kind::Usage,
                format!("cannot use the data directory {}: {error}", root.display()),
            )
            .then("give it to this user, or name another in ORCHION_DATA_DIR")
        };
        if root.exists() && !root.is_dir() {
            let text = format!("{} is a file, not a folder", root.display());
            return Err(Failure::new(Kind::Usage, text)
                .then("name a folder for the data in ORCHION_DATA_DIR"));
        }
        fs::create_dir_all(&root).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(root.join("up.lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&root, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).map_err(failed)?;
        write!(lock, "{}", std::process::id()).map_err(failed)?;
        let root = fs::canonicalize(&root).map_err(failed)?;
        for folder in ["nats/store", "logs"] {
            fs::create_dir_all(root.join(folder)).map_err(failed)?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The server's configuration.
    pub(super) fn nats(&self) -> PathBuf {
        self.root.join("nats")
    }

    /// The server's streams and buckets.
    pub(super) fn nats_store(&self) -> PathBuf {
        self.root.join("nats/store")
    }

    /// What the server writes.
    pub(super) fn nats_log(&self) -> PathBuf {
        self.root.join("logs/nats-server.log")
    }

    /// What the services write.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("logs/orchion.log")
    }

    /// Remembers the server, to find it again after a crash.
    pub(super) fn remember_server(&self, pid: u32) -> std::io::Result<()> {
        fs::write(self.pid_file(), pid.to_string())
    }

    /// Forgets the server: it has ended.
    pub(super) fn forget_server(&self) {
        // A file that is not there is as good.
        let _ = fs::remove_file(self.pid_file());
    }

    fn pid_file(&self) -> PathBuf {
        self.nats().join("nats-server.pid")
    }

    /// Ends a server that a killed run left behind: it holds the store.
    pub(super) fn clear_leftover(&self) -> Result<()> {
        let noted = fs::read_to_string(self.pid_file()).ok();
        let Some(pid) = noted.and_then(|text| text.trim().parse::<i32>().ok()) else {
            return Ok(());
        };
        if process::is_server_of(pid, &self.nats()) {
            process::terminate(pid);
            let end = Instant::now() + LEFTOVER_GRACE;
            while process::is_server_of(pid, &self.nats()) {
                if Instant::now() > end {
                    process::kill(pid);
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.forget_server();
        Ok(())
    }

    /// The token of a gateway that is open to the network, made once.
    pub(super) fn gateway_token(&self) -> Result<String> {
        if let Some(token) = gateway_token() {
            return Ok(token);
        }
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let path = token_file(&self.root);
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path)?.write_all(token.as_bytes())?;
        Ok(token)
    }
}

/// The folder of the agent with this number, counted from 1.
pub(super) fn agent_folder(root: &Path, number: u32) -> PathBuf {
    match number {
        1 => root.join("node-agent"),
        number => root.join(format!("node-agent-{number}")),
    }
}

/// The token that this machine's gateway was opened with, when this user may
/// read it.
pub(crate) fn gateway_token() -> Option<String> {
    let text = fs::read_to_string(token_file(&config::data_dir())).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

fn token_file(root: &Path) -> PathBuf {
    root.join("gateway-token")
}

fn held(root: &Path, lock: &mut File) -> Failure {
    let mut pid = String::new();
    // Who holds it is a courtesy.
    let _ = lock.read_to_string(&mut pid);
    Failure::new(
        Kind::Unavailable,
        format!(
            "another `orchion up` (process {pid}) uses the data directory {}",
            root.display()
        ),
    )
    .then("use that one, stop it, or name another folder in ORCHION_DATA_DIR")
}

/// Processes of a former run.
#[cfg(unix)]
mod process {
    use std::path::Path;
    use std::process::Command;

    use nix::sys::signal::{self, Signal};
    use nix::unistd::Pid;

    /// Whether `pid` is a server that was started with the configuration in `folder`.
    pub(super) fn is_server_of(pid: i32, folder: &Path) -> bool {
        let command = command_of(pid).unwrap_or_default();
        command.contains(&*folder.to_string_lossy()) && command.contains("--store_dir")
    }

    pub(super) fn terminate(pid: i32) {
        // It may have ended by itself.
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
    }

    pub(super) fn kill(pid: i32) {
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    fn command_of(pid: i32) -> Option<String> {
        if let Ok(raw) = std::fs::read(format!("/proc/{pid}/cmdline")) {
            return Some(String::from_utf8_lossy(&raw).replace('\0', " "));
        }
        let arguments = ["-p", &pid.to_string(), "-o", "command="];
        let output = Command::new("ps").args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(not(unix))]
mod process {
    use std::path::Path;

    /// Children end with their parent here, as far as is known.
    pub(super) fn is_server_of(_pid: i32, _folder: &Path) -> bool {
        false
    }

    pub(super) fn terminate(_pid: i32) {}

    pub(super) fn kill(_pid: i32) {}
}
