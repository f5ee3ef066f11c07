//! What a later attempt finds in the chain.

use crate::reader::{Error, Reader, Shown};
use orchion_contract::node::EngineRef;
use orchion_contract::transcript::{Entry, Final, Piece};

/// The answer so far, as the next attempt needs it.
#[derive(Debug, Clone, Default)]
pub struct Prefix {
    reader: Reader,
    /// Text of the answer.
    pub text: String,
    /// Text of the reasoning.
    pub reasoning: String,
    /// Token ids of the text; `None` as soon as one piece came without.
    pub ids: Option<Vec<u32>>,
    /// Tokens generated.
    pub tokens: u64,
    /// Everything that was said, as it was said.
    pub pieces: Vec<Piece>,
    /// The engine that wrote it, when the answer was started over.
    pub engine: Option<EngineRef>,
    /// The end, when the job has ended.
    pub end: Option<Box<Final>>,
}

impl Prefix {
    /// Nothing was stored yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ids: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Adds the next entry of the chain.
    ///
    /// # Errors
    /// [`Error`] when the entries cannot be a transcript.
    pub fn apply(&mut self, sequence: u64, entry: Entry) -> Result<(), Error> {
        let mut shown = Vec::new();
        let engine = match &entry {
            Entry::Restart(restart) => restart.engine.clone(),
            Entry::Frame(_) | Entry::Mark(_) | Entry::Final(_) => None,
        };
        self.reader.apply(sequence, entry, &mut shown)?;
        for shown in shown {
            self.add(shown);
        }
        self.engine = engine.or_else(|| self.engine.take());
        Ok(())
    }

    /// Index of the next piece.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.reader.next_index()
    }

    /// Sequence of the last entry.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.reader.sequence()
    }

    /// Whether nothing was said yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it holds a part of a tool call.
    #[must_use]
    pub fn has_tool_call(&self) -> bool {
        self.pieces.iter().any(|piece| piece.tool_calls.is_some())
    }

    /// Whether it holds a part of another choice than the first.
    #[must_use]
    pub fn has_choices(&self) -> bool {
        self.pieces.iter().any(|piece| piece.choice != 0)
    }

    /// Whether it holds results that are not text.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.pieces.iter().any(|piece| piece.data.is_some())
    }

    fn add(&mut self, shown: Shown) {
        match shown {
            Shown::Piece { piece, .. } => {
                self.text
                    .push_str(piece.text.as_deref().unwrap_or_default());
                self.reasoning
                    .push_str(piece.reasoning.as_deref().unwrap_or_default());
                self.tokens += u64::from(piece.tokens);
                match (&mut self.ids, &piece.ids) {
                    (Some(ids), Some(more)) => ids.extend_from_slice(more),
                    (Some(_), None) if piece.tokens == 0 => {}
                    (Some(_) | None, _) => self.ids = None,
                }
                self.pieces.push(piece);
            }
            Shown::Restarted { .. } => {
                let (reader, end) = (std::mem::take(&mut self.reader), self.end.take());
                *self = Self {
                    reader,
                    end,
                    ..Self::new()
                };
            }
            Shown::Ended(end) => self.end = Some(end),
        }
    }
}
