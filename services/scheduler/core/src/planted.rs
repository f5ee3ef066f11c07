//! Faults planted on purpose, to see that the simulator catches them. No product
//! is built with them.

use std::cell::Cell;

thread_local! {
    static FORGETS: Cell<bool> = const { Cell::new(false) };
    static ADMITS: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread reserves nothing for jobs that it places.
pub fn forget_reservations(forgets: bool) {
    FORGETS.set(forgets);
}

pub(crate) fn reservations_are_forgotten() -> bool {
    FORGETS.get()
}

/// From now on this thread admits jobs whose records wait for their ends.
pub fn admit_unrecorded(admits: bool) {
    ADMITS.set(admits);
}

pub(crate) fn unrecorded_are_admitted() -> bool {
    ADMITS.get()
}
