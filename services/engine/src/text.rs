//! Puts tokens together to text that may be shown.
//!
//! A piece is shown only when it is whole: no half of a character, and nothing that may
//! yet turn out to be the beginning of a stop string. So a shown text can be cut after
//! any piece and continued from the ids that came with it.

use std::mem;

/// Text that may be shown, and the ids of exactly the tokens it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Never empty.
    pub text: String,
    /// Tokens without text (control tokens) belong to the next piece with text. Empty
    /// only for a text cut in the middle of a token, by a stop string or by the end.
    pub ids: Vec<u32>,
}

/// What a token leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing may be shown yet.
    Hold,
    /// A whole piece.
    Show(Piece),
    /// A stop string is complete: the answer ends with this text before it, if any.
    Stop(Option<Piece>),
}

/// Collects tokens until they make a piece.
pub struct Assembler {
    stops: Vec<String>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

impl Assembler {
    /// Watches for `stops`; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self {
            stops,
            bytes: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Takes the next token and the bytes it stands for.
    pub fn push(&mut self, id: u32, bytes: &[u8]) -> Step {
        self.ids.push(id);
        self.bytes.extend_from_slice(bytes);
        if self.bytes.is_empty() || unfinished(&self.bytes) > 0 {
            return Step::Hold;
        }
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        if let Some(at) = self.stops.iter().filter_map(|stop| text.find(stop)).min() {
            let before = text[..at].to_owned();
            let shown = !before.is_empty();
            return Step::Stop(shown.then_some(Piece {
                text: before,
                ids: Vec::new(),
            }));
        }
        if self.stops.iter().any(|stop| may_begin(&text, stop)) {
            return Step::Hold;
        }
        self.bytes.clear();
        Step::Show(Piece {
            text,
            ids: mem::take(&mut self.ids),
        })
    }

    /// What was held back, now that no token follows. Half a character is dropped.
    pub fn finish(mut self) -> Option<Piece> {
        let unfinished = unfinished(&self.bytes);
        if unfinished > 0 {
            self.ids.clear();
        }
        self.bytes.truncate(self.bytes.len() - unfinished);
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        (!text.is_empty()).then_some(Piece {
            text,
            ids: self.ids,
        })
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) => return 0,
            Err(error) => match error.error_len() {
                None => return rest.len() - error.valid_up_to(),
                // Never part of a character: shown as a replacement character.
                Some(len) => rest = &rest[error.valid_up_to() + len..],
            },
        }
    }
}

/// Whether `text` ends with the beginning of `stop`.
fn may_begin(text: &str, stop: &str) -> bool {
    let beginnings = stop.char_indices().skip(1).map(|(at, _)| &stop[..at]);
    beginnings
        .into_iter()
        .any(|beginning| text.ends_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, ids: &[u32]) -> Step {
        Step::Show(Piece {
            text: text.into(),
            ids: ids.into(),
        })
    }

    fn push_all(stops: &[&str], tokens: &[&[u8]]) -> (Vec<Step>, Option<Piece>) {
        let mut assembler = Assembler::new(stops.iter().map(|&stop| stop.into()).collect());
        let steps = tokens
            .iter()
            .zip(0..)
            .map(|(bytes, id)| assembler.push(id, bytes))
            .collect();
        (steps, assembler.finish())
    }

    #[test]
    fn plain_tokens_are_shown_at_once() {
        let (steps, rest) = push_all(&[], &[b"a", b" b"]);
        assert_eq!(steps, [show("a", &[0]), show(" b", &[1])]);
        assert_eq!(rest, None);
    }

    #[test]
    fn a_character_of_several_tokens_comes_whole_with_all_ids() {
        let (steps, _) = push_all(&[], &[b"\xc3", b"\xa9", b"\xe2\x82", b"\xac!"]);
        assert_eq!(
            steps,
            [
                Step::Hold,
                show("é", &[0, 1]),
                Step::Hold,
                show("€!", &[2, 3])
            ]
        );
    }

    #[test]
    fn bytes_of_no_character_do_not_hold_the_text_for_ever() {
        let (steps, _) = push_all(&[], &[b"\xff", b"\xc3", b"x"]);
        assert_eq!(
            steps,
            [
                show("\u{fffd}", &[0]),
                Step::Hold,
                show("\u{fffd}x", &[1, 2])
            ]
        );
    }

    #[test]
    fn half_a_character_at_the_end_is_dropped() {
        let (steps, rest) = push_all(&[], &[b"a", b"b\xc3"]);
        assert_eq!(steps, [show("a", &[0]), Step::Hold]);
        assert_eq!(
            rest,
            Some(Piece {
                text: "b".into(),
                ids: vec![]
            })
        );
    }

    #[test]
    fn a_stop_string_over_several_tokens_is_never_shown() {
        let (steps, _) = push_all(&["END"], &[b"go ", b"on E", b"N", b"D more"]);
        let last = Step::Stop(Some(Piece {
            text: "on ".into(),
            ids: vec![],
        }));
        assert_eq!(steps, [show("go ", &[0]), Step::Hold, Step::Hold, last]);
    }

    #[test]
    fn what_looked_like_a_stop_string_is_shown_when_it_is_none() {
        let (steps, _) = push_all(&["END"], &[b"E", b"N", b"E", b"x"]);
        let shown = show("ENEx", &[0, 1, 2, 3]);
        assert_eq!(steps, [Step::Hold, Step::Hold, Step::Hold, shown]);
    }

    #[test]
    fn the_first_of_several_stop_strings_wins() {
        let (steps, _) = push_all(&["b", "a"], &[b"xaby"]);
        assert_eq!(
            steps,
            [Step::Stop(Some(Piece {
                text: "x".into(),
                ids: vec![]
            }))]
        );
        let (steps, _) = push_all(&["", "x"], &[b"x"]);
        assert_eq!(steps, [Step::Stop(None)]);
    }

    #[test]
    fn held_text_is_shown_at_the_end() {
        let (_, rest) = push_all(&["END"], &[b"E", b"N"]);
        assert_eq!(
            rest,
            Some(Piece {
                text: "EN".into(),
                ids: vec![0, 1]
            })
        );
    }

    #[test]
    fn control_tokens_travel_with_the_next_text() {
        let (steps, rest) = push_all(&[], &[b"", b"a", b""]);
        assert_eq!(steps, [Step::Hold, show("a", &[0, 1]), Step::Hold]);
        assert_eq!(rest, None);
    }
}
