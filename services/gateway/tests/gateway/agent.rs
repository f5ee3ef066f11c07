//! Somebody who answers a job, and stores what a test lets it say.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use orchion_bus::Bus;
use orchion_contract::job::{Outcome, Submit, Usage};
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::{Entry, Final, Frame, Piece, Restart, Times};
use orchion_contract::{ErrorBody, JobId};

use crate::stand_in::Books;

/// Writes a transcript, as an agent does.
pub(crate) struct Agent {
    bus: Bus,
    subject: String,
    books: Arc<Mutex<Books>>,
    job: JobId,
    last: u64,
    next: u64,
}

impl Agent {
    pub(crate) fn new(bus: Bus, books: Arc<Mutex<Books>>, submit: &Submit) -> Self {
        Self {
            bus,
            subject: TRANSCRIPT.to(&(submit.reader.clone(), submit.job)),
            books,
            job: submit.job,
            last: 0,
            next: 0,
        }
    }

    /// Stores one frame of texts.
    pub(crate) async fn says(&mut self, texts: &[&str]) {
        let piece = |text: &&str| Piece {
            text: Some((*text).to_owned()),
            tokens: 1,
            ..Piece::default()
        };
        self.frame(texts.iter().map(piece).collect()).await;
    }

    pub(crate) async fn frame(&mut self, pieces: Vec<Piece>) {
        let count = pieces.len() as u64;
        let frame = Frame {
            attempt: 1,
            index: self.next,
            pieces,
        };
        self.append(&Entry::Frame(frame)).await;
        self.next += count;
    }

    pub(crate) async fn restarts(&mut self) {
        let restart = Restart {
            attempt: 1,
            index: self.next,
            engine: None,
        };
        self.append(&Entry::Restart(restart)).await;
        self.next += 1;
    }

    /// Stores the end of a whole answer.
    pub(crate) async fn completes(&mut self) {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: self.next,
            cached_tokens: None,
        };
        self.ends(Outcome::Completed, usage, None).await;
    }

    pub(crate) async fn fails(&mut self, error: ErrorBody) {
        self.ends(Outcome::Failed, Usage::default(), Some(error))
            .await;
    }

    pub(crate) async fn ends(&mut self, outcome: Outcome, usage: Usage, error: Option<ErrorBody>) {
        let end = Final {
            attempt: 1,
            rest: None,
            outcome,
            finish_reason: (outcome == Outcome::Completed).then(|| "stop".to_owned()),
            usage,
            error,
            engine: None,
            node: None,
            continued: None,
            times: Times {
                started_ms: Some(1_000),
                first_token_ms: Some(1_200),
                ended_ms: Some(1_500),
            },
        };
        self.append(&Entry::Final(Box::new(end))).await;
        let mut books = self.books.lock().unwrap();
        if let Some((_, state)) = books.jobs.get_mut(&self.job) {
            *state = outcome.state();
        }
    }

    async fn append(&mut self, entry: &Entry) {
        let payload = Bytes::from(serde_json::to_vec(entry).unwrap());
        let stored = self.bus.append(&self.subject, payload, self.last).await;
        self.last = stored.expect("append to the transcript");
    }
}
