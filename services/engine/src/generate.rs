//! The loop that makes an answer, one token at a time.

use std::ops::ControlFlow;

use crate::engine::Engine;
use crate::model;
use crate::sampler::Sampling;
use crate::text::{Assembler, Piece, Step};

/// Prompt tokens read at a time: enough to read each weight once for many tokens, few
/// enough that other answers and a cancel do not wait.
const PROMPT_CHUNK: usize = 32;

/// What is to be generated.
#[derive(Clone, Debug)]
pub struct Job {
    /// The whole prompt; not empty.
    pub prompt: Vec<u32>,
    /// What the answer already has: generation goes on behind it.
    pub prefix: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    pub stops: Vec<String>,
    /// Most tokens to make now, the prefix not counted; the context is a limit, too.
    pub max_tokens: usize,
    /// Go on behind the model's end-of-turn tokens.
    pub ignore_end: bool,
}

/// Who takes the pieces of an answer.
pub trait Sink {
    /// Takes a piece; `Break` ends the answer.
    fn piece(&mut self, piece: Piece) -> ControlFlow<()>;
    /// Whether nobody takes pieces any more. Asked before every step.
    fn is_closed(&self) -> bool;
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model or a stop string ended it.
    Stop,
    /// It reached its limit, or the context is full.
    Length,
    /// Nobody takes it any more.
    Canceled,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens made now, the end token counted, the prefix not.
    pub tokens: usize,
    /// Text that was held back until the end was known. It belongs to the end: a text
    /// cut by a stop string has no ids, so it must not be shown without it.
    pub rest: Option<Piece>,
}

/// Generates `job` and hands its pieces to `sink`.
///
/// The prefix is read token by token, exactly as it was when it was made: the rest is
/// then the rest of the undisturbed answer, whatever the kind of weights.
///
/// # Errors
/// [`model::Error::Compute`] when a step fails.
pub fn generate(engine: &Engine, job: Job, sink: &mut impl Sink) -> Result<Outcome, model::Error> {
    let mut answer = job.prefix;
    let already = answer.len();
    let end = |finish, answer: &[u32], rest| {
        Ok(Outcome {
            finish,
            tokens: answer.len() - already,
            rest,
        })
    };
    if job.max_tokens == 0 || job.prompt.len() + already >= engine.context {
        return end(Finish::Length, &answer, None);
    }
    let mut cache = engine.decoder.cache();
    let mut scores = Vec::new();
    for ids in job.prompt.chunks(PROMPT_CHUNK).chain(answer.chunks(1)) {
        if sink.is_closed() {
            return end(Finish::Canceled, &answer, None);
        }
        scores = engine.step(&mut cache, ids)?;
    }
    let mut text = Assembler::new(job.stops);
    loop {
        let id = job.sampling.choose(scores, &job.prompt, &answer);
        answer.push(id);
        if engine.tokenizer.is_end(id) && !job.ignore_end {
            return end(Finish::Stop, &answer, text.finish());
        }
        match text.push(id, engine.tokenizer.bytes(id)) {
            Step::Hold => {}
            Step::Show(piece) => {
                if sink.piece(piece).is_break() {
                    return end(Finish::Canceled, &answer, None);
                }
            }
            Step::Stop(piece) => return end(Finish::Stop, &answer, piece),
        }
        let full = job.prompt.len() + answer.len() >= engine.context;
        if full || answer.len() - already == job.max_tokens {
            return end(Finish::Length, &answer, text.finish());
        }
        if sink.is_closed() {
            return end(Finish::Canceled, &answer, None);
        }
        scores = engine.step(&mut cache, &[id])?;
    }
}
