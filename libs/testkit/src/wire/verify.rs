//! The judge of one answer.

use clap::ValueEnum;

/// Indexes of missing tokens that are remembered, to tell re-ordered from lost.
const REMEMBERED: usize = 4_096;

/// How an answer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// Every token: right request, right order, none missing, none doubled.
    Full,
    /// Only the number of pieces, for engines that are not ours.
    Count,
    /// Anything that ends cleanly.
    None,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// A token of another answer.
    Foreign,
    /// A token that came twice.
    Doubled,
    /// Tokens that overtook each other.
    Reordered,
    /// A token left out in the middle.
    Missing,
    /// Text that is no token.
    Garbled,
    /// Tokens left out at the end.
    Truncated,
    /// Tokens past the end.
    Excess,
    /// Fewer pieces than expected.
    FewerPieces,
    /// More pieces than expected.
    MorePieces,
}

impl Flaw {
    /// The name of its class in results.
    pub fn class(self) -> &'static str {
        match self {
            Self::Foreign => "content:foreign_token",
            Self::Doubled => "content:doubled_token",
            Self::Reordered => "content:reordered_token",
            Self::Missing => "content:missing_token",
            Self::Garbled => "content:garbled",
            Self::Truncated => "content:truncated",
            Self::Excess => "content:excess_token",
            Self::FewerPieces => "content:fewer_pieces",
            Self::MorePieces => "content:more_pieces",
        }
    }
}

/// One verified token, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// When the engine wrote it, in microseconds on the shared clock; 0 when the
    /// engine is not ours.
    pub emitted_us: u64,
    /// When the request reached the engine; on the first token only.
    pub arrived_us: Option<u64>,
    /// The name of the engine; empty when it is not ours.
    pub engine: &'a str,
}

/// Checks one answer, fed in pieces of any size.
#[derive(Debug)]
pub struct Verifier {
    check: Check,
    nonce: u32,
    next: u32,
    got: u32,
    missing: Vec<u32>,
    is_doubled: bool,
    is_reordered: bool,
    is_foreign: bool,
    is_garbled: bool,
    /// The beginning of a token whose end has not come yet.
    tail: String,
}

impl Verifier {
    /// Expects the answer `nonce`.
    pub fn new(check: Check, nonce: u32) -> Self {
        Self {
            check,
            nonce,
            next: 0,
            got: 0,
            missing: Vec::new(),
            is_doubled: false,
            is_reordered: false,
            is_foreign: false,
            is_garbled: false,
            tail: String::new(),
        }
    }

    /// Tokens received so far; pieces when tokens are not checked.
    pub fn got(&self) -> u32 {
        self.got
    }

    /// Takes the next piece of text and calls `on_token` for each token that it
    /// completes.
    pub fn feed(&mut self, text: &str, mut on_token: impl FnMut(Seen<'_>)) {
        if text.is_empty() {
            return;
        }
        if self.check != Check::Full {
            self.got += 1;
            return on_token(Seen {
                emitted_us: 0,
                arrived_us: None,
                engine: "",
            });
        }
        if self.tail.is_empty() && text.ends_with(' ') {
            return self.words(text, &mut on_token);
        }
        let mut joined = std::mem::take(&mut self.tail);
        joined.push_str(text);
        match joined.rfind(' ') {
            Some(cut) => {
                self.words(&joined[..cut], &mut on_token);
                joined.drain(..=cut);
                self.tail = joined;
            }
            None => self.tail = joined,
        }
    }

    /// The verdict at the end of an answer of `expected` tokens: none if good.
    pub fn finish(&mut self, expected: u32, on_token: impl FnMut(Seen<'_>)) -> Option<Flaw> {
        if !self.tail.is_empty() {
            self.feed(" ", on_token);
        }
        match self.check {
            Check::None => None,
            Check::Count if self.got < expected => Some(Flaw::FewerPieces),
            Check::Count => (self.got > expected).then_some(Flaw::MorePieces),
            Check::Full => self.flaw_so_far().or_else(|| {
                let short = (self.next < expected).then_some(Flaw::Truncated);
                short.or_else(|| (self.next > expected).then_some(Flaw::Excess))
            }),
        }
    }

    /// What is wrong already, before the end.
    pub fn flaw_so_far(&self) -> Option<Flaw> {
        let flaws = [
            (self.is_foreign, Flaw::Foreign),
            (self.is_doubled, Flaw::Doubled),
            (self.is_reordered, Flaw::Reordered),
            (!self.missing.is_empty(), Flaw::Missing),
            (self.is_garbled, Flaw::Garbled),
        ];
        let mut found = flaws.into_iter().filter(|(is_there, _)| *is_there);
        found.next().map(|(_, flaw)| flaw)
    }

    fn words(&mut self, text: &str, on_token: &mut impl FnMut(Seen<'_>)) {
        for word in text.split_ascii_whitespace() {
            self.word(word, on_token);
        }
    }

    fn word(&mut self, word: &str, on_token: &mut impl FnMut(Seen<'_>)) {
        let Some((nonce, index, seen)) = parse(word) else {
            self.is_garbled = true;
            return;
        };
        if nonce != self.nonce {
            self.is_foreign = true;
            return;
        }
        self.got += 1;
        if index == self.next {
            self.next += 1;
        } else if index > self.next {
            self.note_missing(index);
            self.next = index.saturating_add(1);
        } else if let Some(at) = self.missing.iter().position(|missing| *missing == index) {
            self.missing.swap_remove(at);
            self.is_reordered = true;
        } else {
            self.is_doubled = true;
        }
        on_token(seen);
    }

    fn note_missing(&mut self, until: u32) {
        let room = REMEMBERED.saturating_sub(self.missing.len());
        self.missing.extend((self.next..until).take(room));
    }
}

fn parse(word: &str) -> Option<(u32, u32, Seen<'_>)> {
    let mut parts = word.split('.');
    let nonce = u32::from_str_radix(parts.next()?, 16).ok()?;
    let index = parts.next()?.parse().ok()?;
    let emitted_us = u64::from_str_radix(parts.next()?, 36).ok()?;
    let engine = parts.next()?;
    let arrived_us = match parts.next() {
        Some(field) => Some(u64::from_str_radix(field, 36).ok()?),
        None => None,
    };
    let seen = Seen {
        emitted_us,
        arrived_us,
        engine,
    };
    Some((nonce, index, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::push_token;

    fn answer(nonce: u32, indices: &[u32]) -> String {
        let mut out = Vec::new();
        for &index in indices {
            let arrived = (index == 0).then_some(77);
            push_token(&mut out, nonce, index, 1_234_567, "a", arrived);
        }
        String::from_utf8(out).unwrap()
    }

    fn verdict(indices: &[u32], expected: u32, piece: usize) -> Option<Flaw> {
        let text = answer(0xbeef, indices);
        let mut verifier = Verifier::new(Check::Full, 0xbeef);
        for chunk in text.as_bytes().chunks(piece) {
            verifier.feed(std::str::from_utf8(chunk).unwrap(), |_| {});
        }
        verifier.finish(expected, |_| {})
    }

    #[test]
    fn verdicts_for_pieces_of_any_size() {
        for piece in [1, 7, 4_096] {
            assert_eq!(verdict(&[0, 1, 2, 3], 4, piece), None);
            assert_eq!(verdict(&[0, 1, 2], 4, piece), Some(Flaw::Truncated));
            assert_eq!(verdict(&[0, 1, 3, 4], 5, piece), Some(Flaw::Missing));
            assert_eq!(verdict(&[0, 1, 1, 2], 3, piece), Some(Flaw::Doubled));
            assert_eq!(verdict(&[0, 2, 1, 3], 4, piece), Some(Flaw::Reordered));
            assert_eq!(verdict(&[0, 1, 2, 3, 4], 4, piece), Some(Flaw::Excess));
        }
    }

    #[test]
    fn a_token_says_where_and_when_it_was_made() {
        let mut verifier = Verifier::new(Check::Full, 7);
        let mut seen = Vec::new();
        verifier.feed(&answer(7, &[0, 1]), |token| {
            seen.push((token.emitted_us, token.arrived_us, token.engine.to_owned()));
        });
        let token = |arrived| (1_234_567, arrived, "a".to_owned());
        assert_eq!(seen, [token(Some(77)), token(None)]);
    }

    #[test]
    fn a_foreign_token_is_seen() {
        let mut verifier = Verifier::new(Check::Full, 1);
        verifier.feed(&answer(1, &[0]), |_| {});
        verifier.feed(&answer(2, &[1]), |_| {});
        assert_eq!(verifier.flaw_so_far(), Some(Flaw::Foreign));
        assert_eq!(verifier.finish(2, |_| {}), Some(Flaw::Foreign));
    }

    #[test]
    fn text_that_is_no_token_is_garbled() {
        let mut verifier = Verifier::new(Check::Full, 1);
        verifier.feed(&answer(1, &[0]), |_| {});
        verifier.feed("hello ", |_| {});
        assert_eq!(verifier.finish(1, |_| {}), Some(Flaw::Garbled));
    }

    #[test]
    fn a_trailing_space_may_be_trimmed() {
        let text = answer(7, &[0, 1]);
        let mut verifier = Verifier::new(Check::Full, 7);
        verifier.feed(text.trim_end(), |_| {});
        assert_eq!(verifier.finish(2, |_| {}), None);
    }

    #[test]
    fn counting_looks_at_pieces_only() {
        let mut verifier = Verifier::new(Check::Count, 7);
        verifier.feed("anything", |_| {});
        assert_eq!(verifier.finish(2, |_| {}), Some(Flaw::FewerPieces));
        verifier.feed("more", |_| {});
        assert_eq!(verifier.finish(2, |_| {}), None);
    }
}
