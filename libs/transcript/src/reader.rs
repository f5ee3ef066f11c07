//! Applies entries in order and says what the caller sees of them.

use orchion_contract::transcript::{Entry, Final, Frame, Piece};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a caller sees next.
#[derive(Debug, Clone)]
pub enum Shown {
    /// A piece of the answer.
    Piece {
        /// Its place, from 0 over all attempts.
        index: u64,
        /// What the engine said.
        piece: Piece,
    },
    /// Everything before is void.
    Restarted {
        /// The place this takes.
        index: u64,
    },
    /// The end; nothing follows.
    Ended(Box<Final>),
}

/// The entries cannot be a transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Pieces are missing.
    #[error("transcript has a hole: expected index {expected}, found {found}")]
    Hole {
        /// The next index.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// A store that was rolled back now holds other pieces than were shown.
    #[error("transcript differs from what was shown at index {index}")]
    Differs {
        /// The first such place.
        index: u64,
    },
    /// An older attempt wrote behind a newer one.
    #[error("attempt {found} wrote behind attempt {expected}")]
    OlderAttempt {
        /// The attempt that owns the chain.
        expected: u32,
        /// The attempt that wrote.
        found: u32,
    },
}

/// Reads one transcript from any place on; tolerates entries it has seen.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// Index of the first piece that the caller wants.
    from: u64,
    /// Index of the next piece of the chain.
    next: u64,
    /// The attempt that owns the chain.
    attempt: u32,
    /// Sequence of the last entry applied.
    sequence: u64,
    /// Fingerprints of what was applied, to recognise a store that was rolled back.
    seen: Vec<u64>,
    ended: bool,
}

impl Reader {
    /// Reads from the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows only pieces with this index and above: a caller that resumes.
    #[must_use]
    pub fn from_index(from: u64) -> Self {
        Self {
            from,
            ..Self::default()
        }
    }

    /// Index of the next piece of the chain.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Sequence of the last entry applied; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The attempt that owns the chain; 0 before the first entry.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the final was seen.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The store was rolled back or replaced: what follows is read from its
    /// first entry again, and what was shown is skipped.
    pub fn reopen(&mut self) {
        self.attempt = 0;
        self.sequence = 0;
    }

    /// Applies one entry and appends to `out` what the caller sees of it.
    ///
    /// # Errors
    /// [`Error`] when the entries cannot be a transcript; the reader is then
    /// of no more use.
    pub fn apply(
        &mut self,
        sequence: u64,
        entry: Entry,
        out: &mut Vec<Shown>,
    ) -> Result<(), Error> {
        if self.ended || sequence <= self.sequence {
            return Ok(());
        }
        let attempt = entry.attempt();
        if attempt < self.attempt && !matches!(entry, Entry::Final(_)) {
            return Err(Error::OlderAttempt {
                expected: self.attempt,
                found: attempt,
            });
        }
        self.attempt = self.attempt.max(attempt);
        match entry {
            Entry::Frame(frame) => self.frame(frame, out)?,
            Entry::Mark(_) => {}
            Entry::Restart(restart) => {
                if self.take(restart.index, restart.attempt.into())? {
                    out.push(Shown::Restarted {
                        index: restart.index,
                    });
                }
            }
            Entry::Final(mut end) => {
                if let Some(rest) = end.rest.take() {
                    self.frame(rest, out)?;
                }
                self.ended = true;
                out.push(Shown::Ended(end));
            }
        }
        self.sequence = sequence;
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Vec<Shown>) -> Result<(), Error> {
        for (index, piece) in (frame.index..).zip(frame.pieces) {
            if self.take(index, fingerprint(&piece))? {
                out.push(Shown::Piece { index, piece });
            }
        }
        Ok(())
    }

    /// Whether the piece at `index` is new and wanted.
    fn take(&mut self, index: u64, print: u64) -> Result<bool, Error> {
        if index > self.next {
            return Err(Error::Hole {
                expected: self.next,
                found: index,
            });
        }
        if index < self.next {
            let known = usize::try_from(index).ok().and_then(|at| self.seen.get(at));
            return match known {
                Some(known) if *known != print => Err(Error::Differs { index }),
                Some(_) | None => Ok(false),
            };
        }
        self.seen.push(print);
        self.next += 1;
        Ok(index >= self.from)
    }
}

fn fingerprint(piece: &Piece) -> u64 {
    let mut hash = DefaultHasher::new();
    (piece.choice, &piece.text, &piece.reasoning).hash(&mut hash);
    piece
        .tool_calls
        .as_ref()
        .map(|raw| raw.get())
        .hash(&mut hash);
    piece.data.as_ref().map(|raw| raw.get()).hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_contract::job::Outcome;
    use orchion_contract::transcript::{Mark, Restart};
    use orchion_contract::{InstanceId, NodeId};

    fn frame(attempt: u32, index: u64, texts: &[&str]) -> Entry {
        let piece = |text: &&str| Piece {
            text: Some((*text).to_owned()),
            tokens: 1,
            ..Piece::default()
        };
        Entry::Frame(Frame {
            attempt,
            index,
            pieces: texts.iter().map(piece).collect(),
        })
    }

    fn end(attempt: u32) -> Entry {
        Entry::Final(Box::new(Final {
            attempt,
            rest: None,
            outcome: Outcome::Completed,
            finish_reason: None,
            usage: Default::default(),
            error: None,
            engine: None,
            node: None,
            continued: None,
            times: Default::default(),
        }))
    }

    fn mark(attempt: u32) -> Entry {
        let (node, instance) = (NodeId::new("n").unwrap(), InstanceId::new("i").unwrap());
        Entry::Mark(Mark {
            attempt,
            node,
            instance,
        })
    }

    fn texts(shown: &[Shown]) -> Vec<(u64, String)> {
        let text = |shown: &Shown| match shown {
            Shown::Piece { index, piece } => (*index, piece.text.clone().unwrap_or_default()),
            Shown::Restarted { index } => (*index, "<restart>".to_owned()),
            Shown::Ended(_) => (u64::MAX, "<end>".to_owned()),
        };
        shown.iter().map(text).collect()
    }

    #[test]
    fn pieces_of_two_attempts_are_one_answer() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        let entries = [
            frame(1, 0, &["a", "b"]),
            mark(2),
            frame(2, 2, &["c"]),
            end(2),
        ];
        for (n, entry) in entries.into_iter().enumerate() {
            reader.apply(n as u64 * 7 + 1, entry, &mut out).unwrap();
        }
        let expected = [(0, "a"), (1, "b"), (2, "c"), (u64::MAX, "<end>")];
        assert_eq!(texts(&out), expected.map(|(n, t)| (n, t.to_owned())));
        assert!(reader.has_ended());
    }

    #[test]
    fn a_caller_that_resumes_sees_only_the_rest() {
        let (mut reader, mut out) = (Reader::from_index(1), Vec::new());
        reader.apply(1, frame(1, 0, &["a", "b"]), &mut out).unwrap();
        assert_eq!(texts(&out), [(1, "b".to_owned())]);
    }

    #[test]
    fn a_replayed_entry_shows_nothing() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(4, frame(1, 0, &["a"]), &mut out).unwrap();
        reader.apply(4, frame(1, 0, &["a"]), &mut out).unwrap();
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn a_hole_is_an_error() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        let found = reader.apply(1, frame(1, 1, &["b"]), &mut out);
        assert_eq!(
            found,
            Err(Error::Hole {
                expected: 0,
                found: 1
            })
        );
    }

    #[test]
    fn nothing_follows_the_final() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(1, end(1), &mut out).unwrap();
        reader.apply(2, frame(1, 0, &["late"]), &mut out).unwrap();
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn an_older_attempt_cannot_write_behind_a_newer_one() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(1, mark(2), &mut out).unwrap();
        let found = reader.apply(2, frame(1, 0, &["zombie"]), &mut out);
        assert_eq!(
            found,
            Err(Error::OlderAttempt {
                expected: 2,
                found: 1
            })
        );
    }

    #[test]
    fn a_store_that_was_rolled_back_is_read_again_without_doubling() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(5, frame(1, 0, &["a"]), &mut out).unwrap();
        reader.apply(6, frame(1, 1, &["b"]), &mut out).unwrap();
        reader.reopen();
        reader.apply(5, frame(1, 0, &["a"]), &mut out).unwrap();
        reader.apply(6, mark(2), &mut out).unwrap();
        reader.apply(7, frame(2, 1, &["b", "c"]), &mut out).unwrap();
        assert_eq!(texts(&out).len(), 3);
    }

    #[test]
    fn a_store_that_was_rolled_back_to_other_words_is_an_error() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(5, frame(1, 0, &["a"]), &mut out).unwrap();
        reader.reopen();
        assert_eq!(
            reader.apply(5, frame(2, 0, &["x"]), &mut out),
            Err(Error::Differs { index: 0 })
        );
    }

    #[test]
    fn a_restart_takes_an_index() {
        let (mut reader, mut out) = (Reader::new(), Vec::new());
        reader.apply(1, frame(1, 0, &["a"]), &mut out).unwrap();
        reader.apply(2, mark(2), &mut out).unwrap();
        reader
            .apply(
                3,
                Entry::Restart(Restart {
                    attempt: 2,
                    index: 1,
                    engine: None,
                }),
                &mut out,
            )
            .unwrap();
        reader.apply(4, frame(2, 2, &["b"]), &mut out).unwrap();
        assert_eq!(texts(&out)[1], (1, "<restart>".to_owned()));
        assert_eq!(reader.next_index(), 3);
    }

    #[test]
    fn the_pieces_of_the_final_are_shown_before_the_end() {
        let mut reader = Reader::from_index(1);
        let Entry::Frame(rest) = frame(1, 0, &["a", "b"]) else {
            panic!("it is a frame");
        };
        let Entry::Final(mut last) = end(1) else {
            panic!("it is a final");
        };
        last.rest = Some(rest);
        let mut out = Vec::new();
        reader.apply(1, Entry::Final(last), &mut out).unwrap();
        let expected = [(1, "b".to_owned()), (u64::MAX, "<end>".to_owned())];
        assert_eq!(texts(&out), expected);
    }
}
