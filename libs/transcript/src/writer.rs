//! Writes one attempt's part of the chain.
//!
//! At most one entry is in flight. Pieces that arrive meanwhile join the next
//! frame, so nothing waits and load batches by itself; the last ones go with the
//! final. Where nobody reads before the end, pieces are gathered until the shell
//! says that they are due. When an answer is
//! missing or says "wrong sequence", the last entry of the chain is read:
//! it is ours, and we go on behind it; or it is not, and we stop.

use crate::parts;
use orchion_contract::node::EngineRef;
use orchion_contract::transcript::{Entry, Final, Frame, MAX_ENTRY_BYTES, Piece, Restart};

/// What the shell owes the writer.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Publish this entry, expecting `after` as last sequence of the subject.
    /// Answer with [`Writer::acked`] or [`Writer::unsure`].
    Publish {
        /// Sequence of the entry before; 0 for the first.
        after: u64,
        /// What to publish.
        entry: Entry,
    },
    /// Read the last entry of the subject; answer with [`Writer::last_is`].
    ReadLast,
}

/// Why the writer will never publish again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its final is stored.
    Finished,
    /// Somebody else owns the chain, or has ended it.
    Superseded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// An entry is under way.
    InFlight,
    /// Nobody knows whether the entry was stored: the last one must be read.
    Unsure,
    /// The last one is being read.
    Reading,
    Stopped(Stop),
}

/// Writes the entries of one attempt.
#[derive(Debug, Clone)]
pub struct Writer {
    attempt: u32,
    /// Index that the next frame gets.
    next: u64,
    /// Sequence of the last entry known to be stored.
    sequence: u64,
    state: State,
    in_flight: Option<Entry>,
    /// The engine that starts over, until that is stored.
    restart: Option<EngineRef>,
    waiting: Vec<Piece>,
    end: Option<Box<Final>>,
    stored: bool,
    /// Whether pieces wait until they are due.
    gathers: bool,
    is_due: bool,
}

impl Writer {
    /// A writer of `attempt` that goes on behind the entry with `sequence`,
    /// with `next_index` as index of its first piece.
    #[must_use]
    pub fn new(attempt: u32, next_index: u64, sequence: u64) -> Self {
        Self {
            attempt,
            next: next_index,
            sequence,
            state: State::Idle,
            in_flight: None,
            restart: None,
            waiting: Vec::new(),
            end: None,
            stored: false,
            gathers: false,
            is_due: false,
        }
    }

    /// Lets pieces wait for [`Writer::flush`] or the end.
    #[must_use]
    pub fn gathering(self) -> Self {
        Self {
            gathers: true,
            ..self
        }
    }

    /// What waits is due now.
    pub fn flush(&mut self) {
        self.is_due = true;
    }

    /// The engine said something; what no message can carry is cut into parts.
    pub fn push(&mut self, piece: Piece) {
        if self.end.is_none() {
            parts::cut(piece, |part| self.waiting.push(part));
        }
    }

    /// What earlier attempts said is void, and `engine` starts over. Only before
    /// anything was pushed.
    pub fn restart(&mut self, engine: EngineRef) {
        if self.end.is_none() && !self.stored {
            self.restart = Some(engine);
        }
    }

    /// The attempt ends; nothing can be pushed any more.
    pub fn finish(&mut self, end: Final) {
        if self.end.is_none() {
            self.end = Some(Box::new(end));
        }
    }

    /// Gives up what has not been sent: an attempt that failed writes no final.
    pub fn abandon(&mut self) {
        self.waiting.clear();
    }

    /// What the shell must do now, if anything.
    pub fn next_effect(&mut self) -> Option<Effect> {
        match self.state {
            State::Idle => self.next_entry().map(|entry| {
                self.in_flight = Some(entry.clone());
                self.state = State::InFlight;
                Effect::Publish {
                    after: self.sequence,
                    entry,
                }
            }),
            State::Unsure => {
                self.state = State::Reading;
                Some(Effect::ReadLast)
            }
            State::InFlight | State::Reading | State::Stopped(_) => None,
        }
    }

    /// The entry in flight is stored.
    pub fn acked(&mut self, sequence: u64) {
        if self.state != State::InFlight {
            return;
        }
        self.sequence = sequence;
        self.entry_is_stored();
    }

    /// Nobody knows what stands last: the entry in flight was refused for its
    /// sequence, no answer came, or the connection is a new one. The store behind
    /// that may have been rolled back, and give sequences out that it gave before.
    pub fn unsure(&mut self) {
        match self.state {
            State::Idle => {
                // It may have been sent once, and given up for lost.
                self.in_flight = self.next_entry();
                self.state = State::Unsure;
            }
            State::InFlight | State::Reading => self.state = State::Unsure,
            State::Unsure | State::Stopped(_) => {}
        }
    }

    /// The last entry of the chain, as read after [`Effect::ReadLast`]; `None`
    /// when the subject is empty.
    pub fn last_is(&mut self, last: Option<(u64, &Entry)>) {
        if self.state != State::Reading {
            return;
        }
        match last {
            Some((sequence, entry)) if self.is_ours(entry) => {
                self.sequence = sequence;
                self.entry_is_stored();
            }
            Some((sequence, Entry::Frame(frame))) if self.began_with(frame) => {
                self.sequence = sequence;
                self.keep_what_is_missing_in(frame);
            }
            Some((sequence, entry))
                if sequence == self.sequence && self.may_go_on_behind(entry) =>
            {
                self.send_again();
            }
            None if self.sequence == 0 => self.send_again(),
            Some(_) | None => self.state = State::Stopped(Stop::Superseded),
        }
    }

    /// Why nothing will be published any more.
    #[must_use]
    pub fn stopped(&self) -> Option<Stop> {
        match self.state {
            State::Stopped(why) => Some(why),
            State::Idle | State::InFlight | State::Unsure | State::Reading => None,
        }
    }

    /// Whether everything pushed is stored.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle && self.waiting.is_empty() && self.restart.is_none()
    }

    /// Whether this attempt stored any piece.
    #[must_use]
    pub fn has_stored(&self) -> bool {
        self.stored
    }

    /// Sequence of the last entry known to be stored.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Index that the next frame gets.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next
    }

    fn next_entry(&mut self) -> Option<Entry> {
        if let Some(engine) = &self.restart {
            return Some(Entry::Restart(Restart {
                attempt: self.attempt,
                index: self.next,
                engine: Some(engine.clone()),
            }));
        }
        let frame = self.next_frame();
        match &self.end {
            Some(end) if self.waiting.is_empty() => Some(Entry::Final(Box::new(Final {
                rest: frame,
                ..Final::clone(end)
            }))),
            Some(_) | None => frame.map(Entry::Frame),
        }
    }

    fn next_frame(&mut self) -> Option<Frame> {
        let must_wait = self.gathers && !self.is_due && self.end.is_none();
        if self.waiting.is_empty() || must_wait {
            return None;
        }
        let frame = Frame {
            attempt: self.attempt,
            index: self.next,
            pieces: self.take_pieces(),
        };
        self.is_due &= !self.waiting.is_empty();
        Some(frame)
    }

    /// As many waiting pieces as fit into half an entry, and at least one.
    fn take_pieces(&mut self) -> Vec<Piece> {
        let mut bytes = 0;
        let mut fits = |piece: &Piece| {
            bytes += parts::size_of(piece);
            bytes <= MAX_ENTRY_BYTES / 2
        };
        let count = self
            .waiting
            .iter()
            .map_while(|piece| fits(piece).then_some(()))
            .count();
        let rest = self.waiting.split_off(count.max(1).min(self.waiting.len()));
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Whether the entry is the one in flight.
    fn is_ours(&self, entry: &Entry) -> bool {
        match (&self.in_flight, entry) {
            (Some(Entry::Final(ours)), Entry::Final(theirs)) => ours == theirs,
            (Some(Entry::Restart(ours)), Entry::Restart(theirs)) => ours == theirs,
            (
                Some(_) | None,
                Entry::Frame(_) | Entry::Mark(_) | Entry::Restart(_) | Entry::Final(_),
            ) => false,
        }
    }

    /// Whether the entry is no end, and not of a later attempt.
    fn may_go_on_behind(&self, entry: &Entry) -> bool {
        !matches!(entry, Entry::Final(_)) && entry.attempt() <= self.attempt
    }

    /// Whether the frame holds what is in flight, or the beginning of it, as it
    /// was sent earlier from the same place and had been given up for lost. Where
    /// it says something else, another process writes the same attempt: a
    /// scheduler that is gone gave it away, too.
    fn began_with(&self, frame: &Frame) -> bool {
        let ours = match &self.in_flight {
            Some(Entry::Frame(ours)) => Some(ours),
            Some(Entry::Final(end)) => end.rest.as_ref(),
            Some(Entry::Mark(_) | Entry::Restart(_)) | None => None,
        };
        ours.is_some_and(|ours| {
            (ours.attempt, ours.index) == (frame.attempt, frame.index)
                && ours.pieces.starts_with(&frame.pieces)
        })
    }

    /// Pieces in flight that the stored frame does not hold wait again.
    fn keep_what_is_missing_in(&mut self, stored: &Frame) {
        self.send_again();
        let count = stored.pieces.len().min(self.waiting.len());
        self.waiting.drain(..count);
        self.next += count as u64;
        self.stored = true;
    }

    fn entry_is_stored(&mut self) {
        self.state = State::Idle;
        let frame = match self.in_flight.take() {
            Some(Entry::Frame(frame)) => Some(frame),
            Some(Entry::Final(end)) => {
                self.state = State::Stopped(Stop::Finished);
                end.rest
            }
            Some(Entry::Restart(_)) => {
                self.restart = None;
                self.next += 1;
                None
            }
            Some(Entry::Mark(_)) | None => None,
        };
        if let Some(frame) = frame {
            self.stored = true;
            self.next += frame.pieces.len() as u64;
        }
    }

    /// What is in flight waits again, before what came later.
    fn send_again(&mut self) {
        self.state = State::Idle;
        let frame = match self.in_flight.take() {
            Some(Entry::Frame(frame)) => Some(frame),
            Some(Entry::Final(end)) => end.rest,
            Some(Entry::Mark(_) | Entry::Restart(_)) | None => None,
        };
        if let Some(mut frame) = frame {
            frame.pieces.append(&mut self.waiting);
            self.waiting = frame.pieces;
            self.is_due = true;
        }
    }
}

#[cfg(test)]
mod tests;
