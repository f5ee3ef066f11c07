//! The host as the system describes it: the only place that knows sysinfo.

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

/// Memory and load, for heartbeats: cheap.
pub struct Meter(Option<System>);

impl Meter {
    /// The first reading of the load is since the start.
    #[must_use]
    pub fn new() -> Self {
        let mut system = system();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self(system)
    }

    /// Free memory in bytes, and the load of all cores, 0 to 100.
    pub fn read(&mut self) -> (u64, f32) {
        let Some(system) = &mut self.0 else {
            return (0, 0.0);
        };
        system.refresh_memory();
        system.refresh_cpu_usage();
        (
            available(system),
            system.global_cpu_usage().clamp(0.0, 100.0),
        )
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
