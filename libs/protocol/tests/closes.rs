//! The protocol holds in every interleaving, and the check would notice if not.

use orchion_protocol::{Faults, Planted, Protocol, liveness};
use stateright::{Checker, HasDiscoveries, Model};

/// Checks the whole space of states; how many there are.
fn holds(protocol: Protocol) -> usize {
    let found = protocol
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    for property in found.model().properties() {
        if property.expectation.discovery_is_failure() {
            found.assert_no_discovery(property.name);
        }
    }
    let ends = liveness::check(&protocol);
    assert_eq!((ends.states, ends.stuck), (found.unique_state_count(), 0));
    ends.states
}

#[test]
fn every_history_with_a_fault_outside_the_schedulers_ends_well() {
    let faults = Faults {
        scheduler_crashes: 0,
        lost_leases: 0,
        ..Faults::up_to(1)
    };
    assert!(holds(Protocol::with(faults)) > 10_000);
    assert!(holds(Protocol::granted(faults)) > 10_000);
}

#[test]
fn every_history_without_faults_ends_well() {
    assert!(holds(Protocol::with(Faults::NONE)) > 100);
    assert!(holds(Protocol::granted(Faults::NONE)) > 100);
}

#[test]
fn every_rule_that_is_left_out_is_noticed() {
    // That one takes two faults far apart, and a minute: `cargo xtask protocol --planted`.
    let quick = |planted: &&Planted| **planted != Planted::MarkBehindNewer;
    for planted in Planted::ALL.iter().filter(quick) {
        let (_, what) = planted.search(2).expect("a planted fault is noticed");
        assert!(what.contains("not true"), "{planted:?}");
    }
}
