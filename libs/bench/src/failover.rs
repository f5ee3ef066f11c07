//! The command `failover`: what clients see when a process dies under load.

mod timeline;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchion_testkit::clock::mono_ns;

use crate::document::{print, save};
use crate::drive::{self, Event};
use crate::options::{Common, Pace};

use timeline::{FailoverResult, Moments};

/// The command `failover`.
#[derive(Args, Debug)]
pub struct FailoverOptions {
    /// Where and what.
    #[command(flatten)]
    pub common: Common,
    /// How much.
    #[command(flatten)]
    pub pace: Pace,
    /// Process to kill with SIGKILL.
    #[arg(long)]
    pub kill: u32,
    /// Seconds after the start of the load.
    #[arg(long, default_value_t = 3.0)]
    pub kill_at_s: f64,
    /// Name of the engine that is killed (the --name of its mock-engine).
    #[arg(long)]
    pub killed_engine: String,
    /// Shell command that brings the process back.
    #[arg(long)]
    pub restart: Option<String>,
    /// Seconds after the start of the load.
    #[arg(long, default_value_t = 8.0)]
    pub restart_at_s: f64,
}

pub(crate) fn run(options: &FailoverOptions) -> Result<()> {
    let common = &options.common;
    let mut plan = common.plan(&options.pace)?;
    plan.keeps_lines = true;
    let killed_at = Arc::new(AtomicU64::new(u64::MAX));
    let restarted_at = Arc::new(AtomicU64::new(u64::MAX));
    let mut events = vec![kill_event(options, Arc::clone(&killed_at))?];
    if let Some(command) = &options.restart {
        let stamp = Arc::clone(&restarted_at);
        events.push(restart_event(options.restart_at_s, command.clone(), stamp));
    }
    let output = drive::run(&plan, &common.pids, &common.engine_pids, events)?;
    let moments = Moments {
        kill: killed_at.load(SeqCst),
        restart: restarted_at.load(SeqCst),
    };
    let mut result = FailoverResult::of(&output.record.lines, moments, &options.killed_engine);
    result.stream = plan.stream;
    match options.pace.rate {
        Some(rate) => result.rate = rate,
        None => result.concurrency = options.pace.concurrency,
    }
    save(common, "failover", &result)?;
    match common.quiet {
        true => Ok(()),
        false => {
            let title = format!("{} {}", common.label, common.scenario);
            print(&result.render(&title, options.restart.is_some()))
        }
    }
}

fn kill_event(options: &FailoverOptions, stamp: Arc<AtomicU64>) -> Result<Event> {
    let pid = i32::try_from(options.kill).context("--kill names no process")?;
    let act = move || {
        stamp.store(mono_ns(), SeqCst);
        // One that is gone already shows in the result: nothing breaks.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    };
    Ok((options.kill_at_s, Box::new(act)))
}

fn restart_event(at_s: f64, command: String, stamp: Arc<AtomicU64>) -> Event {
    let act = move || {
        stamp.store(mono_ns(), SeqCst);
        let mut shell = Command::new("sh");
        let shell = shell.arg("-c").arg(command);
        // One that fails shows in the result: the engine gets no request.
        let _ = shell.stdin(Stdio::null()).stdout(Stdio::null()).status();
    };
    (at_s, Box::new(act))
}
