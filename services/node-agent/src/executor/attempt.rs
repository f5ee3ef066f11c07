//! One attempt: from the order to its end.
//!
//! It finds out what was said before, asks what to do with it, and has the rest
//! written. Whatever stands in the chain at the end is the end.

use std::sync::Arc;
use std::time::Duration;

use orchion_contract::job::{
    Assignment, AttemptEnd, AttemptOutcome, Granted, JobEnd, Outcome, RunOrder,
};
use orchion_contract::node::RunningAttempt;
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::Final;
use orchion_contract::{ErrorBody, UnixMs};
use orchion_node_agent_core::{Plan, Watchdog, plan};
use orchion_transcript::{Prefix, Stop, Writer};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::beginning::{self, Found};
use super::body;
use super::chain::Chain;
use super::control::{Stopped, Told};
use super::run::Run;
use super::source::Source;
use crate::engine::Delivery;
use crate::engine::roster::Place;

/// An order that was accepted.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) order: Arc<RunOrder>,
    pub(super) place: Place,
    pub(super) stopped: Stopped,
    told: Told,
    pub(super) deadline: Instant,
    pub(super) watchdog: Watchdog,
    /// When the engine has had all the time that it may take.
    pub(super) wall: Option<Instant>,
    delivery: Delivery,
    pub(super) started_ms: UnixMs,
}

/// An order that a gateway has given by itself.
pub(super) struct Given {
    order: Arc<RunOrder>,
    to: Assignment,
    since: Instant,
}

impl Given {
    /// The job, for whoever does not know it.
    pub(super) fn job(&self) -> Box<Granted> {
        Box::new(Granted::new(&self.order, self.to.clone()))
    }

    /// How long it was under way.
    pub(super) fn took(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Attempt {
    pub(super) fn new(
        shared: Arc<Shared>,
        order: RunOrder,
        place: Place,
        stopped: Stopped,
        told: Told,
    ) -> Self {
        let now = Instant::now();
        let watchdog = place.engine.settings.watchdog(shared.watchdog);
        let watchdog = watchdog.for_job(&order.spec.timeouts);
        Self {
            deadline: now + Duration::from_millis(order.remaining_ms),
            wall: watchdog.wall.map(|wall| now + wall),
            watchdog,
            delivery: place.engine.delivery(&order.spec),
            started_ms: unix_ms(),
            shared,
            order: Arc::new(order),
            place,
            stopped,
            told,
        }
    }

    /// Whether it is over so soon that its end may be the answer to its order.
    pub(super) fn is_brief(&self) -> bool {
        self.delivery == Delivery::Whole
    }

    pub(super) fn key(&self) -> RunningAttempt {
        RunningAttempt {
            job: self.order.job,
            attempt: self.order.attempt,
        }
    }

    /// Its order, if a gateway has given it: nobody else may know of the job.
    pub(super) fn given_by_gateway(&self) -> Option<Given> {
        let replica = &self.place.replica;
        let to = Assignment {
            node: self.shared.node.clone(),
            instance: self.shared.instance.clone(),
            replica: replica.id.clone(),
            engine: replica.engine.clone(),
            at_ms: self.order.granted_ms?,
        };
        Some(Given {
            order: self.order.clone(),
            to,
            since: Instant::now(),
        })
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) -> (AttemptEnd, Told) {
        tracing::debug!(
            job.id = %self.order.job,
            attempt = self.order.attempt,
            replica.id = %self.place.replica.id,
            "attempt {} of job {} begins",
            self.order.attempt,
            self.order.job
        );
        let end = match self.find().await {
            Found::Prefix(prefix) => self.write(&prefix).await,
            Found::Ended(end) => self.end(
                AttemptOutcome::Final {
                    end: Box::new(job_end(&end)),
                },
                None,
            ),
            Found::NotOurs => self.end(AttemptOutcome::Superseded, None),
        };
        self.log(&end);
        (end, self.told)
    }

    /// What was said before. The first attempt need not look.
    async fn find(&mut self) -> Found {
        if self.order.attempt <= 1 {
            return Found::Prefix(Box::new(Prefix::new()));
        }
        let (shared, order) = (&self.shared, &self.order);
        let subject = self.subject();
        let find = beginning::find(&shared.bus, &subject, order.attempt, &shared.instance);
        // Rare and large.
        let find = Box::pin(find);
        tokio::select! {
            found = find => found,
            // The chain cannot be read: let whoever can, end the job.
            () = sleep_until(self.deadline) => Found::NotOurs,
            () = shared.hurry.stopped() => Found::NotOurs,
        }
    }

    /// Puts the body into the order when it was too large to travel with it.
    /// False when it was interrupted: whoever goes on hears why by itself.
    async fn has_body(&mut self) -> Result<bool, ErrorBody> {
        let Some(blob) = self.order.spec.body_ref.clone() else {
            return Ok(true);
        };
        let shared = self.shared.clone();
        let body = tokio::select! {
            biased;
            _ = self.stopped.reason() => return Ok(false),
            () = sleep_until(self.deadline) => return Ok(false),
            () = shared.hurry.stopped() => return Ok(false),
            body = Box::pin(body::fetch(&shared.bus, &blob)) => body?,
        };
        Arc::make_mut(&mut self.order).spec.body = body;
        Ok(true)
    }

    async fn write(&mut self, prefix: &Prefix) -> AttemptEnd {
        let has_body = self.has_body().await;
        let (order, replica) = (self.order.clone(), &self.place.replica);
        let plan = plan(
            order.attempt,
            &order.spec,
            prefix,
            order.prefix_by.as_ref(),
            replica,
        );
        let writer = Writer::new(order.attempt, prefix.next_index(), prefix.sequence());
        let (bus, subject) = (self.shared.bus.clone(), self.subject().into());
        let chain = Chain::new(bus, subject, writer, order.spec.whole);
        let engine = self.place.engine.clone();
        let source = Source::closed(engine.adapter.as_ref(), &order.spec, prefix);
        let (source, known_end) = match (has_body, plan) {
            (Err(error), _) => (source, Some(Err(error))),
            (Ok(false), _) => (source, None),
            (Ok(true), Plan::Begin) => (source.begin(self.delivery), None),
            (Ok(true), Plan::TakeUp(ladder)) => (source.take_up(ladder), None),
            (Ok(true), Plan::End(end)) => (source, Some(Ok(end))),
            (Ok(true), Plan::HasEnded) => return self.end(AttemptOutcome::Superseded, None),
        };
        let mut run = Run::new(self, chain, prefix, source);
        match known_end {
            None => {}
            Some(Ok(end)) => run.finish(*end),
            Some(Err(error)) => run.fail_for_good(error),
        }
        // In one place, for it is most of what an attempt takes in memory.
        run.run().await
    }

    fn subject(&self) -> String {
        TRANSCRIPT.to(&(self.order.reader.clone(), self.order.job))
    }

    pub(super) fn end(&self, how: AttemptOutcome, writer: Option<&Writer>) -> AttemptEnd {
        let stored = writer.is_some_and(Writer::has_stored);
        let has_final = writer.is_some_and(|writer| writer.stopped() == Some(Stop::Finished));
        AttemptEnd {
            job: self.order.job,
            attempt: self.order.attempt,
            how,
            sequence: match writer {
                Some(writer) if stored || has_final => writer.sequence(),
                Some(_) | None => 0,
            },
            stored,
        }
    }

    fn log(&self, end: &AttemptEnd) {
        let (job, attempt) = (end.job, end.attempt);
        match &end.how {
            AttemptOutcome::Final { end } if end.outcome == Outcome::Completed => {
                tracing::debug!(job.id = %job, attempt, "job {job} is completed");
            }
            AttemptOutcome::Final { end } => tracing::info!(
                job.id = %job,
                attempt,
                error.code = end.error.as_ref().map(|error| error.code.as_str()),
                "job {job} has ended without an answer: {}",
                end.error.as_ref().map_or("it was canceled", |error| &error.message)
            ),
            AttemptOutcome::Failed { error } => tracing::warn!(
                job.id = %job,
                attempt,
                error.code = error.code.as_str(),
                "attempt {attempt} of job {job} failed: {}",
                error.message
            ),
            AttemptOutcome::Superseded => {
                tracing::info!(job.id = %job, attempt, "attempt {attempt} of job {job} is void");
            }
            AttemptOutcome::Preempted => {
                tracing::info!(job.id = %job, attempt, "attempt {attempt} of job {job} made room");
            }
        }
    }
}

pub(super) fn job_end(end: &Final) -> JobEnd {
    JobEnd {
        outcome: end.outcome,
        at_ms: end.times.ended_ms.unwrap_or_else(unix_ms),
        finish_reason: end.finish_reason.clone(),
        usage: end.usage,
        error: end.error.clone(),
        continued: end.continued.clone(),
        times: end.times,
    }
}

/// For people and history only.
pub(super) fn unix_ms() -> UnixMs {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
