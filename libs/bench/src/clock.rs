//! Sleeping on the shared monotonic clock.

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

/// Puts the calling thread to sleep until `deadline_ns` on the shared clock.
pub(crate) fn sleep_until_ns(deadline_ns: u64) {
    let seconds = (deadline_ns / 1_000_000_000).cast_signed();
    let rest = (deadline_ns % 1_000_000_000).cast_signed();
    let until = TimeSpec::new(seconds, rest);
    let absolute = ClockNanosleepFlags::TIMER_ABSTIME;
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, absolute, &until) == Err(Errno::EINTR) {}
}

/// Whole nanoseconds of a number of seconds.
pub(crate) fn ns(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
