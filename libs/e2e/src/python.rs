//! The unmodified `openai` package, installed once into a folder of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::llama::cache_folder;

const VERSION: &str = "3.54.0";

/// The interpreter of a virtual environment that has the package.
///
/// # Errors
///
/// Why there is none: no Python, or pip reaches no index.
///
/// # Panics
///
/// When the cache folder cannot be used.
pub fn python_with_openai() -> Result<PathBuf, String> {
    let folder = cache_folder()
        .join("python")
        .join(format!("openai-{VERSION}"));
    fs::create_dir_all(&folder).expect("create the cache folder");
    let lock = File::create(folder.join("lock")).expect("create a lock");
    lock.lock().expect("wait for whoever installs it now");
    let venv = folder.join("venv");
    let python = venv.join("bin").join("python");
    let done = folder.join("installed");
    if done.is_file() && has_package(&python) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    succeed(make.args(["-m", "venv", "--clear"]).arg(&venv))?;
    let package = format!("openai=={VERSION}");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--retries", "1"]);
    succeed(pip.args(["--disable-pip-version-check", &package]))?;
    File::create(&done).expect("note that it is installed");
    Ok(python)
}

/// A venv breaks when the interpreter below it goes away.
fn has_package(python: &Path) -> bool {
    succeed(Command::new(python).args(["-c", "import openai"])).is_ok()
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("no reason given").to_owned())
}
