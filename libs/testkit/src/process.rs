//! Programs that tests start, signal and clean up after.

mod tree;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::eventually;

pub use tree::{signal_tree, tree};

/// How much of a program's output is shown when a test fails.
const SHOWN: usize = 6_000;

/// A program to start, with its arguments and environment.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    command: Command,
}

impl Program {
    /// One of our own binaries, by name: see [`find_binary`].
    ///
    /// # Panics
    ///
    /// When it has not been built.
    pub fn ours(name: &str) -> Self {
        Self::at(&find_binary(name))
    }

    /// The program at `path`, or found on `PATH` by its bare name.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            command: Command::new(path),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Starts it, with its output captured in files.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(mut self) -> Running {
        let output = TempDir::with_prefix("orchion-output-").expect("create a folder for output");
        let file = |name: &str| File::create(output.path().join(name)).expect("create an output");
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.path.display()));
        Running {
            name: name_of(&self.path),
            child,
            output,
        }
    }
}

/// A started program. Killed on drop with everything that descends from it; when
/// the test is failing, the end of its output is printed first.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    output: TempDir,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Freezes it (SIGSTOP): it keeps its sockets and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`Running::freeze`] (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it with SIGKILL, and not its children, and collects it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // It cannot refuse, so waiting is short.
        let _ = self.child.wait();
    }

    /// Kills it and everything that descends from it with SIGKILL.
    pub fn kill_tree(&mut self) {
        signal_tree(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Sends a signal; a process that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        // An ended child stays a zombie until it is waited for, so the id is
        // still its own, and an error only says that it has ended.
        let _ = kill(pid(self.pid()), signal);
    }

    /// Returns how it ended, if it has.
    ///
    /// # Panics
    ///
    /// When the system refuses to say.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look at a child process")
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// When it has not ended within `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        eventually(&what, deadline, async || self.exit_status()).await
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.output.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn report(&self) -> String {
        let mut report = String::new();
        for (stream, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let _ = writeln!(report, "--- {stream} of {} ---\n{}", self.name, tail(&text));
        }
        report
    }
}

impl Drop for Running {
    #[expect(
        clippy::print_stderr,
        reason = "a failing test shows what its processes said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.kill_tree();
    }
}

/// Finds one of our own binaries: in `ORCHION_BIN_DIR`, else in the folder of
/// build outputs that the running test lies in.
///
/// # Panics
///
/// When it is not there, with the command that builds it.
pub fn find_binary(name: &str) -> PathBuf {
    let folder = match std::env::var_os("ORCHION_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => output_folder(),
    };
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is missing; build it with `cargo build --bin {name}` or run `cargo xtask test`",
        path.display()
    );
    path
}

/// The profile folder: the parent of `deps` and `examples`, where tests lie.
fn output_folder() -> PathBuf {
    let mut folder = std::env::current_exe().expect("find the running program");
    folder.pop();
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.pop();
    }
    folder
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id fits"))
}

/// The end of `text`, from the start of a line.
pub(crate) fn tail(text: &str) -> &str {
    let Some(from) = text.len().checked_sub(SHOWN) else {
        return text;
    };
    let line = text.as_bytes()[from..]
        .iter()
        .position(|byte| *byte == b'\n');
    line.map_or("", |at| &text[from + at + 1..])
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Running {
        Program::at(Path::new("sh")).args(["-c", script]).start()
    }

    fn is_alive(id: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[tokio::test]
    async fn captures_output_and_exit() {
        let mut running = shell("echo out; echo err >&2; exit 3");
        assert_eq!(running.wait(SOON).await.code(), Some(3));
        assert_eq!(running.stdout(), "out\n");
        assert_eq!(running.stderr(), "err\n");
    }

    #[tokio::test]
    async fn terminate_lets_it_clean_up() {
        let mut running = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        eventually("the trap", SOON, async || running.stdout() == "ready\n").await;
        running.terminate();
        assert_eq!(running.wait(SOON).await.code(), Some(7));
    }

    #[tokio::test]
    async fn drop_kills_the_whole_tree() {
        let running = shell("sleep 600 & echo $!; wait");
        let grandchild = eventually("the grandchild", SOON, async || {
            running.stdout().trim().parse::<u32>()
        })
        .await;
        assert!(is_alive(grandchild));
        drop(running);
        eventually("the grandchild's end", SOON, async || !is_alive(grandchild)).await;
    }

    #[test]
    fn a_tail_starts_at_a_line() {
        let text = "0123456789\n".repeat(1_000);
        assert!(tail(&text).starts_with("0123456789\n"));
        assert!(tail(&text).len() <= SHOWN);
        assert_eq!(tail("short"), "short");
    }
}
