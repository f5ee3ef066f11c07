//! CPU time and memory of sets of processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};
use orchion_testkit::process::tree;
use serde::{Deserialize, Serialize};

const MIB: f64 = 1_048_576.0;

/// What a set of processes used during a measured window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) processes: usize,
    pub(crate) cpu_s: f64,
    /// The same by the name of the program.
    #[serde(default)]
    pub(crate) cpu_s_by_program: BTreeMap<String, f64>,
    /// Average number of cores kept busy.
    pub(crate) cores: f64,
    pub(crate) rss_before_mib: f64,
    pub(crate) rss_peak_mib: f64,
}

/// Follows a set of processes and their children over a window.
pub(crate) struct Meter {
    roots: Vec<u32>,
    pids: Vec<u32>,
    before: BTreeMap<u32, f64>,
    rss_before: f64,
    rss_peak: f64,
}

impl Meter {
    pub(crate) fn start(roots: &[u32]) -> Self {
        let pids = tree(roots);
        let rss = rss_mib(&pids);
        Self {
            roots: roots.to_vec(),
            before: cpu_s(&pids),
            pids,
            rss_before: rss,
            rss_peak: rss,
        }
    }

    pub(crate) fn sample(&mut self) {
        self.rss_peak = self.rss_peak.max(rss_mib(&self.pids));
    }

    pub(crate) fn stop(mut self, window_s: f64) -> Usage {
        self.sample();
        let pids = tree(&self.roots);
        let after = cpu_s(&pids);
        let cpu = cpu_delta(&self.before, &after);
        let mut cpu_s_by_program = BTreeMap::new();
        for (pid, now) in &after {
            let spent = now - self.before.get(pid).copied().unwrap_or(0.0);
            *cpu_s_by_program.entry(program(*pid)).or_default() += spent;
        }
        Usage {
            processes: pids.len(),
            cpu_s: cpu,
            cpu_s_by_program,
            cores: cpu / window_s,
            rss_before_mib: self.rss_before,
            rss_peak_mib: self.rss_peak,
        }
    }
}

/// Every process on the machine.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// CPU seconds used so far, per process.
pub(crate) fn cpu_s(pids: &[u32]) -> BTreeMap<u32, f64> {
    let hertz = ticks_per_s();
    let of = |pid: &u32| {
        let (user, system) = cpu_ticks(*pid)?;
        Some((*pid, (user + system) / hertz))
    };
    pids.iter().filter_map(of).collect()
}

/// CPU seconds spent between two readings, with processes that appeared.
pub(crate) fn cpu_delta(before: &BTreeMap<u32, f64>, after: &BTreeMap<u32, f64>) -> f64 {
    let spent = |(pid, now): (&u32, &f64)| now - before.get(pid).copied().unwrap_or(0.0);
    after.iter().map(spent).fold(0.0, |sum, spent| sum + spent)
}

/// Sum of resident and of proportional set sizes, in MiB.
pub(crate) fn memory_mib(pids: &[u32]) -> (f64, f64) {
    let (mut rss, mut pss) = (0.0, 0.0);
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        for line in text.lines() {
            let kib = || line.split_ascii_whitespace().nth(1)?.parse::<f64>().ok();
            if line.starts_with("Rss:") {
                rss += kib().unwrap_or(0.0) / 1024.0;
            } else if line.starts_with("Pss:") {
                pss += kib().unwrap_or(0.0) / 1024.0;
            }
        }
    }
    (rss, pss)
}

/// Seconds the hypervisor kept the processors from this machine.
pub(crate) fn host_steal_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let steal = text.split_ascii_whitespace().nth(8);
    let ticks = steal.and_then(|ticks| ticks.parse::<f64>().ok());
    ticks.unwrap_or(0.0) / ticks_per_s()
}

/// Ticks that any processor has worked since the machine started.
pub(crate) fn busy_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or("").split_ascii_whitespace();
    let ticks: Vec<u64> = fields
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // All but idle and waiting for input and output.
    [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|at| ticks.get(*at))
        .sum()
}

/// Whether a process runs; one that has ended and was not collected does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let state = stat_fields(pid).and_then(|fields| fields.into_iter().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// The file name of a process's program. `comm` would be cut to 15 bytes.
fn program(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let path = line.split('\0').next().unwrap_or("");
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// Resident set only: cheap enough to sample during a run.
fn rss_mib(pids: &[u32]) -> f64 {
    let page = constant(SysconfVar::PAGE_SIZE, 4_096.0);
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: f64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page / MIB)
    };
    pids.iter().filter_map(of).fold(0.0, |sum, mib| sum + mib)
}

fn cpu_ticks(pid: u32) -> Option<(f64, f64)> {
    let fields = stat_fields(pid)?;
    Some((fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

/// The fields behind the name, which may itself hold spaces and parentheses.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = text.get(text.rfind(')')? + 2..)?;
    let fields = after_name.split_ascii_whitespace();
    Some(fields.map(str::to_owned).collect())
}

fn ticks_per_s() -> f64 {
    constant(SysconfVar::CLK_TCK, 100.0)
}

fn constant(name: SysconfVar, usual: f64) -> f64 {
    let value = sysconf(name).ok().flatten();
    value.map_or(usual, |value| value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_has_memory_and_time() {
        let me = std::process::id();
        assert!(is_alive(me));
        let (rss, pss) = memory_mib(&[me]);
        assert!(rss > 0.0 && pss > 0.0 && pss <= rss);
        assert!(rss_mib(&[me]) > 0.0);
        assert!(cpu_s(&[me]).contains_key(&me));
        assert!(busy_ticks() > 0);
        assert!(program(me).starts_with("orchion_bench"));
    }

    #[test]
    fn a_window_counts_processes_that_appeared() {
        let before = BTreeMap::from([(1, 2.0)]);
        let after = BTreeMap::from([(1, 2.5), (2, 1.0)]);
        assert!((cpu_delta(&before, &after) - 1.5).abs() < 1e-9);
    }
}
