//! What nobody waits for is gathered for a moment: load makes larger messages,
//! not more of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long what people watch, and what history keeps, is gathered.
pub(crate) const GATHER: Duration = Duration::from_millis(100);
/// Most in one message: it stays far below what a message may hold.
const MOST: usize = 256;

/// What is still to be sent.
pub(crate) struct Gather<T> {
    pause: Duration,
    waiting: VecDeque<T>,
    /// When what waits goes out, if anything does.
    due: Option<Instant>,
}

impl<T> Gather<T> {
    /// Gathers for so long.
    pub(crate) fn over(pause: Duration) -> Self {
        Self {
            pause,
            waiting: VecDeque::new(),
            due: None,
        }
    }

    pub(crate) fn add(&mut self, one: T) {
        self.waiting.push_back(one);
        self.due.get_or_insert_with(|| Instant::now() + self.pause);
    }

    /// Somebody waits after all: what is there goes out now.
    pub(crate) fn hurry(&mut self) {
        if self.due.is_some() {
            self.due = Some(Instant::now());
        }
    }

    /// When there will be something to send.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be sent now, in one message, if anything.
    pub(crate) fn next(&mut self) -> Option<Vec<T>> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if !is_due && self.waiting.len() < MOST {
            return None;
        }
        let count = self.waiting.len().min(MOST);
        let some = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.due = None;
        }
        Some(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_within_the_pause_goes_together() {
        let mut gather = Gather::over(Duration::from_secs(3600));
        assert_eq!((gather.due(), gather.next()), (None, None));
        gather.add(1);
        gather.add(2);
        assert!(gather.due().is_some());
        assert_eq!(gather.next(), None, "it is not due");
        gather.due = Some(Instant::now());
        assert_eq!(gather.next(), Some(vec![1, 2]));
        assert_eq!((gather.due(), gather.next()), (None, None));
    }

    #[test]
    fn a_full_message_goes_at_once() {
        let mut gather = Gather::over(Duration::from_secs(3600));
        (0..=MOST).for_each(|one| gather.add(one));
        assert_eq!(gather.next().map(|some| some.len()), Some(MOST));
        assert_eq!(gather.next(), None, "the rest is not due");
        assert!(gather.due().is_some());
    }
}
