//! Bringing a system up, and down again.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use orchion_testkit::clock::mono_ns;

use super::scenarios::{Bench, Slot};
use super::stage::{say, wait_for_port};
use super::{DIRECT, FLOOR};
use crate::accounting::is_alive;

/// Lines of a log that are shown when its system did not come up.
const SHOWN: usize = 20;

impl Bench {
    /// Starts a system in front of the first so many engines and waits for its
    /// first good answer.
    pub(super) fn go_up(&self, slot: &Slot<'_>, engines: usize) -> Result<()> {
        let since = mono_ns();
        let engines = &self.engine_urls()[..engines];
        let up = self.start(slot.system, engines).and_then(|()| {
            let since = since.to_string();
            let wait = ["--since", &since, "--wait-s", "60", "--settle-s", "1"];
            self.load("wait-ready", slot, &slot.file(&self.options.out), &wait)
        });
        if up.is_err() {
            self.stage.clear_system();
            say(&format!(
                "the end of the log of {}:\n{}",
                slot.system,
                self.last_words()
            ));
        }
        up.with_context(|| format!("{} did not come up", slot.system))
    }

    /// The options of `load` that say how to talk to a system.
    pub(super) fn addressing(&self, system: &str) -> Vec<String> {
        let mut options = vec!["--url".to_owned()];
        if system == DIRECT {
            options.push(self.engine_urls()[0].clone());
        } else {
            options.push(format!("http://127.0.0.1:{}", self.ports.gateway));
        }
        if system == self.options.label {
            options.extend(["--model".to_owned(), self.options.model.clone()]);
            if let Some(key) = &self.options.key {
                options.extend(["--key".to_owned(), key.clone()]);
            }
        }
        let pids = self.stage.system();
        if !pids.is_empty() {
            options.extend(["--pids".to_owned(), commas(&pids)]);
        }
        options.extend(["--engine-pids".to_owned(), commas(&self.stage.engines())]);
        options
    }

    fn start(&self, system: &str, engines: &[String]) -> Result<()> {
        match system {
            DIRECT => Ok(()),
            FLOOR => self.start_floor(engines),
            _ => self.start_product(engines),
        }
    }

    fn start_floor(&self, engines: &[String]) -> Result<()> {
        let port = self.ports.nats.to_string();
        let mut server = Command::new(&self.programs.nats_server);
        self.stage
            .start("nats", server.args(["-a", "127.0.0.1", "-p", &port]))?;
        wait_for_port(self.ports.nats)?;
        let nats = format!("127.0.0.1:{port}");
        let listen = format!("127.0.0.1:{}", self.ports.gateway);
        let floor = || Command::new(&self.programs.floor);
        let mut gateway = floor();
        gateway.args(["gateway", "--nats", &nats, "--listen", &listen]);
        self.stage.start("floor", &mut gateway)?;
        for engine in engines {
            let mut agent = floor();
            agent.args(["agent", "--nats", &nats, "--engine", engine]);
            self.stage.start("floor", &mut agent)?;
        }
        Ok(())
    }

    /// Runs the start command; its last line names the processes.
    fn start_product(&self, engines: &[String]) -> Result<()> {
        let scratch = &self.options.scratch;
        let (files, printed) = (scratch.join("product"), scratch.join("start.out"));
        if files.exists() {
            fs::remove_dir_all(&files).with_context(|| format!("empty {}", files.display()))?;
        }
        fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        // A file, for what it leaves in the background may keep its output open.
        let ended = Command::new("sh")
            .args(["-c", &self.options.start])
            .env("BENCH_PORT", self.ports.gateway.to_string())
            .env("BENCH_ENGINES", engines.join(" "))
            .env("BENCH_NATS_PORT", self.ports.nats.to_string())
            .env("BENCH_SCRATCH", &files)
            .env("BENCH_FLOOR", &self.programs.floor)
            .env("PATH", self.programs.path()?)
            .stdin(Stdio::null())
            .stdout(File::create(&printed)?)
            .stderr(self.stage.log("product")?)
            .status()
            .context("run the start command")?;
        let text = fs::read_to_string(&printed)?;
        let words = text.lines().last().unwrap_or("").split_ascii_whitespace();
        let pids: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
        let has_living = pids.iter().any(|pid| is_alive(*pid));
        self.stage.adopt(pids)?;
        ensure!(ended.success(), "the start command failed: {ended}");
        ensure!(
            has_living,
            "the last line of the start command names no living process"
        );
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.stage.log_path("product")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

fn commas(pids: &[u32]) -> String {
    let words: Vec<String> = pids.iter().map(u32::to_string).collect();
    words.join(",")
}
