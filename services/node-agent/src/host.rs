//! The host as the system describes it: the only place that knows sysinfo.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orchion_contract::node::{Capabilities, Cpu, Memory, Os};
use sysinfo::{CGroupLimits, CpuRefreshKind, System};

use crate::gpu::Gpus;

/// The host's name; `unknown` when it has none.
#[must_use]
pub fn name() -> String {
    match System::host_name() {
        Ok(name) if !name.is_empty() => name,
        Ok(_) | Err(_) => {
            tracing::warn!("this host has no name: calling it unknown; --hostname gives it one");
            "unknown".to_owned()
        }
    }
}

/// Reads what a host can do, again and again.
pub struct Host {
    system: Option<System>,
    gpus: Gpus,
}

impl Host {
    /// Looks for hardware.
    #[must_use]
    pub fn new() -> Self {
        let mut system = system();
        if let Some(system) = &mut system {
            system.refresh_cpu_list(CpuRefreshKind::nothing());
        }
        Self {
            system,
            gpus: Gpus::find(),
        }
    }

    /// What the host can do now; what the system does not tell is empty.
    #[must_use]
    pub fn capabilities(&mut self) -> Capabilities {
        let known = self.system.as_mut().map(|system| {
            system.refresh_memory();
            (cpu(system), memory(system))
        });
        let (cpu, memory) = known.unwrap_or_default();
        Capabilities {
            os: os(),
            cpu,
            memory,
            gpus: self.gpus.read(),
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a reading of a [`Meter`] is used again.
const FRESH: Duration = Duration::from_secs(1);

/// Memory and load, for heartbeats: cheap.
pub struct Meter {
    system: Option<System>,
    gpus: Gpus,
    reading: Reading,
    read_at: Option<Instant>,
}

/// What a [`Meter`] shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Memory of the host that is free for new work, in bytes.
    pub memory_available_bytes: u64,
    /// Load of all cores, 0 to 100.
    pub cpu_percent: f32,
    /// Memory free on each accelerator, in bytes, by its index.
    pub gpu_memory_free_bytes: BTreeMap<u32, u64>,
}

impl Reading {
    /// Free memory of the accelerators that a replica runs on, all of the host
    /// when it names none; `None` when nothing is known of them.
    #[must_use]
    pub fn memory_free(&self, devices: Option<&[u32]>) -> Option<u64> {
        let is_used = |index: &u32| devices.is_none_or(|devices| devices.contains(index));
        let free = self.gpu_memory_free_bytes.iter();
        let mut free = free.filter(|(index, _)| is_used(index)).peekable();
        free.peek()?;
        Some(free.map(|(_, bytes)| bytes).sum())
    }
}

impl Meter {
    /// The first reading of the load is since the start.
    #[must_use]
    pub fn new() -> Self {
        let mut system = system();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self {
            system,
            gpus: Gpus::find(),
            reading: Reading::default(),
            read_at: None,
        }
    }

    /// What the host shows at `now`; a reading of the last second is used again.
    pub fn read(&mut self, now: Instant) -> &Reading {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < FRESH;
        if !self.read_at.is_some_and(is_fresh) {
            self.read_at = Some(now);
            self.refresh();
        }
        &self.reading
    }

    fn refresh(&mut self) {
        if let Some(system) = &mut self.system {
            system.refresh_memory();
            system.refresh_cpu_usage();
            self.reading.memory_available_bytes = available(system);
            self.reading.cpu_percent = system.global_cpu_usage().clamp(0.0, 100.0);
        }
        self.reading.gpu_memory_free_bytes = self.gpus.memory_free();
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

fn system() -> Option<System> {
    match System::new() {
        Ok(system) => Some(system),
        Err(error) => {
            tracing::warn!("the system does not tell about processor and memory: {error}");
            None
        }
    }
}

fn cpu(system: &System) -> Cpu {
    let cpus = system.cpus();
    let logical_cores = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
    let physical = System::physical_core_count().ok();
    let plural = if logical_cores == 1 { "" } else { "s" };
    Cpu {
        model: cpus.first().map_or("", |cpu| cpu.brand().trim()).to_owned(),
        logical_cores,
        physical_cores: physical.and_then(|n| u32::try_from(n).ok()),
        display: format!("{logical_cores} core{plural}"),
    }
}

fn memory(system: &System) -> Memory {
    let total_bytes = system.total_memory();
    Memory {
        total_bytes,
        available_bytes: available(system),
        limit_bytes: limit(system).map(|limits| limits.total_memory),
        display: format!("{:.2} GB", total_bytes as f64 / f64::from(1 << 30)),
    }
}

/// The limit of the control group, where it is below what is installed.
fn limit(system: &System) -> Option<CGroupLimits> {
    let limits = system.cgroup_limits()?;
    let is_limit = limits.total_memory > 0 && limits.total_memory < system.total_memory();
    is_limit.then_some(limits)
}

/// What is free for new work, also within a container.
fn available(system: &System) -> u64 {
    let free = system.available_memory();
    limit(system).map_or(free, |limits| limits.free_memory.min(free))
}

fn os() -> Os {
    let name = std::env::consts::OS.to_owned();
    let arch = std::env::consts::ARCH.to_owned();
    Os {
        version: System::long_os_version().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        display: format!("{name}/{arch}"),
        name,
        arch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_reads_the_host_once_a_second_at_most() {
        let (mut meter, now) = (Meter::new(), Instant::now());
        let first = meter.read(now).clone();
        assert!(first.memory_available_bytes > 0);
        meter.reading.memory_available_bytes = 1;
        let soon = now + Duration::from_millis(999);
        assert_eq!(meter.read(soon).memory_available_bytes, 1);
        let later = now + Duration::from_secs(1);
        assert!(meter.read(later).memory_available_bytes > 1);
    }

    #[test]
    fn free_memory_is_that_of_the_accelerators_a_replica_runs_on() {
        let reading = Reading {
            gpu_memory_free_bytes: BTreeMap::from([(0, 10), (1, 200)]),
            ..Reading::default()
        };
        assert_eq!(reading.memory_free(None), Some(210));
        assert_eq!(reading.memory_free(Some(&[1])), Some(200));
        assert_eq!(reading.memory_free(Some(&[])), None);
        assert_eq!(Reading::default().memory_free(None), None);
    }

    #[test]
    fn a_host_has_cores_memory_and_a_system() {
        let found = Host::new().capabilities();
        assert!(found.cpu.logical_cores > 0);
        assert!(found.memory.total_bytes > 0);
        assert!(found.memory.available_bytes <= found.memory.total_bytes);
        assert_eq!(
            found.os.display,
            format!("{}/{}", found.os.name, found.os.arch)
        );
    }
}
