//! Swallows what an engine says again.
//!
//! An answer that is generated a second time is compared with what was shown,
//! piece by piece, however the engine cuts its pieces now. What equals it is
//! swallowed; what goes beyond it is handed on once everything that was shown
//! has come again. At the first difference it is over: nothing was handed on,
//! so another way can be taken.

mod said;

use orchion_contract::transcript::Piece;
use orchion_transcript::Prefix;
use std::collections::BTreeMap;

use said::Said;

/// What comes is not what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine said something else after {tokens} tokens")]
pub struct Differs {
    /// Tokens that were equal.
    pub tokens: u64,
}

/// Compares a second answer with the beginning of the first.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What was shown of each choice and has not come again.
    missing: BTreeMap<u32, Said>,
    /// Tokens that were shown.
    shown: u64,
    /// Tokens that came.
    came: u64,
    /// What goes beyond the beginning of its choice, while others are not so far.
    ahead: Vec<Piece>,
    swallowed: u64,
}

impl Replay {
    /// Expects what stands in `prefix`.
    #[must_use]
    pub fn new(prefix: &Prefix) -> Self {
        let mut missing = BTreeMap::<u32, Said>::new();
        for piece in &prefix.pieces {
            missing.entry(piece.choice).or_default().add(piece);
        }
        missing.retain(|_, said| !said.is_empty());
        Self {
            missing,
            shown: prefix.tokens,
            came: 0,
            ahead: Vec::new(),
            swallowed: 0,
        }
    }

    /// Whether everything that was shown has come again.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.missing.is_empty()
    }

    /// Tokens that came again and were not handed on.
    #[must_use]
    pub fn swallowed(&self) -> u64 {
        self.swallowed
    }

    /// Takes what the engine says; appends to `out` what is new.
    ///
    /// # Errors
    /// [`Differs`] when it is not what was shown; nothing was handed on then.
    pub fn take(&mut self, piece: Piece, out: &mut Vec<Piece>) -> Result<(), Differs> {
        let before = self.came;
        self.came += u64::from(piece.tokens);
        let Some(said) = self.missing.get_mut(&piece.choice) else {
            match self.is_through() {
                true => out.push(piece),
                false => self.ahead.push(piece),
            }
            return Ok(());
        };
        let choice = piece.choice;
        let rest = said
            .swallow(&piece)
            .map_err(|_| Differs { tokens: before })?;
        if said.is_empty() {
            self.missing.remove(&choice);
        }
        match rest {
            None => self.swallowed += self.came - before,
            Some(mut rest) => {
                // It was cut in two: its tokens are those that were not shown.
                let new = self.came.saturating_sub(self.shown.max(before));
                rest.tokens = u32::try_from(new).unwrap_or(u32::MAX);
                self.swallowed += (self.came - before).saturating_sub(new);
                self.ahead.push(rest);
            }
        }
        if self.is_through() {
            out.append(&mut self.ahead);
        }
        Ok(())
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// [`Differs`] when it ended before everything that was shown had come.
    pub fn end(&self) -> Result<(), Differs> {
        match self.is_through() {
            true => Ok(()),
            false => Err(Differs { tokens: self.came }),
        }
    }
}

#[cfg(test)]
mod tests;
