//! Joins the rest of an answer to its beginning.
//!
//! An engine that goes on behind a text may repeat that text first, and it looks
//! for stop strings only in what it says itself. Both are put right here.

use orchion_contract::job::JobSpec;
use orchion_contract::transcript::Piece;
use orchion_transcript::Prefix;
use serde::Deserialize;

/// A shorter beginning that comes again is no repetition, but the answer:
/// `ha` goes on with `ha`.
const LEAST_ECHO: usize = 12;

/// The place where two parts of an answer meet.
#[derive(Debug, Clone)]
pub struct Seam {
    /// The beginning, until it is clear that it is not repeated.
    echo: Option<String>,
    /// The end of the beginning, as far as a stop string may begin in it.
    tail: String,
    stops: Vec<String>,
    /// What came and may yet turn out to be the end of a stop string.
    held: Vec<Piece>,
    said: String,
    /// Whether no stop string can lie over the seam any more.
    is_clear: bool,
}

impl Seam {
    /// Where the answer to `spec` goes on behind `prefix`.
    #[must_use]
    pub fn new(spec: &JobSpec, prefix: &Prefix) -> Self {
        let stops = stops(spec);
        let longest = stops.iter().map(String::len).max().unwrap_or_default();
        let from = prefix.text.len().saturating_sub(longest);
        let from = (from..prefix.text.len()).find(|at| prefix.text.is_char_boundary(*at));
        let tail = from.map_or("", |from| &prefix.text[from..]).to_owned();
        Self {
            echo: (prefix.text.len() >= LEAST_ECHO).then(|| prefix.text.clone()),
            is_clear: tail.is_empty(),
            tail,
            stops,
            held: Vec::new(),
            said: String::new(),
        }
    }

    /// Takes what the engine says and appends to `out` what may be shown;
    /// whether a stop string over the seam ends the answer.
    pub fn take(&mut self, mut piece: Piece, out: &mut Vec<Piece>) -> bool {
        if let Some(text) = &mut piece.text
            && let Some(echo) = self.echo.take()
            && let Some(rest) = text.strip_prefix(&echo)
        {
            *text = rest.to_owned();
            if text.is_empty() {
                return false;
            }
        }
        if self.is_clear {
            out.push(piece);
            return false;
        }
        self.said
            .push_str(piece.text.as_deref().unwrap_or_default());
        self.held.push(piece);
        let joined = format!("{}{}", self.tail, self.said);
        let places = (0..self.tail.len()).filter(|at| joined.is_char_boundary(*at));
        let mut may_be = false;
        for at in places {
            let from = &joined[at..];
            if self.stops.iter().any(|stop| {
                // One that ends before the seam was the engine's own affair.
                from.starts_with(stop.as_str()) && at + stop.len() > self.tail.len()
            }) {
                return true;
            }
            may_be |= self.stops.iter().any(|stop| stop.starts_with(from));
        }
        if !may_be {
            self.is_clear = true;
            out.append(&mut self.held);
        }
        false
    }

    /// The answer has ended: what was held back is text.
    pub fn end(&mut self, out: &mut Vec<Piece>) {
        out.append(&mut self.held);
    }
}

fn stops(spec: &JobSpec) -> Vec<String> {
    #[derive(Deserialize)]
    struct Asked {
        stop: Option<Stop>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stop {
        One(String),
        Many(Vec<String>),
    }
    let asked = serde_json::from_str::<Asked>(spec.body.get()).ok();
    let mut stops = match asked.and_then(|asked| asked.stop) {
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Many(stops)) => stops,
        None => Vec::new(),
    };
    stops.retain(|stop| !stop.is_empty());
    stops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuation::tests::{said_text, spec};

    fn piece(text: &str) -> Piece {
        Piece {
            text: Some(text.to_owned()),
            tokens: 1,
            ..Piece::default()
        }
    }

    /// What is shown of `pieces`, and whether the seam ended the answer.
    fn joined(body: &str, prefix: &str, pieces: &[&str]) -> (String, bool) {
        let mut seam = Seam::new(&spec(body), &said_text(prefix));
        let mut out = Vec::new();
        let has_stopped = pieces.iter().any(|text| seam.take(piece(text), &mut out));
        if !has_stopped {
            seam.end(&mut out);
        }
        let text = out.into_iter().filter_map(|piece| piece.text).collect();
        (text, has_stopped)
    }

    const STOP: &str = r#"{"stop":["END","\n\n"]}"#;

    #[test]
    fn what_follows_is_handed_on() {
        let whole = ("c d".to_owned(), false);
        assert_eq!(joined("{}", "a b ", &["c ", "d"]), whole);
        assert_eq!(joined(STOP, "a b ", &["c ", "d"]), whole);
    }

    #[test]
    fn a_repeated_beginning_is_cut_off() {
        let beginning = "Once upon a time";
        let rest = (" there was".to_owned(), false);
        assert_eq!(
            joined("{}", beginning, &["Once upon a time there", " was"]),
            rest
        );
        assert_eq!(
            joined("{}", beginning, &["Once upon a time", " there", " was"]),
            rest
        );
        // Only at once, and only when it is long enough to be one.
        let twice = joined("{}", beginning, &[", once ", "Once upon a time"]);
        assert_eq!(twice.0, ", once Once upon a time");
        assert_eq!(joined("{}", "ha", &["ha", "ha"]).0, "haha");
    }

    #[test]
    fn a_stop_string_over_the_seam_ends_the_answer() {
        assert_eq!(
            joined(STOP, "all E", &["N", "D more"]),
            (String::new(), true)
        );
        assert_eq!(joined(STOP, "one\n", &["\ntwo"]), (String::new(), true));
        assert_eq!(
            joined(r#"{"stop":"END"}"#, "all EN", &["D"]),
            (String::new(), true)
        );
    }

    #[test]
    fn what_only_looked_like_a_stop_string_is_shown() {
        assert_eq!(joined(STOP, "all E", &["N", "E"]), ("NE".to_owned(), false));
        assert_eq!(joined(STOP, "all E", &["N"]), ("N".to_owned(), false));
        // The engine finds those that lie behind the seam.
        assert_eq!(joined(STOP, "all ", &["END"]), ("END".to_owned(), false));
        assert_eq!(joined(STOP, "é", &["N"]), ("N".to_owned(), false));
    }
}
