//! Writing one record, one compare-and-set at a time.

/// What must be done to the stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Write the record as it is now, expecting this revision (0: never written).
    Set {
        /// Expected revision.
        expected: u64,
    },
    /// Read it: nobody knows whether the last write was stored.
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Writing,
    Unsure,
    Reading,
}

/// Where the stored record of one job is. Changes that come while a write is
/// under way are written together afterwards.
#[derive(Debug, Clone)]
pub struct Ledger {
    revision: u64,
    state: State,
    dirty: bool,
}

impl Ledger {
    /// A record that was read with this revision, or is new (0).
    #[must_use]
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            state: State::Idle,
            dirty: false,
        }
    }

    /// The record has changed.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether everything is stored.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.dirty && self.state == State::Idle
    }

    /// Whether the record was ever stored.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.revision > 0
    }

    /// A record of this revision stands there: whether it may be of somebody else.
    #[must_use]
    pub fn is_behind(&self, revision: u64) -> bool {
        revision > self.revision
    }

    /// Has the record read. Returns whether nothing of ours is under way that may have
    /// been what was seen, or be refused for it.
    #[must_use]
    pub fn doubt(&mut self) -> bool {
        let is_idle = self.state == State::Idle;
        if is_idle {
            self.unsure();
        }
        is_idle
    }

    /// What must be done now, if anything.
    pub fn next_write(&mut self) -> Option<Write> {
        match self.state {
            State::Idle if self.dirty => {
                self.dirty = false;
                self.state = State::Writing;
                Some(Write::Set {
                    expected: self.revision,
                })
            }
            State::Unsure => {
                self.state = State::Reading;
                Some(Write::Read)
            }
            State::Idle | State::Writing | State::Reading => None,
        }
    }

    /// The write was stored.
    pub fn written(&mut self, revision: u64) {
        self.revision = revision;
        self.state = State::Idle;
    }

    /// The write was dealt with, and nobody says which revision it got: should
    /// there be another one, it is refused, and the record is read.
    pub fn settled(&mut self) {
        self.state = State::Idle;
    }

    /// Nobody knows whether the write was stored, or it was refused.
    pub fn unsure(&mut self) {
        self.state = State::Unsure;
    }

    /// What was read: its revision, and whether it is what we wrote last.
    /// Returns false when somebody else has written: we are no longer in charge.
    #[must_use]
    pub fn read(&mut self, found: Option<(u64, bool)>) -> bool {
        self.state = State::Idle;
        match found {
            Some((revision, true)) => {
                self.revision = revision;
                true
            }
            Some((revision, false)) if revision == self.revision => {
                self.dirty = true;
                true
            }
            None if self.revision == 0 => {
                self.dirty = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// What was read is the marker of an earlier record of this id: write above it.
    pub fn is_free(&mut self, revision: u64) {
        self.revision = revision;
        self.state = State::Idle;
        self.dirty = true;
    }
}
