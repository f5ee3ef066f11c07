//! What processes cost, as the system tells.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// Clock ticks of the kernel's accounting in a second.
const TICKS: u64 = 100;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Processor time, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
}

/// Reads what a process has used so far.
pub(crate) fn of(process: u32) -> anyhow::Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("read its times")?;
    // The name may hold anything, so count from its closing bracket.
    let (_, fields) = stat.rsplit_once(") ").context("find the times")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok());
    let ticks = ticks().zip(ticks()).map(|(user, system)| user + system);
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory =
        memory.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(Cost {
        cpu: Duration::from_millis(ticks.context("read the times")? * 1000 / TICKS),
        memory: memory.context("read its memory")? * 1024,
    })
}
