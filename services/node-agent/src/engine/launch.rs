//! How an engine is started, and what it says while it runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchion_contract::node::EngineKind;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::http::Target;
use crate::config::EngineSettings;

/// How long an engine may take to say where it listens.
const START: Duration = Duration::from_secs(20);
/// Requests at once of a llama-server whose owner names none.
const USUAL_SLOTS: u32 = 4;

/// Missing in the smallest containers, which end as a whole anyhow.
#[cfg(unix)]
const SHELL: &str = "/bin/sh";

/// Ends the program when the agent is gone: standard input is a pipe that only
/// the agent holds, and the system closes it however the agent ends.
#[cfg(unix)]
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- & child=$!
{ read -r _ <&3; kill -9 "$child"; } 2>/dev/null & guard=$!
exec 3<&-
wait "$child"; code=$?
kill "$guard" 2>/dev/null
exit "$code""#;

/// What is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which kind of engine.
    pub kind: EngineKind,
    /// Its program.
    pub binary: PathBuf,
    /// Its model file.
    pub model: Option<PathBuf>,
    /// Requests at once.
    pub slots: Option<u32>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Where it may keep things.
    pub data: PathBuf,
}

/// An engine that was started. Dropping it ends it.
pub struct Started {
    /// The process, or its guard.
    pub child: Child,
    /// Where it listens.
    pub target: Target,
    /// What it writes.
    pub output: Output,
    /// As long as this is open, it runs.
    pub hold: Option<ChildStdin>,
}

/// The lines that an engine writes.
pub struct Output {
    out: Option<Lines<BufReader<ChildStdout>>>,
    err: Option<Lines<BufReader<tokio::process::ChildStderr>>>,
}

impl Launch {
    /// How the engine of these settings is started.
    ///
    /// # Errors
    /// When its model or its program is not there.
    pub fn of(settings: &EngineSettings, data: &Path) -> anyhow::Result<Self> {
        let name = match settings.kind {
            EngineKind::Starter => "orchion-engine",
            EngineKind::LlamaCpp
            | EngineKind::Ollama
            | EngineKind::Vllm
            | EngineKind::Exo
            | EngineKind::OpenAi
            | EngineKind::Unknown => "llama-server",
        };
        if let Some(model) = &settings.model
            && !model.is_file()
        {
            bail!("the model file {} is not there", model.display());
        }
        Ok(Self {
            kind: settings.kind,
            binary: find(name, settings.binary.as_deref())?,
            model: settings.model.clone(),
            slots: settings.slots,
            args: settings.args.clone(),
            data: data.to_owned(),
        })
    }

    /// Starts it and learns where it listens.
    ///
    /// # Errors
    /// When it cannot be started or says nothing.
    pub async fn start(&self) -> anyhow::Result<Started> {
        match self.kind {
            EngineKind::Starter => self.start_starter().await,
            EngineKind::LlamaCpp
            | EngineKind::Ollama
            | EngineKind::Vllm
            | EngineKind::Exo
            | EngineKind::OpenAi
            | EngineKind::Unknown => self.start_llama_server(),
        }
    }

    async fn start_starter(&self) -> anyhow::Result<Started> {
        #[derive(Deserialize)]
        struct StartLine {
            listen: String,
        }
        let mut command = Command::new(&self.binary);
        command
            .args(["--with-parent", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data);
        if let Some(model) = &self.model {
            command.arg("--model").arg(model);
        }
        if let Some(slots) = self.slots {
            command.args(["--slots", &slots.to_string()]);
        }
        let (child, hold, mut output) = self.spawn(command.args(&self.args))?;
        let line = tokio::time::timeout(START, output.first_line()).await;
        let line = line.with_context(|| format!("{} says nothing", self.binary.display()))??;
        let said: StartLine = serde_json::from_str(&line)
            .with_context(|| format!("{} does not say where it listens", self.binary.display()))?;
        let target = Target::parse(&said.listen).map_err(anyhow::Error::msg)?;
        Ok(Started {
            child,
            target,
            output,
            hold,
        })
    }

    fn start_llama_server(&self) -> anyhow::Result<Started> {
        let model = self.model.as_ref().context("there is no model file")?;
        let stem = model.file_stem().unwrap_or_default();
        let port = free_port().context("find a free port")?;
        let slots = self.slots.unwrap_or(USUAL_SLOTS).to_string();
        let mut command = guarded(&self.binary);
        command
            .arg("-m")
            .arg(model)
            .arg("--alias")
            .arg(stem)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["-np", &slots]);
        let names_threads = |arg: &String| arg == "-t" || arg == "--threads";
        if !self.args.iter().any(names_threads) {
            // Its threads spin: one core must be left to everything else.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.args(["-t", &cores.saturating_sub(1).max(1).to_string()]);
        }
        let (child, hold, output) = self.spawn(command.args(&self.args))?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Started {
            child,
            target: Target::parse(&url).map_err(anyhow::Error::msg)?,
            output,
            hold,
        })
    }

    fn spawn(&self, command: &mut Command) -> anyhow::Result<(Child, Option<ChildStdin>, Output)> {
        // Ctrl-C is for the agent, which ends its engines when their answers have ended.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        let output = Output {
            out: child.stdout.take().map(lines),
            err: child.stderr.take().map(lines),
        };
        let hold = child.stdin.take();
        Ok((child, hold, output))
    }
}

impl Output {
    async fn first_line(&mut self) -> anyhow::Result<String> {
        let out = self.out.as_mut().context("its output is not there")?;
        out.next_line().await?.context("it ended at once")
    }

    /// The next line; `None` when the engine has closed both its outputs.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let (line, is_out) = match (&mut self.out, &mut self.err) {
                (Some(out), Some(err)) => tokio::select! {
                    line = out.next_line() => (line, true),
                    line = err.next_line() => (line, false),
                },
                (Some(out), None) => (out.next_line().await, true),
                (None, Some(err)) => (err.next_line().await, false),
                (None, None) => return None,
            };
            match line {
                Ok(Some(line)) => return Some(line),
                // A line that is no text closes nothing.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) if is_out => self.out = None,
                Ok(None) | Err(_) => self.err = None,
            }
        }
    }
}

fn lines<T: AsyncRead + Unpin>(stream: T) -> Lines<BufReader<T>> {
    BufReader::new(stream).lines()
}

#[cfg(unix)]
fn guarded(binary: &Path) -> Command {
    if !Path::new(SHELL).is_file() {
        return Command::new(binary);
    }
    let mut command = Command::new(SHELL);
    command.args(["-c", GUARD, "engine"]).arg(binary);
    command
}

#[cfg(not(unix))]
fn guarded(binary: &Path) -> Command {
    Command::new(binary)
}

fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

/// Where a program is: where its owner says, beside this one, on PATH.
fn find(name: &str, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    if let Some(given) = given {
        anyhow::ensure!(
            given.is_file(),
            "the program {} is not there",
            given.display()
        );
        return Ok(given.to_owned());
    }
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|own| Some(own.parent()?.join(&file)));
    let path = orchion_service::config::variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(&file));
    let found = beside
        .into_iter()
        .chain(on_path)
        .find(|path| path.is_file());
    found.with_context(|| {
        format!("{file} is neither beside this program nor on PATH; install it, or set `binary`")
    })
}

#[cfg(test)]
mod tests;
