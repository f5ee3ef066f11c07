//! A job that somebody waits for, from before its submission to its end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orchion_contract::job::{
    Admission, CancelJob, CancelReason, Door, FollowJob, GRANTED_TELLS_AFTER, JobSpec, JobSummary,
    MAX_DEADLINE_MS, Submit,
};
use orchion_contract::{ErrorCode, JobId, ReaderId, rpc};

use crate::error::{Error, Result};
use crate::follow::{Follower, keeps_end};
use crate::grants::{Permit, Sent};
use crate::state::Gateway;
use crate::{idempotency, large};

/// How long a cancel is repeated.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How often a job is looked for that was submitted a moment ago.
const CANCEL_TRIES: u32 = 10;

/// How long after its deadline somebody must have ended a job.
const SLACK: Duration = Duration::from_secs(30);

/// What a caller wants beside the answer.
pub(crate) struct Wishes {
    /// Ties messages, logs and answers together.
    pub(crate) correlation_id: String,
    /// The job that the caller's `Idempotency-Key` stands for.
    pub(crate) named: Option<JobId>,
    /// Whether the job ends when the caller hangs up, if they said so.
    pub(crate) cancels: Option<bool>,
}

/// A job and its caller: whoever drops it before the end has hung up.
pub(crate) struct Running {
    pub(crate) follower: Follower,
    /// Where it stood when it was admitted; `None` when it is only followed, or its
    /// end came first.
    pub(crate) admission: Option<Admission>,
    caller: Caller,
    /// When waiting for it has no sense any more.
    until: Instant,
}

/// Cancels the job when it is dropped before [`Caller::done`].
struct Caller {
    gateway: Arc<Gateway>,
    job: JobId,
    cancels: bool,
    /// What it is submitted with, until that is answered.
    submit: Option<Arc<Submit>>,
    /// Where its first attempt went, if it was this gateway that ordered it.
    sent: Option<Sent>,
}

impl Running {
    /// Submits a chat and follows it; returns when its admission is confirmed, or when
    /// its answer has ended before that.
    ///
    /// # Errors
    /// What the scheduler says, or that it is away.
    pub(crate) async fn submit(
        gateway: &Arc<Gateway>,
        mut spec: JobSpec,
        wishes: Wishes,
    ) -> Result<Self> {
        large::pass_by_reference(gateway, &mut spec).await?;
        let Wishes { named, cancels, .. } = wishes;
        let job = named.unwrap_or_else(JobId::now);
        let mut caller = Caller {
            gateway: gateway.clone(),
            job,
            // Who names a job means to ask for it again after a broken connection.
            cancels: cancels.unwrap_or(gateway.config.cancel_on_disconnect && named.is_none()),
            submit: None,
            sent: None,
        };
        let until = Instant::now() + Duration::from_millis(spec.deadline_ms) + SLACK;
        let submit = Submit {
            job,
            reader: match named {
                Some(_) => ReaderId::tasks(),
                None => gateway.reader.clone(),
            },
            door: Door::Chat,
            spec,
            correlation_id: wishes.correlation_id,
            ordered: None,
        };
        let (follower, admission) = match named {
            None => {
                let live = Follower::live(&gateway.bus, &gateway.feed, &gateway.reader, job);
                let ended = pin!(live.ended());
                let admission = caller.submit(ended, submit).await?;
                (live, admission)
            }
            // It may be known already: whatever there is stands in the store.
            Some(_) => {
                let submit = caller.submit.insert(Arc::new(submit)).clone();
                let asked = ask(gateway, &submit).await;
                let admission = asked.map_err(|error| caller.refused(error, true))?;
                caller.submit = None;
                (join(gateway, &admission).await?, Some(admission))
            }
        };
        Ok(Self {
            follower,
            admission,
            caller,
            until,
        })
    }

    /// Follows a job that exists already.
    pub(crate) fn resume(gateway: &Arc<Gateway>, follower: Follower, cancels: bool) -> Self {
        let caller = Caller {
            gateway: gateway.clone(),
            job: follower.job(),
            cancels,
            submit: None,
            sent: None,
        };
        // A task may have begun to wait long ago, or not yet.
        let until = Instant::now() + Duration::from_millis(MAX_DEADLINE_MS) + SLACK;
        Self {
            follower,
            admission: None,
            caller,
            until,
        }
    }

    /// How much longer the end may be waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The caller has got all there is, or will resume elsewhere.
    pub(crate) fn done(&mut self) {
        self.caller.cancels = false;
    }
}

impl Caller {
    /// Submits a job that nobody knows yet; `None` when its end came before its
    /// admission: what is complete and stored may be shown, whoever knows of it. Where
    /// a slot was granted, it is ordered at once.
    async fn submit(
        &mut self,
        mut ended: Pin<&mut (impl Future<Output = ()> + Send)>,
        submit: Submit,
    ) -> Result<Option<Admission>> {
        let gateway = self.gateway.clone();
        let permit = gateway.slots.take(self.job, &submit.spec);
        self.sent = permit.as_ref().map(Permit::sent);
        let submit = self.submit.insert(Arc::new(submit));
        if let Some((permit, submit)) = permit.zip(Arc::get_mut(submit))
            && order(&gateway, ended.as_mut(), submit, permit).await
        {
            self.submit = None;
            return Ok(None);
        }
        let submit = submit.clone();
        let mut asked = Box::pin(async move { ask(&gateway, &submit).await });
        let admitted = tokio::select! {
            biased;
            admitted = &mut asked => admitted.map(Some),
            () = ended => Ok(None),
        };
        let admission = admitted.map_err(|error| self.refused(error, false))?;
        let is_ordered = self
            .submit
            .take()
            .is_some_and(|submit| submit.ordered.is_some());
        if is_ordered && admission.is_none() {
            // It is over, and a scheduler that took over meanwhile is to know of it.
            self.gateway
                .tasks
                .spawn_work("submission", async move { drop(asked.await) });
        }
        Ok(admission)
    }

    /// What a caller is told who is not admitted.
    fn refused(&mut self, error: orchion_bus::Error, is_named: bool) -> Error {
        let is_refusal = matches!(error, orchion_bus::Error::Remote(_));
        let is_ordered = |submit: &Arc<Submit>| submit.ordered.is_some();
        if is_refusal || !self.submit.as_ref().is_some_and(is_ordered) {
            // Nothing is under way of which a scheduler would have to know.
            self.submit = None;
        }
        if is_refusal {
            self.cancels = false;
            return refusal(error, is_named);
        }
        // Without an answer it may exist.
        refusal(error, is_named).of(self.job)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let (gateway, job) = (self.gateway.clone(), self.job);
        let submit = self.submit.take();
        if self.cancels {
            tracing::debug!(job.id = %job, "the caller of job {job} hung up: canceling it");
            let under_way = submit.filter(|submit| submit.ordered.is_some());
            let cancel = hang_up(gateway, job, under_way, self.sent.take());
            self.gateway.tasks.spawn_work("cancel", cancel);
        } else if let Some(submit) = submit {
            let submission = async move { go_on(&gateway, &submit).await };
            self.gateway.tasks.spawn_work("submission", submission);
        }
    }
}

/// Orders the first attempt of a job in a granted slot; whether the job has ended
/// before anybody else had to know of it.
async fn order(
    gateway: &Gateway,
    ended: Pin<&mut (impl Future<Output = ()> + Send)>,
    submit: &mut Submit,
    mut permit: Permit,
) -> bool {
    // Before anything else: who hangs up meanwhile leaves it under way.
    submit.ordered = Some(permit.ordered());
    if let Err(error) = permit.order(&gateway.bus, submit).await {
        tracing::debug!(%error, job.id = %submit.job, "the order of job {} may not have gone out", submit.job);
    }
    let Some(ordered) = submit.ordered.as_mut().filter(|_| submit.spec.whole) else {
        permit.hand_over();
        return false;
    };
    tokio::select! {
        biased;
        () = ended => return true,
        declined = permit.declined() => ordered.declined = declined,
        // The time itself is the condition: nothing else tells that an answer is not brief.
        // An end that comes later is not waited for, for the scheduler is to know.
        () = tokio::time::sleep(GRANTED_TELLS_AFTER) => permit.hand_over(),
    }
    false
}

/// Asks for admission, through the change of a scheduler if need be.
/// `is_named`: the job's id comes from an `Idempotency-Key`.
///
/// # Errors
/// What the scheduler says, or that it is away.
pub(crate) async fn admit(gateway: &Gateway, submit: &Submit, is_named: bool) -> Result<Admission> {
    let asked = ask(gateway, submit).await;
    asked.map_err(|error| refusal(error, is_named))
}

/// Whether these are the transcripts of another gateway.
pub(crate) fn is_of_another(gateway: &Gateway, reader: &ReaderId) -> bool {
    let owner = reader.gateway();
    owner.is_some_and(|owner| *owner != gateway.reader)
}

/// From now on the chat of another gateway lives as long as this one.
///
/// # Errors
/// When there is no such job, or the scheduler is away.
pub(crate) async fn follow(gateway: &Gateway, job: JobId) -> Result<JobSummary> {
    let follow = FollowJob {
        job,
        gateway: gateway.reader.clone(),
    };
    let patience = gateway.config.patience.get();
    let asked = gateway
        .bus
        .ask_patiently(&rpc::FOLLOW_JOB, &(), &follow, patience);
    asked
        .await
        .map_err(|error| Error::from_bus(error, "scheduler"))
}

/// Follows a named job, which may have been admitted before, anywhere.
async fn join(gateway: &Gateway, admission: &Admission) -> Result<Follower> {
    if is_of_another(gateway, &admission.reader) && !admission.state.is_ended() {
        follow(gateway, admission.job).await?;
    }
    let is_over = admission.state.is_ended();
    if is_over && !keeps_end(&gateway.bus, &admission.reader, admission.job).await? {
        let message =
            "the answer to this `Idempotency-Key` is not kept any more; ask again with another key";
        return Err(Error::new(ErrorCode::Gone, message));
    }
    let (bus, feed) = (&gateway.bus, &gateway.feed);
    Ok(Follower::stored(
        bus,
        feed,
        &admission.reader,
        admission.job,
        0,
    ))
}

fn refusal(error: orchion_bus::Error, is_named: bool) -> Error {
    match Error::from_bus(error, "scheduler") {
        taken if is_named && taken.0.code == ErrorCode::Conflict => idempotency::taken(taken),
        other => other,
    }
}

async fn ask(
    gateway: &Gateway,
    submit: &Submit,
) -> std::result::Result<Admission, orchion_bus::Error> {
    let patience = gateway.config.patience.get();
    gateway
        .bus
        .ask_patiently(&rpc::SUBMIT, &(), submit, patience)
        .await
}

/// Submits a job whose caller hung up before its admission and wants it to go on. What
/// is generated already is told of until a scheduler is there, or it is stopped as
/// nobody's.
async fn go_on(gateway: &Gateway, submit: &Submit) {
    let patience = match submit.ordered {
        Some(_) => Duration::from_millis(submit.spec.deadline_ms),
        None => gateway.config.patience.get(),
    };
    let asked = gateway
        .bus
        .ask_patiently(&rpc::SUBMIT, &(), submit, patience);
    let job = submit.job;
    // Without its gateway it would end anyhow.
    if let Some(Err(error)) = gateway.closing.unless_stopped(asked).await {
        tracing::warn!(%error, job.id = %job, "job {job}, whose caller hung up, was not admitted");
    }
}

/// Cancels a job whose caller is gone. Who generates a job that this gateway ordered
/// is told beside the scheduler.
async fn hang_up(
    gateway: Arc<Gateway>,
    job: JobId,
    under_way: Option<Arc<Submit>>,
    sent: Option<Sent>,
) {
    let stopped = async {
        match sent {
            Some(sent) => sent.stop(&gateway.bus).await,
            None => false,
        }
    };
    let (is_stopped, told) = tokio::join!(stopped, cancel(&gateway, job, under_way));
    if let Err(error) = told
        && !is_stopped
    {
        tracing::warn!(%error, job.id = %job, "job {job}, whose caller is gone, could not be canceled; if it exists, it goes on to its end");
    }
}

/// Tells the scheduler. The submission may still be under way, so a job that is not
/// known yet is asked for again. One that is under way without the scheduler's
/// knowledge becomes known first.
async fn cancel(
    gateway: &Gateway,
    job: JobId,
    under_way: Option<Arc<Submit>>,
) -> std::result::Result<(), orchion_bus::Error> {
    if let Some(submit) = under_way {
        match ask(gateway, &submit).await {
            Ok(_) => {}
            // It is refused, and stopped.
            Err(orchion_bus::Error::Remote(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let order = CancelJob {
        job,
        reason: CancelReason::Disconnect,
    };
    for _ in 0..CANCEL_TRIES {
        let asked = gateway
            .bus
            .ask_patiently(&rpc::CANCEL_JOB, &(), &order, CANCEL_PATIENCE);
        match asked.await {
            Err(orchion_bus::Error::Remote(body)) if body.code == ErrorCode::NotFound => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
    Ok(())
}
