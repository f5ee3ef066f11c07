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
    /// Another scheduler has opened this attempt or a later one: it is in charge.
    Overtaken,
}

/// Decides where a mark or a final of ours goes: behind whatever stands last,
/// so that whoever wrote that is fenced off, and never behind an end. A mark
/// never goes behind its own attempt or a later one: a scheduler that was paused
/// in mid-write would fence off those whom its successor chose.
#[must_use]
pub fn behind(ours: &Entry, last: Option<(u64, Entry)>) -> Behind {
    match (last, ours) {
        (None, _) => Behind::Append { after: 0 },
        (Some((_, Entry::Final(end))), _) => Behind::Ended(end),
        (Some((_, Entry::Mark(found))), Entry::Mark(mark)) if found == *mark => Behind::Stands,
        (Some((_, last)), Entry::Mark(mark)) if last.attempt() >= mark.attempt => Behind::Overtaken,
        (Some((after, _)), _) => Behind::Append { after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_contract::transcript::{Frame, Mark};
    use orchion_contract::{InstanceId, NodeId};

    fn mark(attempt: u32, node: &str) -> Entry {
        Entry::Mark(Mark {
            attempt,
            node: NodeId::new(node).unwrap(),
            instance: InstanceId::new(node).unwrap(),
        })
    }

    fn frame(attempt: u32) -> Entry {
        Entry::Frame(Frame {
            attempt,
            index: 0,
            pieces: Vec::new(),
        })
    }

    #[test]
    fn a_mark_goes_behind_earlier_attempts_only() {
        let ours = mark(2, "a");
        let append = Behind::Append { after: 7 };
        assert_eq!(behind(&ours, Some((7, frame(1)))), append);
        assert_eq!(behind(&ours, Some((7, mark(2, "a")))), Behind::Stands);
        for newer in [mark(2, "b"), frame(2), mark(3, "a")] {
            assert_eq!(behind(&ours, Some((7, newer))), Behind::Overtaken);
        }
    }
}
