//! Where the pieces of an attempt come from.

use futures_util::future::BoxFuture;
use orchion_contract::transcript::Piece;

use crate::engine::{Answer, Error, Said};

/// An answer that is being asked for.
pub(super) type Opening<'a> = BoxFuture<'a, Result<Answer, Error>>;

/// Where pieces come from.
pub(super) enum Source<'a> {
    /// The engine was asked.
    Opening(Opening<'a>),
    /// It answers.
    Open(Box<Answer>),
    /// Nothing comes any more; the engine is free.
    Closed,
}

/// What the engine did.
pub(super) enum Heard {
    Opened(Box<Answer>),
    Said(Said),
    Failed(Error),
}

impl Source<'_> {
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// What the engine does next; waits for ever when it is closed.
    pub(super) async fn next(&mut self, pieces: &mut Vec<Piece>) -> Heard {
        match self {
            Self::Opening(opening) => match opening.await {
                Ok(answer) => Heard::Opened(Box::new(answer)),
                Err(error) => Heard::Failed(error),
            },
            Self::Open(answer) => match answer.next(pieces).await {
                Ok(said) => Heard::Said(said),
                Err(error) => Heard::Failed(error),
            },
            Self::Closed => std::future::pending().await,
        }
    }
}
