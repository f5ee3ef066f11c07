//! Whether a host has changed enough to tell the cluster.

use orchion_contract::node::{Capabilities, Gpu};

/// Shares of the whole below which a change of free memory is noise.
const NOTABLE_SHARE: u64 = 100;

/// Whether `now` differs from what was told last. Free memory counts when it
/// moved by a hundredth of what is installed; load and temperature never do,
/// because heartbeats and figures carry them.
#[must_use]
pub fn differs(told: &Capabilities, now: &Capabilities) -> bool {
    let memory = |c: &Capabilities| (c.memory.total_bytes, c.memory.limit_bytes);
    let available = |c: &Capabilities| c.memory.available_bytes;
    told.os != now.os
        || told.cpu != now.cpu
        || memory(told) != memory(now)
        || moved(available(told), available(now), now.memory.total_bytes)
        || told.gpus.len() != now.gpus.len()
        || std::iter::zip(&told.gpus, &now.gpus).any(|(told, now)| gpu_differs(told, now))
}

fn gpu_differs(told: &Gpu, now: &Gpu) -> bool {
    told.uuid != now.uuid
        || told.name != now.name
        || told.driver != now.driver
        || told.memory_total_bytes != now.memory_total_bytes
        || moved(
            told.memory_free_bytes,
            now.memory_free_bytes,
            now.memory_total_bytes,
        )
}

fn moved(told: u64, now: u64, total: u64) -> bool {
    told.abs_diff(now) > total / NOTABLE_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_contract::node::Memory;

    const GB: u64 = 1 << 30;

    fn host(available_bytes: u64, gpus: Vec<Gpu>) -> Capabilities {
        Capabilities {
            memory: Memory {
                total_bytes: 16 * GB,
                available_bytes,
                ..Memory::default()
            },
            gpus,
            ..Capabilities::default()
        }
    }

    fn gpu(memory_free_bytes: u64) -> Gpu {
        Gpu {
            memory_total_bytes: 24 * GB,
            memory_free_bytes,
            ..Gpu::default()
        }
    }

    #[test]
    fn a_little_memory_more_or_less_is_not_told() {
        let (before, after) = (host(8 * GB, vec![]), host(8 * GB + 1000, vec![]));
        assert!(!differs(&before, &after));
    }

    #[test]
    fn a_loaded_model_is_told() {
        assert!(differs(&host(8 * GB, vec![]), &host(4 * GB, vec![])));
        assert!(differs(
            &host(0, vec![gpu(24 * GB)]),
            &host(0, vec![gpu(12 * GB)])
        ));
    }

    #[test]
    fn a_gpu_that_went_away_is_told_and_its_temperature_is_not() {
        assert!(differs(&host(0, vec![gpu(0)]), &host(0, vec![])));
        let warm = Gpu {
            temperature_c: Some(80),
            ..gpu(0)
        };
        assert!(!differs(&host(0, vec![gpu(0)]), &host(0, vec![warm])));
    }
}
