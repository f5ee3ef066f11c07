//! The processes of a run, stopped whatever happens.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchion_testkit::process::tree;

use crate::accounting::is_alive;

/// How long processes may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// How long a port may take to open.
const OPENING: Duration = Duration::from_secs(5);

/// What runs now.
#[derive(Debug)]
pub(super) struct Stage {
    logs: PathBuf,
    players: Mutex<Players>,
}

#[derive(Debug, Default)]
struct Players {
    /// Nothing is started any more.
    is_closed: bool,
    /// Processes of the system under test.
    system: Vec<u32>,
    engines: Vec<u32>,
    /// The measurement under way.
    generator: Option<u32>,
    /// Those that we started ourselves, to be collected when they have ended.
    children: Vec<Child>,
}

impl Stage {
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        let logs = scratch.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(Self {
            logs,
            players: Mutex::default(),
        })
    }

    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    pub(super) fn log(&self, name: &str) -> Result<File> {
        let path = self.log_path(name);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.with_context(|| format!("open {}", path.display()))
    }

    /// Starts a process of the system under test.
    pub(super) fn start(&self, log: &str, command: &mut Command) -> Result<()> {
        let pid = self.launch(log, command)?;
        self.players().system.push(pid);
        Ok(())
    }

    /// Starts an engine.
    pub(super) fn start_engine(&self, command: &mut Command) -> Result<()> {
        let pid = self.launch("engines", command)?;
        self.players().engines.push(pid);
        Ok(())
    }

    /// Runs a measurement to its end; says whether it went well.
    pub(super) fn measure(&self, command: &mut Command) -> Result<bool> {
        let mut players = self.players();
        ensure!(!players.is_closed, "interrupted");
        let mut child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        players.generator = Some(child.id());
        drop(players);
        let ended = child.wait();
        self.players().generator = None;
        Ok(ended?.success())
    }

    /// Takes over processes that the product's start command named.
    pub(super) fn adopt(&self, pids: Vec<u32>) -> Result<()> {
        let mut players = self.players();
        players.system.extend(pids);
        ensure!(!players.is_closed, "interrupted");
        Ok(())
    }

    /// Replaces the engine that was killed by the one that came back.
    pub(super) fn replace_engine(&self, at: usize, pid: u32) {
        if let Some(engine) = self.players().engines.get_mut(at) {
            *engine = pid;
        }
    }

    pub(super) fn system(&self) -> Vec<u32> {
        self.players().system.clone()
    }

    pub(super) fn engines(&self) -> Vec<u32> {
        self.players().engines.clone()
    }

    /// Stops the system under test.
    pub(super) fn clear_system(&self) {
        let pids = std::mem::take(&mut self.players().system);
        self.stop(&pids);
    }

    /// Stops everything, and lets nothing start any more.
    pub(super) fn clear(&self) {
        let generator = {
            let mut players = self.players();
            players.is_closed = true;
            players.generator
        };
        self.stop(generator.as_slice());
        self.clear_system();
        let engines = std::mem::take(&mut self.players().engines);
        self.stop(&engines);
    }

    fn launch(&self, log: &str, command: &mut Command) -> Result<u32> {
        let log = self.log(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut players = self.players();
        ensure!(!players.is_closed, "interrupted");
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let pid = child.id();
        players.children.push(child);
        Ok(pid)
    }

    /// Asks each process and its descendants to end, and kills what is left.
    fn stop(&self, pids: &[u32]) {
        let all = tree(pids);
        pids.iter().for_each(|pid| signal(*pid, Signal::SIGTERM));
        let end = Instant::now() + GRACE;
        while self.any_alive(&all) {
            if Instant::now() > end {
                say("did not stop within 10 s of SIGTERM: killed");
                break;
            }
            sleep(Duration::from_millis(20));
        }
        all.iter()
            .filter(|pid| is_alive(**pid))
            .for_each(|pid| signal(*pid, Signal::SIGKILL));
    }

    fn any_alive(&self, pids: &[u32]) -> bool {
        let children = &mut self.players().children;
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        pids.iter().any(|pid| is_alive(*pid))
    }

    fn players(&self) -> MutexGuard<'_, Players> {
        self.players.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // One that has ended needs none.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Waits until somebody listens on a loopback port.
pub(super) fn wait_for_port(port: u16) -> Result<()> {
    let end = Instant::now() + OPENING;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(Instant::now() < end, "nobody listens on port {port}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Tells the person at the terminal how far it is.
pub(super) fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "bench: {line}");
}
