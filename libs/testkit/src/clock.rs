//! The monotonic clock, which every process on one machine shares.
//!
//! The mock engine stamps each token with it and readers subtract, so the time a
//! token needs through everything in between is measured token by token.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on the shared monotonic clock.
pub fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("read the monotonic clock");
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}

/// Microseconds on the shared monotonic clock.
pub fn mono_us() -> u64 {
    mono_ns() / 1_000
}

/// Asks the kernel not to gather this thread's timers (usual slack: 50 us).
/// Where that cannot be asked for, timers stay as they are.
pub fn precise_timers() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Raises the soft limit of open files to the hard limit, as far as the system
/// lets us.
pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let before = mono_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(mono_ns() - before >= 2_000_000);
    }
}
