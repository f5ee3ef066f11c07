//! The command `wait-ready`: from launch to the first good answer, and what an
//! idle system needs.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use orchion_testkit::clock::mono_ns;
use orchion_testkit::process::tree;
use serde::Serialize;

use crate::accounting;
use crate::clock::ns;
use crate::document::{print, save};
use crate::drive;
use crate::options::{Common, Pace};

/// The command `wait-ready`.
#[derive(Args, Debug)]
pub struct ReadyOptions {
    /// Where and what.
    #[command(flatten)]
    pub common: Common,
    /// Monotonic nanoseconds at which the system was started (see `now`).
    #[arg(long)]
    pub since: Option<u64>,
    /// How long to wait.
    #[arg(long, default_value_t = 60.0)]
    pub wait_s: f64,
    /// Idle seconds before memory is read.
    #[arg(long, default_value_t = 0.0)]
    pub settle_s: f64,
}

#[derive(Serialize)]
struct ReadyResult {
    startup_ms: f64,
    processes: usize,
    idle_rss_mib: f64,
    idle_pss_mib: f64,
    /// CPU used by an idle system, in percent of one core.
    idle_cpu_percent: f64,
}

pub(crate) fn run(options: &ReadyOptions) -> Result<()> {
    let common = Common {
        timeout_s: options.common.timeout_s.min(5.0),
        ..options.common.clone()
    };
    let plan = common.plan(&Pace::single())?;
    let start = options.since.unwrap_or_else(mono_ns);
    let deadline = mono_ns() + ns(options.wait_s);
    while let Err(why) = drive::probe(&plan) {
        if mono_ns() > deadline {
            bail!("not ready after {} s: {why}", options.wait_s);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let startup_ms = (mono_ns() - start) as f64 / 1e6;
    let idle_cpu_percent = idle_cpu_percent(&common.pids, options.settle_s);
    let pids = tree(&common.pids);
    let (idle_rss_mib, idle_pss_mib) = accounting::memory_mib(&pids);
    let result = ReadyResult {
        startup_ms,
        processes: pids.len(),
        idle_rss_mib,
        idle_pss_mib,
        idle_cpu_percent,
    };
    save(&common, "ready", &result)?;
    match common.quiet {
        true => Ok(()),
        false => print(&render(&common, &result)),
    }
}

fn idle_cpu_percent(roots: &[u32], settle_s: f64) -> f64 {
    if settle_s <= 0.0 {
        return 0.0;
    }
    let pids = tree(roots);
    let before = accounting::cpu_s(&pids);
    std::thread::sleep(Duration::from_secs_f64(settle_s));
    accounting::cpu_delta(&before, &accounting::cpu_s(&pids)) / settle_s * 100.0
}

fn render(common: &Common, r: &ReadyResult) -> String {
    format!(
        "{}: first good answer after {:.0} ms; {} processes, idle RSS {:.1} MiB (PSS {:.1}), \
         idle CPU {:.1} %\n",
        common.label, r.startup_ms, r.processes, r.idle_rss_mib, r.idle_pss_mib, r.idle_cpu_percent
    )
}
