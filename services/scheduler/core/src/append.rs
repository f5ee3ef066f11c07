//! Writing into a transcript that somebody else may write at the same time.

use orchion_contract::transcript::{Entry, Final};

/// What to do with an entry of ours, once the last one of the chain is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Behind {
    /// Append it behind this sequence; when that is refused or unanswered, read again.
    Append {
        /// Sequence of what stands last; 0 for nothing.
        after: u64,
    },
    /// It stands there already.
    Stands,
    /// The transcript has ended: this end counts.
    Ended(Box<Final>),
}

/// Decides where a mark or a final of ours goes: behind whatever stands last,
/// so that whoever wrote that is fenced off, and never behind an end.
#[must_use]
pub fn behind(ours: &Entry, last: Option<(u64, Entry)>) -> Behind {
    match (last, ours) {
        (None, _) => Behind::Append { after: 0 },
        (Some((_, Entry::Final(end))), _) => Behind::Ended(end),
        (Some((_, Entry::Mark(found))), Entry::Mark(mark)) if found == *mark => Behind::Stands,
        (Some((after, _)), _) => Behind::Append { after },
    }
}
