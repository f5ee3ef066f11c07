//! The server's configuration: the files of `nats/`, carried inside the binary
//! and laid down where the server starts.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::{Error, Passwords};

const SETTINGS: &str = include_str!("../../../nats/settings.conf");
const PERMISSIONS: &str = include_str!("../../../nats/permissions.conf");
const LOOPBACK: &str = include_str!("../../../nats/loopback.conf");
const NETWORK: &str = include_str!("../../../nats/network.conf");

/// Who may connect.
#[derive(Clone, Debug)]
pub enum Access {
    /// Every program on this machine; the server must listen on loopback only.
    Loopback,
    /// Only who knows the password of a role.
    Network(Passwords),
}

/// Writes the configuration into `folder`; returns the file to start with.
///
/// # Errors
/// [`Error::File`].
pub fn install(folder: &Path, access: &Access) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    write(folder, "settings.conf", SETTINGS)?;
    write(folder, "permissions.conf", PERMISSIONS)?;
    match access {
        Access::Loopback => write(folder, "loopback.conf", LOOPBACK),
        Access::Network(passwords) => {
            passwords.save(folder)?;
            write(folder, "network.conf", NETWORK)
        }
    }
}

/// The command line of a server with the configuration `config`, listening on
/// `listen` and storing under `store`.
#[must_use]
pub fn arguments(config: &Path, listen: SocketAddr, store: &Path) -> Vec<OsString> {
    // The server takes -1, not 0, for "any free port".
    let port = if listen.port() == 0 {
        "-1".to_owned()
    } else {
        listen.port().to_string()
    };
    vec![
        "--config".into(),
        config.into(),
        "--addr".into(),
        listen.ip().to_string().into(),
        "--port".into(),
        port.into(),
        "--store_dir".into(),
        store.into(),
    ]
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(Error::file("write", &path))?;
    Ok(path)
}
