//! Facts about this machine: its cache folder and its Python.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use orchion_nats_server::Search;

use crate::shell;

/// The folder that outlives builds: `ORCHION_CACHE`, else the user's cache folder.
///
/// # Errors
/// When nothing says where it is.
pub(crate) fn cache_folder() -> anyhow::Result<PathBuf> {
    Search::from_environment()
        .cache
        .context("no cache folder is known; set ORCHION_CACHE or HOME")
}

/// The first Python 3 on PATH, by name.
pub(crate) fn python() -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| {
        shell::first_line(name, &["-c", "import sys; print(sys.version_info[0])"]).as_deref()
            == Some("3")
    })
}

/// `python -m pip`, ready for more arguments.
///
/// # Errors
/// When there is no Python, or none with pip.
pub(crate) fn pip() -> anyhow::Result<Command> {
    let python = python().context("there is no Python 3 on PATH; install python3 with pip")?;
    shell::first_line(python, &["-m", "pip", "--version"]).with_context(|| {
        format!("{python} has no pip; install it (Debian: apt-get install python3-pip)")
    })?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--disable-pip-version-check", "--quiet"]);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    Ok(pip)
}
