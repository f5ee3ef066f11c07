//! `cargo xtask dist`: the programs as they are shipped, linked as a whole and laid
//! out by a profile of what they do under load.
//!
//! They are built twice: first so that they count what they run, then, after the
//! bench has been at them, by these counts. A profile is good for the sources it was
//! learnt from, and is learnt anew when they have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::llvm::{self, Llvm};
use crate::workspace::{self, Metadata, cargo};
use crate::{measure, shell};

/// The services of a cluster, each a program in a package of its name. The bench
/// starts them, and a profile is learnt from them.
pub(crate) const SERVICES: [&str; 5] = [
    "orchion-registry",
    "orchion-scheduler",
    "orchion-gateway",
    "orchion-log-sink",
    "orchion-node-agent",
];
/// Not even the C library is taken from the system.
pub(crate) const STATIC: &str = "-C target-feature=+crt-static";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Link the C library in and lay the programs into out/bin, for images
    #[arg(long)]
    images: bool,
}

/// Where the C library comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linking {
    /// From the system.
    Dynamic,
    /// From the program itself.
    Static,
}

/// Builds, and says where the programs lie.
///
/// # Errors
/// When a build fails, or the profile cannot be learnt.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.images {
        lay_out(&build(Linking::Static)?)?;
        shell::say("out/bin: `ORCHION_BINARIES=prebuilt docker compose build` takes it from there");
    } else {
        shell::say(&build(Linking::Dynamic)?.display().to_string());
    }
    Ok(())
}

/// Builds the programs; returns the folder where they lie.
pub(crate) fn build(linking: Linking) -> anyhow::Result<PathBuf> {
    let builder = Builder::new()?;
    let profile = builder.profile()?;
    let by_profile = format!("-C profile-use={}", profile.display());
    let flags = match linking {
        Linking::Dynamic => by_profile,
        Linking::Static => format!("{by_profile} {STATIC}"),
    };
    builder.cargo(&flags, programs())?;
    Ok(builder.programs())
}

/// The programs that are shipped.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain(["orchion", "orchion-engine"])
}

/// Copies the programs to where images take them from, `out/bin`.
///
/// # Errors
/// When one is missing or cannot be written.
pub(crate) fn lay_out(built: &Path) -> anyhow::Result<()> {
    let out = workspace::root().join("out").join("bin");
    fs::create_dir_all(out.join("empty")).context("create out/bin")?;
    for program in programs() {
        place(&built.join(program), &out.join(program))?;
    }
    Ok(())
}

fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

struct Builder {
    metadata: Metadata,
    /// What rustc calls this machine. Naming it keeps the flags away from build
    /// scripts and macros.
    host: String,
    /// Everything lies in here: other flags would build anew what others have built.
    folder: PathBuf,
}

impl Builder {
    fn new() -> anyhow::Result<Self> {
        let metadata = Metadata::load()?;
        Ok(Self {
            folder: metadata.target().join("profiled"),
            metadata,
            host: llvm::host().context("ask rustc for its host")?,
        })
    }

    fn programs(&self) -> PathBuf {
        self.folder.join(&self.host).join("dist")
    }

    /// The packages are always the same ones: others would be another choice of
    /// features, and functions of other names.
    fn cargo<'a>(&self, flags: &str, wanted: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        let mut build = cargo();
        build.args(["build", "--locked", "--profile", "dist"]);
        build.args(["--target", &self.host, "--target-dir"]);
        build.arg(&self.folder).env("RUSTFLAGS", flags);
        build.args(programs().flat_map(|name| ["--package", name]));
        build.args(wanted.flat_map(|name| ["--bin", name]));
        shell::run(&mut build)
    }

    /// The profile of these sources, learnt if there is none.
    fn profile(&self) -> anyhow::Result<PathBuf> {
        let profile = self.folder.join(format!("{}.profdata", self.sources()?));
        if !profile.is_file() {
            self.learn(&profile)?;
        }
        Ok(profile)
    }

    fn learn(&self, profile: &Path) -> anyhow::Result<()> {
        let llvm = Llvm::find_or_install()?;
        let tools = measure::build()?;
        self.forget()?;
        fs::create_dir_all(&self.folder)?;
        let work = tempfile::tempdir_in(&self.folder)?;
        let counts = work.path().join("counts");
        self.cargo(
            &format!("-C profile-generate={}", counts.display()),
            SERVICES.into_iter(),
        )?;
        shell::complain("Learning what runs under load, two minutes of the bench");
        let mut bench = measure::bench_of(&tools, &self.programs(), work.path());
        shell::capture(bench.arg("--short"))?;
        let merged = work.path().join("merged");
        llvm.merge(&counts, &merged)?;
        // What counts is not shipped, and nobody else can use what was built for it.
        self.forget()?;
        fs::rename(&merged, profile).with_context(|| format!("write {}", profile.display()))
    }

    /// Removes what older sources left.
    fn forget(&self) -> anyhow::Result<()> {
        let built = self.folder.join(&self.host);
        if built.exists() {
            fs::remove_dir_all(&built).with_context(|| format!("remove {}", built.display()))?;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "profdata") {
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// What stands for everything that the programs are built from.
    fn sources(&self) -> anyhow::Result<String> {
        let folders = self.folders();
        let mut hash = Sha256::new();
        hash.update(shell::capture(Command::new("rustc").arg("-vV"))?);
        let mut files = workspace::files()?;
        files.sort();
        for file in files {
            let is_source = folders.iter().any(|folder| file.starts_with(folder));
            if is_source || file == Path::new("Cargo.lock") || file == Path::new("Cargo.toml") {
                hash.update(file.as_os_str().as_encoded_bytes());
                hash.update(fs::read(self.metadata.root().join(&file))?);
            }
        }
        let hash = hash.finalize();
        Ok(hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    /// The sources of the programs and of all packages they are built from.
    fn folders(&self) -> Vec<PathBuf> {
        let edges = self.metadata.edges();
        let mut names: Vec<_> = programs().map(str::to_owned).collect();
        let mut next = 0;
        while let Some(name) = names.get(next) {
            let new = edges.get(name).into_iter().flatten();
            let new: Vec<_> = new.filter(|it| !names.contains(it)).cloned().collect();
            names.extend(new);
            next += 1;
        }
        let root = self.metadata.root();
        let members = self.metadata.members();
        let used = members.filter(|package| names.contains(&package.name));
        used.map(|package| package.folder(root).join("src"))
            .collect()
    }
}
