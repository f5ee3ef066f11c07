//! An answer, streamed or in one body: from bytes to pieces.

use hyper::StatusCode;
use orchion_contract::job::Usage;
use orchion_contract::transcript::Piece;

use super::Error;
use super::chunk::{self, Chunk, RawChunk, Seen};
use super::http::{Begun, Body};
use super::sse::{Line, Lines};

/// Characters of an engine's message that are passed on.
const LONGEST_MESSAGE: usize = 300;
/// Largest answer in one body, in bytes.
const LARGEST: usize = 8 << 20;

/// In which form an engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenAI's chunks, of chat or completion.
    OpenAi,
    /// OpenAI's answer in one body.
    Whole,
    /// llama-server's own `/completion`, which ends with a chunk that says
    /// `stop` and needs no `[DONE]`.
    Raw,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Something; there may be no piece in it.
    Something,
    /// The end: nothing follows.
    End(Ending),
}

/// How an engine ended its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Why it stopped.
    pub finish_reason: String,
    /// What it counted, for this request alone; `None` when it did not say.
    pub usage: Option<Usage>,
}

/// An answer under way. Dropping it closes the connection, which frees the
/// engine.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    lines: Lines,
    /// What has come of an answer in one body.
    gathered: Vec<u8>,
    seen: Seen,
    form: Form,
    prompt: Prompt,
}

/// How many tokens the prompt has, apart from a beginning that stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// What the engine counts, without so many tokens of a beginning.
    Without(u64),
    /// So many.
    Is(u64),
}

impl Answer {
    /// Takes a begun answer if it is one.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Unavailable`] by its status.
    pub async fn of(mut begun: Begun, form: Form, prompt: Prompt) -> Result<Self, Error> {
        if begun.status != StatusCode::OK {
            let bytes = begun.body.rest().await.unwrap_or_default();
            let said = String::from_utf8_lossy(&bytes);
            return Err(refusal(begun.status, &chunk::message_of(&said)));
        }
        Ok(Self {
            body: begun.body,
            lines: Lines::default(),
            gathered: Vec::new(),
            seen: Seen::default(),
            form,
            prompt,
        })
    }

    /// Waits for more and adds its pieces to `pieces`. Nothing is lost when this
    /// is dropped before it is done.
    ///
    /// # Errors
    /// When the answer is cut: pieces that came before it are good.
    pub async fn next(&mut self, pieces: &mut Vec<Piece>) -> Result<Said, Error> {
        let Some(bytes) = self.body.next().await? else {
            return match self.form {
                Form::Whole => self.whole(pieces).map(Said::End),
                Form::OpenAi | Form::Raw => Err(Error::Cut("it ended without [DONE]")),
            };
        };
        if self.form == Form::Whole {
            if self.gathered.len() + bytes.len() > LARGEST {
                return Err(Error::Strange(format!("it is larger than {LARGEST} bytes")));
            }
            self.gathered.extend_from_slice(&bytes);
            return Ok(Said::Something);
        }
        let too_long = |error: super::sse::TooLong| Error::Strange(error.to_string());
        self.lines.push(bytes).map_err(too_long)?;
        while let Some(step) = {
            let (seen, form) = (&mut self.seen, self.form);
            self.lines.next(|line| take(seen, form, line, pieces))
        } {
            if step? {
                return self.ending().map(Said::End);
            }
        }
        Ok(Said::Something)
    }

    /// Everything has come.
    fn whole(&mut self, pieces: &mut Vec<Piece>) -> Result<Ending, Error> {
        let chunk: Chunk<'_> = serde_json::from_slice(&self.gathered).map_err(strange)?;
        self.seen.take_whole(chunk, pieces).map_err(failed)?;
        self.ending()
    }

    fn ending(&mut self) -> Result<Ending, Error> {
        let Some(finish_reason) = self.seen.finish_reason.take() else {
            return Err(Error::Cut("it ended without a finish reason"));
        };
        let usage = self.seen.usage.map(|usage| {
            let prompt_tokens = match self.prompt {
                Prompt::Without(beginning) => without(beginning, usage.prompt_tokens),
                Prompt::Is(tokens) => tokens,
            };
            let cached = usage.cached_tokens();
            Usage {
                prompt_tokens,
                completion_tokens: usage.completion_tokens,
                cached_tokens: cached.map(|cached| cached.min(prompt_tokens)),
            }
        });
        Ok(Ending {
            finish_reason,
            usage,
        })
    }
}

/// The tokens of a prompt behind which an engine was handed a beginning to go on
/// with. No prompt is empty: whoever counted fewer has not counted the beginning.
fn without(beginning: u64, counted: u64) -> u64 {
    match counted.checked_sub(beginning) {
        None | Some(0) => counted,
        Some(prompt) => prompt,
    }
}

/// Whether the line ends the answer.
fn take(
    seen: &mut Seen,
    form: Form,
    line: Line<'_>,
    pieces: &mut Vec<Piece>,
) -> Result<bool, Error> {
    let data = match line {
        Line::Done => return Ok(true),
        Line::Nothing => return Ok(false),
        Line::Garbage(_) => return Err(Error::Cut("a line of it is no event")),
        Line::Data(data) => data,
    };
    match form {
        Form::OpenAi | Form::Whole => {
            let chunk: Chunk<'_> = serde_json::from_slice(data).map_err(strange)?;
            seen.take(chunk, pieces).map_err(failed)?;
            Ok(false)
        }
        Form::Raw => {
            let chunk: RawChunk<'_> = serde_json::from_slice(data).map_err(strange)?;
            seen.take_raw(chunk, pieces).map_err(failed)?;
            Ok(seen.finish_reason.is_some())
        }
    }
}

/// The parser's own message would quote what it read.
fn strange(error: serde_json::Error) -> Error {
    Error::Strange(format!(
        "a chunk is not what it should be ({:?})",
        error.classify()
    ))
}

fn failed(failure: chunk::Failure) -> Error {
    Error::Failed(clipped(&failure.0))
}

fn refusal(status: StatusCode, message: &str) -> Error {
    let is_final = match status.as_u16() {
        // The key is wrong, the model was unloaded, it is overloaded: all pass.
        401 | 403 | 404 | 408 | 409 | 425 | 429 => false,
        other => (400..500).contains(&other),
    };
    let (status, message) = (status.as_u16(), clipped(message));
    match is_final {
        true => Error::Refused { status, message },
        false => Error::Unavailable { status, message },
    }
}

fn clipped(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_clipped_and_put_on_one_line() {
        let text = clipped(&format!("a\n b {}", "x".repeat(900)));
        assert!(text.starts_with("a b x") && text.chars().count() == LONGEST_MESSAGE);
    }

    #[test]
    fn a_beginning_counts_in_no_prompt() {
        assert_eq!(without(100, 105), 5);
        // These engines left it out themselves.
        assert_eq!((without(100, 5), without(5, 5)), (5, 5));
        assert_eq!(without(0, 5), 5);
    }

    #[test]
    fn only_a_request_that_is_wrong_itself_is_refused_for_good() {
        for (status, is_final) in [
            (400, true),
            (413, true),
            (422, true),
            (404, false),
            (429, false),
            (503, false),
            (500, false),
        ] {
            let error = refusal(StatusCode::from_u16(status).unwrap(), "no");
            assert_eq!(error.is_final(), is_final, "{status}");
        }
    }
}
