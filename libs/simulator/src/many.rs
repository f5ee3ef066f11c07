//! Many lives, on all processors, and the smallest life that shows a fault.

use crate::check::Violation;
use crate::counts::Counts;
use crate::mutant::Mutant;
use crate::scenario::Scenario;
use crate::world::live;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A life in which a promise was not kept.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The life.
    pub scenario: Scenario,
    /// The promise.
    pub violation: Violation,
}

/// What came of many lives.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was covered.
    pub counts: Counts,
    /// Broken promises, by seed.
    pub failures: Vec<Failure>,
}

/// Lives seeds from `from` on, `count` of them at most, as long as `goes_on` says so.
pub fn seeds(
    from: u64,
    count: u64,
    mutant: Option<Mutant>,
    goes_on: &(dyn Fn(&Report) -> bool + Sync),
) -> Report {
    let (next, report) = (AtomicU64::new(from), Mutex::new(Report::default()));
    let stopped = AtomicBool::new(false);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - from >= count {
                        break;
                    }
                    let scenario = Scenario::of(seed);
                    let life = live(&scenario, mutant);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.counts.add(&life.counts);
                    if let Some(violation) = life.violation {
                        report.failures.push(Failure {
                            scenario,
                            violation,
                        });
                    }
                    if !goes_on(&report) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort_by_key(|failure| failure.scenario.seed);
    report
}

/// After how many seeds a planted fault is caught, and how.
#[must_use]
pub fn caught_within(mutant: Mutant, limit: u64) -> Option<(u64, Violation)> {
    let report = seeds(0, limit, Some(mutant), &|report| report.failures.is_empty());
    // Seeds are begun in their order, and those that were begun are lived to their end.
    let first = report.failures.into_iter().next()?;
    Some((first.scenario.seed + 1, first.violation))
}

/// Leaves out faults and jobs as long as the same promise stays broken.
#[must_use]
pub fn shrink(failure: &Failure) -> Failure {
    let mut smallest = failure.clone();
    let breaks = |scenario: &Scenario| {
        let violation = live(scenario, None).violation?;
        (violation.property == failure.violation.property).then_some(violation)
    };
    let keep = |scenario: Scenario, smallest: &mut Failure| match breaks(&scenario) {
        Some(violation) => {
            *smallest = Failure {
                scenario,
                violation,
            };
            true
        }
        None => false,
    };
    let mut n = 0;
    while n < smallest.scenario.faults.len() {
        let mut scenario = smallest.scenario.clone();
        scenario.faults.remove(n);
        if !keep(scenario, &mut smallest) {
            n += 1;
        }
    }
    while smallest.scenario.jobs > 1 {
        let mut scenario = smallest.scenario.clone();
        scenario.jobs /= 2;
        if !keep(scenario, &mut smallest) {
            break;
        }
    }
    smallest
}
