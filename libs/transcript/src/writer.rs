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

    /// Nobody knows whether the entry in flight is stored: it was refused for
    /// its sequence, no answer came, or the connection was lost.
    pub fn unsure(&mut self) {
        match self.state {
            State::InFlight | State::Reading => self.state = State::Unsure,
            State::Idle | State::Unsure | State::Stopped(_) => {}
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
            Some((sequence, _)) if sequence == self.sequence => self.send_again(),
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
mod tests {
    use super::*;
    use orchion_contract::job::Outcome;
    use orchion_contract::transcript::Mark;
    use orchion_contract::{InstanceId, NodeId};

    fn piece(text: &str) -> Piece {
        Piece {
            text: Some(text.to_owned()),
            tokens: 1,
            ..Piece::default()
        }
    }

    fn end() -> Final {
        Final {
            attempt: 1,
            rest: None,
            outcome: Outcome::Completed,
            finish_reason: Some("stop".to_owned()),
            usage: Default::default(),
            error: None,
            engine: None,
            node: None,
            continued: None,
            times: Default::default(),
        }
    }

    fn published(writer: &mut Writer) -> (u64, Entry) {
        match writer.next_effect() {
            Some(Effect::Publish { after, entry }) => (after, entry),
            other => panic!("expected a publish, got {other:?}"),
        }
    }

    fn texts(entry: &Entry) -> Vec<String> {
        let frame = match entry {
            Entry::Frame(frame) => Some(frame),
            Entry::Final(end) => end.rest.as_ref(),
            other @ (Entry::Mark(_) | Entry::Restart(_)) => panic!("no writer sends {other:?}"),
        };
        let pieces = frame.map_or(&[][..], |frame| &frame.pieces);
        pieces
            .iter()
            .filter_map(|piece| piece.text.clone())
            .collect()
    }

    fn must_read(writer: &mut Writer) {
        assert!(matches!(writer.next_effect(), Some(Effect::ReadLast)));
    }

    #[test]
    fn one_entry_is_in_flight_and_the_rest_joins_the_next() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        assert_eq!(texts(&published(&mut writer).1), ["a"]);
        writer.push(piece("b"));
        writer.push(piece("c"));
        assert!(writer.next_effect().is_none());
        writer.acked(7);
        let (after, entry) = published(&mut writer);
        assert_eq!(
            (after, texts(&entry)),
            (7, vec!["b".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn a_stored_entry_whose_answer_was_lost_is_not_sent_twice() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        let (_, entry) = published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(Some((9, &entry)));
        writer.push(piece("b"));
        let (after, entry) = published(&mut writer);
        assert_eq!((after, texts(&entry)), (9, vec!["b".to_owned()]));
    }

    #[test]
    fn an_entry_that_was_not_stored_is_sent_again_with_what_came_since() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        published(&mut writer);
        writer.push(piece("b"));
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(None);
        let (after, entry) = published(&mut writer);
        assert_eq!(
            (after, texts(&entry)),
            (0, vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn an_entry_given_up_for_lost_may_still_win() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        let (_, first) = published(&mut writer);
        writer.push(piece("b"));
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(None);
        published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(Some((3, &first)));
        let (after, entry) = published(&mut writer);
        assert_eq!((after, texts(&entry)), (3, vec!["b".to_owned()]));
    }

    #[test]
    fn a_restart_goes_first_and_takes_an_index() {
        let mut writer = Writer::new(2, 5, 9);
        let engine = EngineRef {
            kind: orchion_contract::node::EngineKind::OpenAi,
            version: None,
            digest: None,
        };
        writer.restart(engine.clone());
        writer.push(piece("a"));
        let (after, entry) = published(&mut writer);
        let Entry::Restart(restart) = &entry else {
            panic!("expected a restart, got {entry:?}");
        };
        assert_eq!(
            (after, restart.index, &restart.engine),
            (9, 5, &Some(engine))
        );
        // Lost, then found to be stored.
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(Some((
            9,
            &Entry::Frame(Frame {
                attempt: 1,
                index: 4,
                pieces: vec![],
            }),
        )));
        published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(Some((10, &entry)));
        let (after, entry) = published(&mut writer);
        assert_eq!((after, texts(&entry)), (10, vec!["a".to_owned()]));
        assert!(matches!(entry, Entry::Frame(frame) if frame.index == 6));
    }

    #[test]
    fn another_process_with_the_same_attempt_stops_the_writer() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        let theirs = Frame {
            attempt: 1,
            index: 0,
            pieces: vec![piece("b")],
        };
        writer.last_is(Some((1, &Entry::Frame(theirs))));
        assert_eq!(writer.stopped(), Some(Stop::Superseded));
        assert!(!writer.has_stored());
    }

    #[test]
    fn a_mark_of_another_attempt_stops_the_writer() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        let (node, instance) = (NodeId::new("n").unwrap(), InstanceId::new("i").unwrap());
        writer.last_is(Some((
            5,
            &Entry::Mark(Mark {
                attempt: 2,
                node,
                instance,
            }),
        )));
        assert_eq!(writer.stopped(), Some(Stop::Superseded));
        assert!(writer.next_effect().is_none());
    }

    #[test]
    fn a_final_of_somebody_else_stops_the_writer() {
        let mut writer = Writer::new(1, 0, 0);
        writer.finish(end());
        published(&mut writer);
        writer.unsure();
        must_read(&mut writer);
        let theirs = Final {
            outcome: Outcome::Canceled,
            ..end()
        };
        writer.last_is(Some((5, &Entry::Final(Box::new(theirs)))));
        assert_eq!(writer.stopped(), Some(Stop::Superseded));
    }

    #[test]
    fn frames_stay_below_the_limit() {
        let mut writer = Writer::new(1, 0, 0);
        for _ in 0..10 {
            writer.push(piece(&"x".repeat(60 * 1024)));
        }
        for sequence in 1..=5 {
            let (_, entry) = published(&mut writer);
            assert!(serde_json::to_vec(&entry).unwrap().len() <= MAX_ENTRY_BYTES);
            writer.acked(sequence);
        }
        assert!(writer.is_idle());
    }

    #[test]
    fn the_last_pieces_go_with_the_final() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        published(&mut writer);
        writer.push(piece("b"));
        writer.finish(end());
        writer.acked(1);
        let (after, entry) = published(&mut writer);
        assert!(matches!(&entry, Entry::Final(end) if end.rest.as_ref().unwrap().index == 1));
        assert_eq!((after, texts(&entry)), (1, vec!["b".to_owned()]));
        writer.acked(2);
        assert_eq!(
            (writer.stopped(), writer.next_index()),
            (Some(Stop::Finished), 2)
        );
    }

    #[test]
    fn a_rest_that_is_too_large_goes_before_the_final() {
        let mut writer = Writer::new(1, 0, 0);
        (0..3).for_each(|_| writer.push(piece(&"x".repeat(60 * 1024))));
        writer.finish(end());
        let (_, entry) = published(&mut writer);
        assert!(matches!(&entry, Entry::Frame(frame) if frame.pieces.len() == 2));
        writer.acked(1);
        let (_, entry) = published(&mut writer);
        assert!(matches!(&entry, Entry::Final(_)) && texts(&entry).len() == 1);
    }

    #[test]
    fn a_frame_given_up_for_lost_may_still_win_over_the_final_with_its_pieces() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        let (_, first) = published(&mut writer);
        writer.push(piece("b"));
        writer.finish(end());
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(None);
        let (_, entry) = published(&mut writer);
        assert_eq!(texts(&entry), ["a", "b"]);
        writer.unsure();
        must_read(&mut writer);
        writer.last_is(Some((3, &first)));
        let (after, entry) = published(&mut writer);
        assert_eq!((after, texts(&entry)), (3, vec!["b".to_owned()]));
    }

    #[test]
    fn gathered_pieces_wait_until_they_are_due_or_the_end_comes() {
        let mut writer = Writer::new(1, 0, 0).gathering();
        writer.push(piece("a"));
        assert!(writer.next_effect().is_none());
        writer.flush();
        assert_eq!(texts(&published(&mut writer).1), ["a"]);
        writer.acked(1);
        writer.push(piece("b"));
        assert!(writer.next_effect().is_none());
        writer.finish(end());
        let (_, entry) = published(&mut writer);
        assert!(matches!(&entry, Entry::Final(_)));
        assert_eq!(texts(&entry), ["b"]);
    }

    #[test]
    fn an_attempt_that_failed_sends_nothing_more() {
        let mut writer = Writer::new(1, 0, 0);
        writer.push(piece("a"));
        published(&mut writer);
        writer.push(piece("b"));
        writer.abandon();
        writer.acked(7);
        assert!(writer.next_effect().is_none());
        assert_eq!((writer.has_stored(), writer.sequence()), (true, 7));
    }

    #[test]
    fn nothing_is_pushed_behind_the_end() {
        let mut writer = Writer::new(1, 0, 0);
        writer.finish(end());
        writer.push(piece("late"));
        let (_, entry) = published(&mut writer);
        assert!(matches!(entry, Entry::Final(end) if end.rest.is_none()));
    }
}
