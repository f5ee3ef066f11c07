//! How busy the machine is while a time is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// How many times something waits for the processor between cause and effect:
/// a chain of five processes, there and back.
const WAITS: u32 = 10;
/// No machine is so busy that more is forgiven.
const MOST: Duration = Duration::from_secs(1);

/// Measures by how much a thread that wants to run every few milliseconds is
/// late at worst.
#[derive(Debug)]
pub struct Noise {
    late_us: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    /// Begins to measure.
    #[must_use]
    pub fn measure() -> Self {
        let (late_us, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (late, over) = (Arc::clone(&late_us), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !over.load(Relaxed) {
                let due = Instant::now() + TICK;
                std::thread::sleep(TICK);
                let late_now = due.elapsed().as_micros();
                late.fetch_max(u64::try_from(late_now).unwrap_or(u64::MAX), Relaxed);
            }
        });
        Self {
            late_us,
            is_over,
            thread: Some(thread),
        }
    }

    /// Prints how long it took since `start`, and holds it to `bound`. On a busy
    /// machine there is a little more time: what the processor was late at worst,
    /// for each hop on the way.
    ///
    /// # Panics
    ///
    /// When it took longer.
    #[track_caller]
    #[expect(clippy::print_stderr, reason = "a measurement is shown")]
    pub fn within(&self, what: &str, start: Instant, bound: Duration) {
        let took = start.elapsed();
        let late = Duration::from_micros(self.late_us.load(Relaxed));
        // Below a few milliseconds it is no noise but the timer itself.
        let slack = (late.saturating_sub(TICK) * WAITS).min(MOST);
        eprintln!("{what}: {took:?} of {bound:?}; a thread was late by {late:?} at worst");
        assert!(
            took <= bound + slack,
            "{what}: {took:?} instead of {bound:?} and {slack:?} for a busy machine"
        );
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
