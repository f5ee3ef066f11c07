//! What came of something that a process asked.

use crate::wire::{Answer, Said};

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Answer(Answer),
    Said(Said),
    /// Nobody listens there.
    Nobody,
    /// No answer came in time.
    TimedOut,
}
