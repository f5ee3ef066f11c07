//! llvm-cov and llvm-profdata of the LLVM that rustc is built on: from rustup,
//! from the system, else from Debian's packages, unpacked into the cache folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{machine, shell};

/// The two tools.
pub(crate) struct Llvm {
    /// Where the programs lie.
    programs: PathBuf,
    /// Where their libraries lie, when the system does not know them.
    libraries: Vec<PathBuf>,
}

impl Llvm {
    /// The tools; if they are nowhere, Debian's are unpacked into the cache folder,
    /// and where there are none, rustup is asked.
    ///
    /// # Errors
    /// When there are none for this rustc, and none can be fetched.
    pub(crate) fn find_or_install() -> anyhow::Result<Self> {
        let version = version()?;
        if let Some(found) = Self::find(&version) {
            return Ok(found);
        }
        let installed = Self::install(&version).or_else(|error| {
            let mut rustup = Command::new("rustup");
            let added = shell::capture(rustup.args(["component", "add", "llvm-tools"])).ok();
            added.and_then(|_| Self::find(&version)).ok_or(error)
        });
        installed.with_context(|| {
            format!(
                "there is no llvm-cov of LLVM {version} (`rustup component add llvm-tools`, or a package llvm-{version})"
            )
        })
    }

    fn find(version: &str) -> Option<Self> {
        let sysroot = shell::first_line("rustc", &["--print", "sysroot"])?;
        let host = host()?;
        let rustup = Path::new(&sysroot)
            .join("lib/rustlib")
            .join(host)
            .join("bin");
        let system = PathBuf::from(format!("/usr/lib/llvm-{version}/bin"));
        [rustup, system]
            .into_iter()
            .map(|programs| Self {
                programs,
                libraries: Vec::new(),
            })
            .chain(folder(version).map(|folder| Self::unpacked(&folder, version)))
            .find(Self::works)
    }

    fn works(&self) -> bool {
        let version = |name| self.tool(name).arg("--version").output();
        ["llvm-cov", "llvm-profdata"]
            .into_iter()
            .all(|name| version(name).is_ok_and(|output| output.status.success()))
    }

    fn unpacked(folder: &Path, version: &str) -> Self {
        let lib = folder.join("usr/lib");
        let entries = fs::read_dir(&lib).into_iter().flatten().flatten();
        let libraries = entries.map(|entry| entry.path());
        Self {
            programs: lib.join(format!("llvm-{version}/bin")),
            libraries: libraries.filter(|path| path.is_dir()).collect(),
        }
    }

    /// Unpacks Debian's packages; nothing else on the machine changes.
    fn install(version: &str) -> anyhow::Result<Self> {
        let folder = folder(version).context("find the tools folder")?;
        let parent = folder.parent().context("find the tools folder")?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let lock = File::create(parent.join("llvm.lock"))?;
        lock.lock()
            .with_context(|| format!("lock {}", parent.display()))?;
        let found = Self::unpacked(&folder, version);
        if found.works() {
            return Ok(found);
        }
        let work = tempfile::tempdir_in(parent)?;
        download(work.path(), version)?;
        let unpacked = work.path().join("unpacked");
        for entry in fs::read_dir(work.path())? {
            let package = entry?.path();
            if package.extension().is_some_and(|it| it == "deb") {
                let mut command = Command::new("dpkg-deb");
                shell::capture(command.arg("--extract").arg(&package).arg(&unpacked))?;
            }
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(&unpacked, &folder).with_context(|| format!("create {}", folder.display()))?;
        let found = Self::unpacked(&folder, version);
        if !found.works() {
            bail!("llvm-cov was unpacked and does not run");
        }
        Ok(found)
    }

    /// What the programs reached, in lcov's form, from the profiles in a folder.
    pub(crate) fn report(&self, profiles: &Path, programs: &[&Path]) -> anyhow::Result<String> {
        let merged = profiles.join("all.profdata");
        self.merge(profiles, &merged)?;
        let mut export = self.tool("llvm-cov");
        export.args(["export", "-format=lcov", "-instr-profile"]);
        export.arg(&merged);
        for program in programs {
            export.arg("-object").arg(program);
        }
        shell::capture(&mut export)
    }

    /// Makes one profile of all that lie in a folder as programs left them.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub(crate) fn merge(&self, profiles: &Path, into: &Path) -> anyhow::Result<()> {
        let mut merge = self.tool("llvm-profdata");
        merge.args(["merge", "-sparse", "-o"]).arg(into);
        for entry in fs::read_dir(profiles)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "profraw") {
                merge.arg(path);
            }
        }
        shell::capture(&mut merge)?;
        Ok(())
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        if let Ok(paths) = std::env::join_paths(&self.libraries)
            && !paths.is_empty()
        {
            command.env("LD_LIBRARY_PATH", paths);
        }
        command
    }
}

fn download(into: &Path, version: &str) -> anyhow::Result<()> {
    let packages = [
        format!("llvm-{version}"),
        format!("libllvm{version}"),
        "libz3-4".to_owned(),
    ];
    let fetch = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "--quiet", "--quiet"]);
        shell::capture(command.args(&packages).current_dir(into))
    };
    if fetch().is_err() {
        // The lists of packages may be missing or old.
        shell::capture(Command::new("apt-get").args(["update", "--quiet", "--quiet"]))?;
        fetch()?;
    }
    Ok(())
}

fn folder(version: &str) -> Option<PathBuf> {
    let cache = machine::cache_folder().ok()?;
    Some(cache.join("tools").join(format!("llvm-{version}")))
}

/// The major version of the LLVM that rustc is built on.
fn version() -> anyhow::Result<String> {
    let version = told_by_rustc("LLVM version: ").context("ask rustc for its LLVM")?;
    let major = version.split('.').next().unwrap_or_default();
    Ok(major.to_owned())
}

/// What rustc calls this machine, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Option<String> {
    told_by_rustc("host: ")
}

fn told_by_rustc(what: &str) -> Option<String> {
    let told = shell::capture(Command::new("rustc").arg("-vV")).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_tells_its_llvm_and_its_host() {
        assert!(version().unwrap().parse::<u32>().is_ok());
        assert!(host().is_some_and(|host| host.contains('-')));
    }
}
