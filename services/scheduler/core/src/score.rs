//! Which of the replicas that can take a job takes it.

use std::fmt::Debug;

/// What a strategy knows of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Slots in use.
    pub used: u32,
    /// Slots in all, at least 1.
    pub slots: u32,
    /// Graphics memory that is free for another request, in bytes: what was
    /// reported, without what was given away since. 0 for a host without.
    pub memory_free: u64,
    /// Whether its weights are in memory.
    pub loaded: bool,
    /// Whether it is known to be much slower than others of its pool.
    pub slow: bool,
    /// When it was chosen last, counted in choices; 0 for never.
    pub turn: u64,
}

/// A replica's rank: the smallest goes first, equal ones by their names.
pub type Score = [u64; 5];

/// Orders the replicas that can take a job. Must be pure: equal loads have
/// equal scores, and the order in which replicas are asked changes nothing.
pub trait Strategy: Debug + Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What it looks at, most important first.
    fn keys(&self) -> &'static [&'static str];

    /// The rank of a replica with this load.
    fn score(&self, load: &Load) -> Score;
}

/// Warm and fast replicas first, then where most memory and slots are free.
#[derive(Debug)]
pub struct LeastLoaded;

/// Each replica in its turn.
#[derive(Debug)]
pub struct RoundRobin;

/// The strategy of a cluster that names none.
pub const LEAST_LOADED: &dyn Strategy = &LeastLoaded;

/// Every strategy that can be chosen.
pub const STRATEGIES: &[&dyn Strategy] = &[&LeastLoaded, &RoundRobin];

/// The strategy of this name.
#[must_use]
pub fn strategy(name: &str) -> Option<&'static dyn Strategy> {
    STRATEGIES
        .iter()
        .copied()
        .find(|strategy| strategy.name() == name)
}

impl Strategy for LeastLoaded {
    fn name(&self) -> &'static str {
        "least-loaded"
    }

    fn keys(&self) -> &'static [&'static str] {
        &[
            "slow_last",
            "loaded_first",
            "memory_free",
            "share_used",
            "slots_used",
            "name",
        ]
    }

    fn score(&self, load: &Load) -> Score {
        [
            u64::from(load.slow),
            u64::from(!load.loaded),
            u64::MAX - headroom(load),
            share(load),
            u64::from(load.used),
        ]
    }
}

impl Strategy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn keys(&self) -> &'static [&'static str] {
        &["slow_last", "loaded_first", "turn", "name"]
    }

    fn score(&self, load: &Load) -> Score {
        [
            u64::from(load.slow),
            u64::from(!load.loaded),
            load.turn,
            0,
            0,
        ]
    }
}

/// The part of the free memory that the free slots stand for. Engines that set
/// their memory aside at the start report the same figure however busy they
/// are; without the slots, a burst would pile up on the largest device.
fn headroom(load: &Load) -> u64 {
    let free = u128::from(load.slots.saturating_sub(load.used));
    let part = u128::from(load.memory_free) * free / u128::from(load.slots.max(1));
    // A part of a u64.
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Slots in use, in millionths.
fn share(load: &Load) -> u64 {
    u64::from(load.used) * 1_000_000 / u64::from(load.slots.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        used: 0,
        slots: 4,
        memory_free: 0,
        loaded: true,
        slow: false,
        turn: 0,
    };

    fn goes_first(strategy: &dyn Strategy, a: Load, b: Load) {
        assert!(
            strategy.score(&a) < strategy.score(&b),
            "{a:?} before {b:?}"
        );
    }

    #[test]
    fn the_least_loaded_goes_first() {
        goes_first(&LeastLoaded, LOAD, Load { used: 1, ..LOAD });
        goes_first(
            &LeastLoaded,
            Load {
                used: 2,
                slots: 8,
                ..LOAD
            },
            Load {
                used: 1,
                slots: 2,
                ..LOAD
            },
        );
    }

    #[test]
    fn more_free_memory_goes_before_fewer_slots_in_use() {
        let (large, small) = (24 << 30, 12 << 30);
        let busy = Load {
            used: 1,
            memory_free: large,
            ..LOAD
        };
        goes_first(
            &LeastLoaded,
            busy,
            Load {
                memory_free: small,
                ..LOAD
            },
        );
        let full = Load {
            used: 3,
            memory_free: large,
            ..LOAD
        };
        goes_first(
            &LeastLoaded,
            Load {
                memory_free: small,
                ..LOAD
            },
            full,
        );
    }

    #[test]
    fn what_is_slow_or_must_load_first_goes_last() {
        for strategy in STRATEGIES {
            goes_first(
                *strategy,
                Load {
                    turn: 9,
                    used: 3,
                    ..LOAD
                },
                Load { slow: true, ..LOAD },
            );
            goes_first(
                *strategy,
                Load {
                    turn: 9,
                    used: 3,
                    ..LOAD
                },
                Load {
                    loaded: false,
                    ..LOAD
                },
            );
        }
    }

    #[test]
    fn round_robin_asks_who_waited_longest() {
        goes_first(
            &RoundRobin,
            Load {
                turn: 1,
                used: 3,
                ..LOAD
            },
            Load { turn: 2, ..LOAD },
        );
    }

    #[test]
    fn strategies_are_found_by_their_names() {
        for found in STRATEGIES {
            assert_eq!(
                strategy(found.name()).map(Strategy::name),
                Some(found.name())
            );
            assert!(!found.keys().is_empty());
        }
        assert!(strategy("fastest").is_none());
    }
}
