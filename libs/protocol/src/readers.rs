//! Readers of the transcript: one from the beginning, one that resumes.
//!
//! Readers change nothing and a chain only grows, so what a reader sees depends
//! on the chain alone and not on when it reads. Instead of stepping readers
//! beside everything else, every chain is read in every way: one reader up to
//! any place, another that resumes there at another gateway, entries delivered
//! once, twice, and from the beginning again.

use crate::state::{Link, Outcome, TOKENS};
use crate::wire;
use orchion_contract::transcript::Entry;
use orchion_transcript::{Reader, Shown};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// Chains are few, states are many.
    static KNOWN: RefCell<HashMap<Vec<Link>, bool>> = RefCell::new(HashMap::new());
}

/// Whether every reader of this chain sees what it must.
pub(crate) fn all_are_right(chain: &[Link]) -> bool {
    if let Some(known) = KNOWN.with_borrow(|known| known.get(chain).copied()) {
        return known;
    }
    let entries: Vec<Entry> = chain.iter().map(wire::entry).collect();
    let right = (0..=entries.len()).all(|cut| {
        (1..=2).all(|times| is_right(&entries, cut, times)) && reopened_is_right(&entries, cut)
    });
    KNOWN.with_borrow_mut(|known| known.insert(chain.to_vec(), right));
    right
}

/// Reads up to `cut` at one gateway and the rest at another, each entry so often.
fn is_right(entries: &[Entry], cut: usize, times: usize) -> bool {
    let mut seen = Vec::new();
    let mut first = Reader::new();
    if !read(&mut first, &entries[..cut], 1, times, &mut seen) {
        return false;
    }
    if first.has_ended() {
        return is_answer(&seen);
    }
    let mut second = Reader::from_index(first.next_index());
    read(&mut second, entries, 1, times, &mut seen) && is_answer(&seen)
}

/// Reads up to `cut`, then everything from the beginning again.
fn reopened_is_right(entries: &[Entry], cut: usize) -> bool {
    let mut seen = Vec::new();
    let mut reader = Reader::new();
    if !read(&mut reader, &entries[..cut], 1, 1, &mut seen) {
        return false;
    }
    reader.reopen();
    read(&mut reader, entries, 1, 1, &mut seen) && is_answer(&seen)
}

fn read(
    reader: &mut Reader,
    entries: &[Entry],
    from: u64,
    times: usize,
    seen: &mut Vec<Shown>,
) -> bool {
    (from..).zip(entries).all(|(sequence, entry)| {
        (0..times).all(|_| reader.apply(sequence, entry.clone(), seen).is_ok())
    })
}

/// Tokens from the first on without gaps, then at most one end.
fn is_answer(seen: &[Shown]) -> bool {
    let mut next = 0;
    let mut ends = 0;
    for shown in seen {
        match shown {
            Shown::Piece { index, piece } => {
                let place = u64::from(wire::token(piece).place);
                if ends > 0 || *index != next || place != next {
                    return false;
                }
                next += 1;
            }
            Shown::Restarted { .. } => return false,
            Shown::Ended(end) => {
                ends += 1;
                let is_completed = wire::outcome(end.outcome) == Outcome::Completed;
                if is_completed && next != u64::from(TOKENS) {
                    return false;
                }
            }
        }
    }
    ends <= 1 && next <= u64::from(TOKENS)
}
