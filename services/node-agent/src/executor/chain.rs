//! Carries out what the transcript's writer asks for: one append or one read at
//! a time, over every interruption of NATS.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use orchion_bus::{AppendError, Bus};
use orchion_contract::node::EngineRef;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::transcript::{Entry, Final, Piece};
use orchion_transcript::{Effect, Stop, Writer};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::ReusableBoxFuture;

use super::beginning;

/// Pause before the chain is read again when NATS does not answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long pieces are gathered when nobody reads before the end; what an
/// engine's death costs is at most this much of its work.
const GATHER: Duration = Duration::from_millis(50);
/// Pause before the next try when the stream is full.
const PAUSE_WHEN_FULL: Duration = Duration::from_millis(500);

/// What came of an effect.
enum Done {
    Acked(u64),
    Unsure,
    Last(Option<(u64, Box<Entry>)>),
}

/// One attempt's hold on the chain of its job.
pub(super) struct Chain {
    bus: Bus,
    subject: Arc<str>,
    writer: Writer,
    /// What is under way; its memory is used again for every token.
    work: ReusableBoxFuture<'static, Done>,
    is_working: bool,
    /// When gathered pieces are due.
    due: Option<Pin<Box<Sleep>>>,
    gathers: bool,
    end: Option<Final>,
    pushed: u64,
    tokens: u64,
}

impl Chain {
    /// With `gathers`, pieces are stored every 50 ms and not as they come.
    pub(super) fn new(bus: Bus, subject: Arc<str>, writer: Writer, gathers: bool) -> Self {
        let writer = match gathers {
            true => writer.gathering(),
            false => writer,
        };
        Self {
            bus,
            subject,
            writer,
            work: ReusableBoxFuture::new(std::future::pending()),
            is_working: false,
            due: None,
            gathers,
            end: None,
            pushed: 0,
            tokens: 0,
        }
    }

    /// The engine said this.
    pub(super) fn push(&mut self, piece: Piece) {
        self.pushed += 1;
        self.tokens += u64::from(piece.tokens);
        self.writer.push(piece);
        if self.gathers && self.due.is_none() {
            self.due = Some(Box::pin(sleep(GATHER)));
        }
    }

    /// What was said is stored at once: nothing comes any more.
    pub(super) fn flush(&mut self) {
        self.writer.flush();
    }

    /// What was shown is void; `engine` starts over.
    pub(super) fn restart(&mut self, engine: EngineRef) {
        self.writer.restart(engine);
    }

    /// The attempt ends; the first end counts.
    pub(super) fn finish(&mut self, end: Final) {
        if self.end.is_none() {
            // The end takes along what was gathered.
            self.due = None;
            self.end = Some(end.clone());
            self.writer.finish(end);
        }
    }

    /// How the attempt ends, once that is known.
    pub(super) fn end(&self) -> Option<&Final> {
        self.end.as_ref()
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.writer.stopped()
    }

    /// Pieces pushed so far.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Tokens pushed so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Does what the writer asks for next and tells it what came of it. Waits
    /// for ever when there is nothing to do. Nothing is lost when this is
    /// dropped before it is done.
    pub(super) async fn step(&mut self) {
        let done = poll_fn(|cx| {
            if self
                .due
                .as_mut()
                .is_some_and(|due| due.as_mut().poll(cx).is_ready())
            {
                self.due = None;
                self.writer.flush();
            }
            if !self.is_working
                && let Some(effect) = self.writer.next_effect()
            {
                self.begin(effect);
            }
            match self.is_working {
                true => self.work.poll(cx),
                false => Poll::Pending,
            }
        })
        .await;
        self.is_working = false;
        match done {
            Done::Acked(sequence) => self.writer.acked(sequence),
            Done::Unsure => self.writer.unsure(),
            Done::Last(last) => {
                let last = last.as_ref().map(|(sequence, entry)| (*sequence, &**entry));
                self.writer.last_is(last);
            }
        }
    }

    /// The connection is a new one: what was asked of the old one may never be
    /// answered, and the store may be another one.
    pub(super) fn reconnected(&mut self) {
        self.is_working = false;
        self.writer.unsure();
    }

    fn begin(&mut self, effect: Effect) {
        let (bus, subject) = (self.bus.clone(), self.subject.clone());
        match effect {
            Effect::Publish { after, entry } => {
                // Entries are plain data and always serialize.
                let payload = Bytes::from(serde_json::to_vec(&entry).unwrap_or_default());
                self.work
                    .set(async move { append(&bus, &subject, payload, after).await });
            }
            Effect::ReadLast => self.work.set(async move { last(&bus, &subject).await }),
        }
        self.is_working = true;
    }
}

async fn append(bus: &Bus, subject: &str, payload: Bytes, after: u64) -> Done {
    match bus.append(subject, payload, after).await {
        Ok(sequence) => Done::Acked(sequence),
        Err(AppendError::WrongSequence { .. }) => Done::Unsure,
        Err(error @ AppendError::Unsure { .. }) => {
            tracing::debug!("{error}");
            Done::Unsure
        }
        Err(error @ AppendError::Full { .. }) => {
            tracing::error!("an answer cannot be stored: {error}");
            sleep(PAUSE_WHEN_FULL).await;
            Done::Unsure
        }
    }
}

async fn last(bus: &Bus, subject: &str) -> Done {
    let read = bus.last(TRANSCRIPTS.name, subject).await;
    let last = match read {
        Ok(Some(stored)) => beginning::entry(&stored)
            .map(|entry| Some((stored.sequence, Box::new(entry))))
            .map_err(anyhow::Error::from),
        Ok(None) => Ok(None),
        Err(error) => Err(error.into()),
    };
    match last {
        Ok(last) => Done::Last(last),
        Err(error) => {
            tracing::debug!("cannot read the end of a transcript yet: {error:#}");
            sleep(PAUSE).await;
            Done::Unsure
        }
    }
}
