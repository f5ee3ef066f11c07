//! How many answers may run at once. There is no queue: what does not fit is refused.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A fixed number of slots.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    total: usize,
}

/// One answer's slot; dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// `total` slots, all free.
    pub fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// A free slot, or `None` when all are taken.
    pub fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { _permit: permit })
    }

    /// Number of slots.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Number of slots in use.
    pub fn busy(&self) -> usize {
        self.total - self.free.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_its_answer_ends() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take(), slots.take());
        assert!(first.is_some() && second.is_some());
        assert!(slots.take().is_none());
        drop(first);
        assert_eq!((slots.busy(), slots.total()), (1, 2));
        assert!(slots.take().is_some());
    }
}
