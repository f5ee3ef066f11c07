//! What clients saw of a job, and whether that may be.
//!
//! Nothing but the clients' side is looked at: the tokens that reached each of
//! them, numbered by the mock engine, and how each answer ended. One job may
//! have several viewers; a viewer that loses its connection resumes.

use std::collections::BTreeMap;
use std::fmt;

/// Something that one viewer saw, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A token of this job, by its number.
    Token(u32),
    /// A token of another job.
    Foreign,
    /// Text that is no token.
    Garbled,
    /// The end of the answer.
    End(Ending),
}

/// How an answer ended, as a viewer was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// With so many tokens, as its usage says.
    Completed(u64),
    /// Not wanted any more.
    Canceled,
    /// With an error of this code.
    Failed(String),
}

/// One viewer of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// What it saw.
    pub(crate) events: Vec<Event>,
    /// It went away, or its gateway did, and another viewer took its place: it
    /// needs no end.
    pub(crate) is_cut: bool,
    /// It began after a cancel had been answered.
    pub(crate) after_cancel: bool,
    /// The id of the last event: where it resumes.
    pub(crate) next: u64,
}

/// Everything that clients saw of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Tokens asked for.
    pub(crate) tokens: u32,
    /// A cancel was asked for.
    pub(crate) was_canceled: bool,
    /// Who looked.
    pub(crate) views: Vec<View>,
}

/// What may never be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// A token was left out.
    Lost,
    /// A token came twice.
    Doubled,
    /// Tokens overtook each other.
    Reordered,
    /// A token of another job, or no token at all.
    Foreign,
    /// An answer without an end.
    NoEnd,
    /// More than one end, or something behind the end.
    SecondEnd,
    /// Viewers were told different ends, or saw answers of different length.
    Disagree,
    /// A completed answer with another length than was asked for.
    WrongLength,
    /// A job that nobody canceled was canceled.
    CanceledByNobody,
    /// Tokens for one who looked after the cancel that earlier viewers had not.
    TokenAfterCancel,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost token",
            Self::Doubled => "doubled token",
            Self::Reordered => "reordered token",
            Self::Foreign => "foreign token",
            Self::NoEnd => "no end",
            Self::SecondEnd => "second end",
            Self::Disagree => "viewers disagree",
            Self::WrongLength => "wrong length",
            Self::CanceledByNobody => "canceled by nobody",
            Self::TokenAfterCancel => "token after the cancel",
        })
    }
}

/// Says everything that is wrong with a job's history; nothing when all is well.
pub(crate) fn judge(history: &History) -> Vec<Violation> {
    let mut found: Vec<Violation> = history.views.iter().flat_map(judge_view).collect();
    let whole: Vec<(&View, &Ending)> = history
        .views
        .iter()
        .filter_map(|view| Some((view, view.ending()?)))
        .collect();
    if whole.is_empty() && found.is_empty() {
        found.push(Violation::NoEnd);
    }
    let mut endings: BTreeMap<&Ending, u32> = BTreeMap::new();
    for (view, ending) in &whole {
        endings.entry(ending).or_insert(view.tokens());
        match ending {
            Ending::Completed(said) => {
                if *said != u64::from(history.tokens) || view.tokens() != history.tokens {
                    found.push(Violation::WrongLength);
                }
            }
            Ending::Canceled if !history.was_canceled => found.push(Violation::CanceledByNobody),
            Ending::Canceled | Ending::Failed(_) => {}
        }
    }
    if endings.len() > 1 {
        found.push(Violation::Disagree);
    }
    found.extend(lengths(&whole));
    found.sort_unstable();
    found.dedup();
    found
}

/// Everybody who saw the end saw as much, and nobody who left early saw more.
fn lengths(whole: &[(&View, &Ending)]) -> Option<Violation> {
    let before = whole.iter().filter(|(view, _)| !view.after_cancel);
    let before = before.map(|(view, _)| view.tokens());
    let (least, most) = (before.clone().min()?, before.max()?);
    let late = whole.iter().filter(|(view, _)| view.after_cancel);
    let late = late.map(|(view, _)| view.tokens()).max();
    if least != most {
        return Some(Violation::Disagree);
    }
    late.filter(|late| *late > most)
        .map(|_| Violation::TokenAfterCancel)
        .or_else(|| late.filter(|late| *late < most).map(|_| Violation::Lost))
}

fn judge_view(view: &View) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut next = 0;
    let mut missing = Vec::new();
    let mut has_ended = false;
    for event in &view.events {
        if has_ended {
            found.push(Violation::SecondEnd);
        }
        match event {
            Event::Token(index) if *index == next => next += 1,
            Event::Token(index) if *index > next => {
                missing.extend(next..*index);
                next = index + 1;
            }
            Event::Token(index) => match missing.iter().position(|one| one == index) {
                Some(at) => {
                    missing.swap_remove(at);
                    found.push(Violation::Reordered);
                }
                None => found.push(Violation::Doubled),
            },
            Event::Foreign | Event::Garbled => found.push(Violation::Foreign),
            Event::End(_) => has_ended = true,
        }
    }
    if !missing.is_empty() {
        found.push(Violation::Lost);
    }
    if !has_ended && !view.is_cut {
        found.push(Violation::NoEnd);
    }
    found
}

impl View {
    /// The end that it was told first.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.events.iter().find_map(|event| match event {
            Event::End(ending) => Some(ending),
            Event::Token(_) | Event::Foreign | Event::Garbled => None,
        })
    }

    /// Tokens seen.
    pub(crate) fn tokens(&self) -> u32 {
        let tokens = self.events.iter();
        let tokens = tokens.filter(|event| matches!(event, Event::Token(_)));
        u32::try_from(tokens.count()).unwrap_or(u32::MAX)
    }
}

/// Cuts the text of an answer into its tokens.
#[derive(Debug)]
pub(crate) struct Cutter {
    nonce: u32,
    rest: String,
}

impl Cutter {
    pub(crate) fn new(nonce: u32) -> Self {
        Self {
            nonce,
            rest: String::new(),
        }
    }

    /// Takes the next piece of text; tokens end with a space.
    pub(crate) fn feed(&mut self, text: &str, events: &mut Vec<Event>) {
        self.rest.push_str(text);
        let Some(end) = self.rest.rfind(' ') else {
            return;
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        events.extend(whole.split_ascii_whitespace().map(|word| self.token(word)));
    }

    /// The answer is over: what is left is a token, too.
    pub(crate) fn finish(&mut self, events: &mut Vec<Event>) {
        self.feed(" ", events);
    }

    fn token(&self, word: &str) -> Event {
        let mut parts = word.split('.');
        let nonce = parts
            .next()
            .and_then(|nonce| u32::from_str_radix(nonce, 16).ok());
        let index = parts.next().and_then(|index| index.parse().ok());
        match (nonce, index) {
            (Some(nonce), Some(index)) if nonce == self.nonce => Event::Token(index),
            (Some(_), Some(_)) => Event::Foreign,
            (Some(_) | None, _) => Event::Garbled,
        }
    }
}

#[cfg(test)]
mod tests;
