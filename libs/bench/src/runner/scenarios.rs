//! The scenarios, the same for every system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::RunOptions;
use super::programs::Programs;
use super::stage::{Stage, say, wait_for_port};
use crate::accounting::busy_ticks;

/// A measurement: of which system, in which round, of what.
pub(super) struct Slot<'a> {
    pub(super) system: &'a str,
    pub(super) round: u32,
    pub(super) scenario: &'a str,
}

impl Slot<'_> {
    /// Its result file.
    pub(super) fn file(&self, folder: &Path) -> PathBuf {
        let Slot {
            system,
            round,
            scenario,
        } = self;
        folder.join(format!("{scenario}.{system}.{round}.json"))
    }
}

/// Loopback ports of a run.
pub(super) struct Ports {
    engines: [u16; 2],
    pub(super) gateway: u16,
    pub(super) nats: u16,
}

/// All that the scenarios need.
pub(super) struct Bench {
    pub(super) options: RunOptions,
    pub(super) programs: Programs,
    pub(super) stage: Arc<Stage>,
    pub(super) ports: Ports,
}

/// Steady load: name, measured seconds, seconds of warm-up, options of `load`.
type Steady = (&'static str, f64, f64, &'static [&'static str]);

#[rustfmt::skip] // a table: one scenario a line
const STEADY: &[Steady] = &[
    ("plain-c1", 2.0, 0.3, &["--concurrency", "1"]),
    ("plain-c64", 2.0, 0.3, &["--concurrency", "64"]),
    ("stream-1", 1.5, 0.3, &["--stream", "--tokens", "16", "--itl-us", "2000"]),
    ("stream-256", 2.5, 1.4, &["--stream", "--concurrency", "256", "--tokens", "64", "--itl-us", "20000"]),
    ("stream-1000-slow", 3.5, 3.8, &["--stream", "--concurrency", "1000", "--tokens", "24", "--itl-us", "150000"]),
    ("stream-1000", 3.5, 3.4, &["--stream", "--concurrency", "1000", "--tokens", "64", "--itl-us", "50000"]),
];

/// The engine that is killed: its place and its name.
const VICTIM: usize = 1;
const NAMES: [&str; 2] = ["a", "b"];

impl Bench {
    pub(super) fn new(options: RunOptions, programs: Programs, stage: Arc<Stage>) -> Self {
        let base = options.port_base;
        Self {
            options,
            programs,
            stage,
            ports: Ports {
                engines: [base + 1, base + 2],
                gateway: base + 10,
                nats: base + 20,
            },
        }
    }

    pub(super) fn start_engines(&self) -> Result<()> {
        for (port, name) in self.ports.engines.into_iter().zip(NAMES) {
            let listen = format!("127.0.0.1:{port}");
            let mut engine = Command::new(&self.programs.mock_engine);
            engine.args(["--listen", &listen, "--name", name]);
            self.stage.start_engine(&mut engine)?;
            wait_for_port(port).context("start the engines")?;
        }
        Ok(())
    }

    pub(super) fn engine_urls(&self) -> [String; 2] {
        self.ports
            .engines
            .map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Start-up, load without trouble, and clients that hang up.
    pub(super) fn steady(&self, system: &str, round: u32) -> Result<()> {
        let slot = |scenario| Slot {
            system,
            round,
            scenario,
        };
        self.go_up(&slot("start"), 1)?;
        for (scenario, seconds, warm_up, options) in STEADY {
            self.measure(&slot(scenario), *seconds, *warm_up, options);
        }
        // Last, because a system that cannot cancel leaves its engine busy.
        let streams = ["--stream", "--tokens", "500", "--itl-us", "20000"];
        self.hang_up(&slot("cancel-streams"), &streams);
        self.hang_up(
            &slot("cancel-waiting"),
            &["--tokens", "16", "--ttft-us", "30000000"],
        );
        self.stage.clear_system();
        Ok(())
    }

    /// Load over two engines, of which one is killed and comes back.
    pub(super) fn kills(&self, system: &str, round: u32) -> Result<()> {
        let slot = |scenario| Slot {
            system,
            round,
            scenario,
        };
        let streams = [
            "--stream",
            "--concurrency",
            "40",
            "--tokens",
            "50",
            "--itl-us",
            "20000",
        ];
        for (scenario, options) in [
            ("kill-plain", &["--rate", "40", "--itl-us", "2000"][..]),
            ("kill-streams", &streams[..]),
        ] {
            // Afresh: a system that has not taken the engine back would have no
            // stream on it.
            self.go_up(&slot("start-two"), 2)?;
            self.kill_one(&slot(scenario), options);
            self.stage.clear_system();
        }
        Ok(())
    }

    /// Runs `load`; its result goes to `file`.
    pub(super) fn load(
        &self,
        command: &str,
        slot: &Slot<'_>,
        file: &Path,
        options: &[&str],
    ) -> Result<()> {
        let mut load = Command::new(&self.programs.load);
        load.arg(command)
            .args(self.addressing(slot.system))
            .args([
                "--label",
                slot.system,
                "--scenario",
                slot.scenario,
                "--quiet",
            ])
            .args(["--round", &slot.round.to_string()])
            .arg("--json")
            .arg(file)
            .args(options);
        let went_well = self.stage.measure(&mut load)?;
        ensure!(went_well, "{} {} failed", slot.system, slot.scenario);
        Ok(())
    }

    /// Measures once, and again if strangers disturbed it; keeps the quieter one.
    fn measure(&self, slot: &Slot<'_>, seconds: f64, warm_up: f64, options: &[&str]) {
        let attempt = self.options.scratch.join("try.json");
        let (seconds, warm_up) = (seconds.to_string(), warm_up.to_string());
        let timing = [
            "--timeout-s",
            "20",
            "--duration-s",
            &seconds,
            "--warmup-s",
            &warm_up,
        ];
        let mut best = f64::INFINITY;
        for _ in 0..2 {
            rest();
            if let Err(error) = self.load("chat", slot, &attempt, &[&timing, options].concat()) {
                return say(&format!("{error:#}"));
            }
            let noise = strangers(&attempt);
            if noise < best && fs::rename(&attempt, slot.file(&self.options.out)).is_ok() {
                best = noise;
            }
            if best <= f64::from(self.options.noise) {
                return;
            }
        }
        let Slot {
            system, scenario, ..
        } = slot;
        say(&format!(
            "{system} {scenario}: other processes used {best:.0} % of a core"
        ));
    }

    fn hang_up(&self, slot: &Slot<'_>, options: &[&str]) {
        rest();
        let engines = self.engine_urls().join(",");
        let how = [
            "--concurrency",
            "64",
            "--hold-s",
            "0.5",
            "--wait-s",
            "2",
            "--engines",
            &engines,
        ];
        self.keep("cancel", slot, &[&how, options].concat());
    }

    fn kill_one(&self, slot: &Slot<'_>, options: &[&str]) {
        rest();
        let pid_file = self.options.scratch.join("engine.pid");
        let victim = self.stage.engines()[VICTIM].to_string();
        let restart = format!(
            "\"{}\" --listen 127.0.0.1:{} --name {} >/dev/null 2>&1 </dev/null & echo $! >\"{}\"",
            self.programs.mock_engine.display(),
            self.ports.engines[VICTIM],
            NAMES[VICTIM],
            pid_file.display()
        );
        let how = [
            "--timeout-s",
            "15",
            "--killed-engine",
            NAMES[VICTIM],
            "--kill",
            &victim,
            "--kill-at-s",
            "2",
            "--restart",
            &restart,
            "--restart-at-s",
            "6",
            "--warmup-s",
            "0.1",
            "--duration-s",
            "9",
        ];
        self.keep("failover", slot, &[&how, options].concat());
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            self.stage.replace_engine(VICTIM, pid);
        }
    }

    /// A scenario that fails leaves a gap in the table; the others go on.
    fn keep(&self, command: &str, slot: &Slot<'_>, options: &[&str]) {
        let file = slot.file(&self.options.out);
        if let Err(error) = self.load(command, slot, &file, options) {
            say(&format!("{error:#}"));
        }
    }
}

/// Waits, 3 s at most, until what the scenario before left behind is done.
fn rest() {
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let before = busy_ticks();
        sleep(Duration::from_millis(300));
        if busy_ticks() - before <= 6 {
            return;
        }
    }
}

/// Percentage of a core that strangers used while a result was taken.
fn strangers(file: &Path) -> f64 {
    let read = || -> Option<f64> {
        let document: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let result = document.get("result")?;
        let foreign_s = result.get("foreign_cpu_s")?.as_f64()?;
        Some(100.0 * foreign_s / result.get("window_s")?.as_f64()?)
    };
    read().unwrap_or(999.0)
}
