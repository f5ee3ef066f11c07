//! `/v1/tasks`: jobs that go on without their caller, and can be resumed at
//! any gateway.

mod metrics;
mod request;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use orchion_contract::job::{CancelJob, CancelReason, Door, JobSummary, Submit};
use orchion_contract::placement::Explanation;
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorBody, ErrorCode, JobId, ReaderId, rpc};
use orchion_transcript::Shown;
use serde::Serialize;

use super::chat::whole::Whole;
use super::jobs::{self, JobView, Known, job_id, known};
use crate::correlation::Correlation;
use crate::error::{Error, Result, StillKnown};
use crate::fields::Fields;
use crate::follow::{Follower, keeps_end, last_entry};
use crate::idempotency::Named;
use crate::query::Params;
use crate::running::{self, Running};
use crate::state::Gateway;
use crate::{large, place};
pub(crate) use request::{Task, TaskRequest};
use stream::TaskStream;

/// A task that was stored and will be answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Accepted {
    /// The task.
    task_id: JobId,
    /// The same as `task_id`.
    job_id: JobId,
    /// The same as `task_id`.
    id: JobId,
    /// Queued jobs that go first.
    queue_position: u32,
    /// Milliseconds from now; 0 when it starts at once, and while nobody can say.
    predicted_start_ms: u64,
    /// Why no replica could take it, not even an idle one; it waits for one that can.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How long to wait before asking for more.
    backoff_ms: u64,
    /// Where the answer can be followed.
    streams: Streams,
}

/// Where an answer can be followed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Streams {
    /// As server-sent events.
    sse: String,
}

/// Ask for an answer that goes on without its caller
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks",
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the task, in place of `task_id`")),
    request_body(content = TaskRequest, description = "A field with another name is refused"),
    responses(
        (status = 202, description = "Stored; it will be answered", body = Accepted),
        (status = 400, description = "A field is not as it must be", body = ErrorBody),
        (status = 404, description = "No node serves this model", body = ErrorBody),
        (status = 409, description = "The id exists with another body", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 429, description = "The queue is full", body = ErrorBody),
        (status = 503, description = "Nobody can take it now", body = ErrorBody),
    ))]
pub(crate) async fn create(State(gateway): State<Arc<Gateway>>, request: Request) -> Result {
    let (parts, body) = request.into_parts();
    let task = Fields::read(&gateway, &parts.headers, body, TaskRequest::parse).await?;
    submit(&gateway, task, &parts.extensions).await
}

/// Submits a task.
///
/// # Errors
/// What the scheduler says, or that it is away.
pub(crate) async fn submit(gateway: &Gateway, task: Task, extensions: &Extensions) -> Result {
    let Task { job, mut spec } = task;
    large::pass_by_reference(gateway, &mut spec).await?;
    let named = Named::of(extensions);
    if job.is_some() && named.is_some() {
        return Err(Error::invalid(
            "Idempotency-Key",
            "`task_id` and `Idempotency-Key` both name the task; send one of them",
        ));
    }
    let submit = Submit {
        job: job.or(named).unwrap_or_else(JobId::now),
        reader: ReaderId::tasks(),
        door: Door::Task,
        spec,
        correlation_id: Correlation::of(extensions),
        ordered: None,
    };
    let admission = running::admit(gateway, &submit, named.is_some()).await?;
    let id = admission.job;
    let accepted = Accepted {
        task_id: id,
        job_id: id,
        id,
        queue_position: admission.queue_position,
        predicted_start_ms: admission.predicted_start_ms.unwrap_or_default(),
        reason: admission.reason.clone(),
        backoff_ms: admission.backoff_ms,
        streams: Streams {
            sse: format!("/v1/tasks/{id}/stream"),
        },
    };
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    place::decorate(response.headers_mut(), Some(&admission));
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/tasks/{id}")) {
        response.headers_mut().insert("location", place);
    }
    Ok(response)
}

/// Where a task stands, and its answer once it ended
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "Id of the task")),
    responses(
        (status = 200, description = "The task", body = JobView),
        (status = 400, description = "This can be no task's id", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
    ))]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>> {
    let summary = match known(&gateway, job_id(&id)?).await? {
        Known::Record(summary) => *summary,
        Known::Past(summary) => {
            let mut view = JobView::from(*summary);
            view.expired = true;
            return Ok(Json(view));
        }
    };
    let output = match summary.state.is_ended() {
        true => Some(output(&gateway, &summary).await?),
        false => None,
    };
    let is_gone = matches!(output, Some(None));
    let mut view = JobView::from(summary);
    view.output = output.flatten();
    view.expired = is_gone;
    Ok(Json(view))
}

/// Puts together what is stored of an ended job's answer; `None` when its end is
/// not kept any more.
async fn output(gateway: &Gateway, summary: &JobSummary) -> Result<Option<String>> {
    if !keeps_end(&gateway.bus, &summary.reader, summary.id).await? {
        return Ok(None);
    }
    let job = summary.id;
    let mut follower = Follower::stored(&gateway.bus, &gateway.feed, &summary.reader, job, 0);
    let mut whole = Whole::default();
    let mut shown = Vec::new();
    loop {
        let read = tokio::time::timeout(gateway.config.patience.get(), follower.read(&mut shown));
        read.await.map_err(|_| Error::away("store of answers"))??;
        for shown in shown.drain(..) {
            match shown {
                Shown::Piece { piece, .. } => whole.piece(job, &piece),
                Shown::Restarted { .. } => whole = Whole::default(),
                Shown::Ended(_) => return Ok(Some(whole.into_text())),
            }
        }
    }
}

/// Follow a task as it is answered, or again from any place
///
/// Events `started`, `token`, `restart`, then one of `end` and `error`; between
/// them `metrics`, without an `id`: position and estimates while the task waits,
/// counts and speed while it runs. The `id` of an event is the index of the next piece; `Last-Event-ID` resumes there, at
/// any gateway.
#[utoipa::path(get, path = "/v1/tasks/{id}/stream", tag = "tasks",
    params(
        ("id" = String, Path, description = "Id of the task"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen; the stream goes on behind it"),
        ("last_event_id" = Option<u64>, Query, description = "In place of the header `Last-Event-ID`"),
        ("cancel_on_disconnect" = Option<bool>, Query, description = "Whether the task ends when this stream is closed"),
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "The id, or the place to resume at, is none", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
        (status = 410, description = "Its answer is not kept any more; `job` says what is", body = ErrorBody),
    ))]
pub(crate) async fn stream(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result {
    let job = job_id(&id)?;
    let from = resumed_at(&params, &headers)?;
    let cancels = params.parse::<bool>("cancel_on_disconnect", "true or false")?;
    let cancels = cancels.unwrap_or(false);
    // Who has seen a piece needs no scheduler to see the next one.
    if let Some(from) = from.filter(|from| *from > 0)
        && let reader = ReaderId::tasks()
        && let Ok(Some(entry)) = last_entry(&gateway.bus, &reader, job).await
    {
        let follower = Follower::stored(&gateway.bus, &gateway.feed, &reader, job, from);
        let running = Running::resume(&gateway, follower, cancels);
        let stream = TaskStream::new(&gateway, running);
        let stream = match entry {
            Entry::Final(_) => stream.ended(),
            Entry::Frame(_) | Entry::Mark(_) | Entry::Restart(_) => {
                stream.watching(&reader, None).await
            }
        };
        return stream.resume(from).await;
    }
    let mut summary = match known(&gateway, job).await? {
        Known::Record(summary) => *summary,
        Known::Past(summary) => return Ok(gone(job, summary)),
    };
    if running::is_of_another(&gateway, &summary.reader) && !summary.state.is_ended() {
        summary = running::follow(&gateway, job).await?;
    }
    if summary.state.is_ended() && !keeps_end(&gateway.bus, &summary.reader, job).await? {
        return Ok(gone(job, Box::new(summary)));
    }
    let at = from.unwrap_or_default();
    let follower = Follower::stored(&gateway.bus, &gateway.feed, &summary.reader, job, at);
    let running = Running::resume(&gateway, follower, cancels);
    let stream = TaskStream::new(&gateway, running);
    let stream = match summary.state.is_ended() {
        true => stream.ended(),
        false => {
            let progress = summary.progress.clone();
            stream.watching(&summary.reader, progress).await
        }
    };
    match from {
        None => Ok(stream.begin(&summary)),
        Some(from) => stream.resume(from).await,
    }
}

/// The answer of an expired job: what is still known of it.
fn gone(job: JobId, summary: Box<JobSummary>) -> Response {
    let message = format!(
        "job {job} is {} and its answer is not kept any more; send the request again under another id",
        summary.state
    );
    let mut response = Error::new(ErrorCode::Gone, message).into_response();
    response.extensions_mut().insert(StillKnown(summary));
    response
}

/// The same as `/v1/tasks/{id}/stream`
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "tasks",
    params(
        ("id" = String, Path, description = "Id of the task"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen; the stream goes on behind it"),
        ("last_event_id" = Option<u64>, Query, description = "In place of the header `Last-Event-ID`"),
        ("cancel_on_disconnect" = Option<bool>, Query, description = "Whether the task ends when this stream is closed"),
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "The id, or the place to resume at, is none", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
        (status = 410, description = "Its answer is not kept any more", body = ErrorBody),
    ))]
pub(crate) async fn events(
    gateway: State<Arc<Gateway>>,
    id: Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Result {
    stream(gateway, id, params, headers).await
}

/// Why a task is where it is, or nowhere yet
///
/// What was decided, with the reason for each node that could have taken it.
#[utoipa::path(get, path = "/v1/tasks/{id}/explain", tag = "tasks",
    params(("id" = String, Path, description = "Id of the task")),
    responses(
        (status = 200, description = "The decisions, oldest first", body = Explanation),
        (status = 400, description = "This can be no task's id", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
    ))]
pub(crate) async fn explain(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Explanation>> {
    let job = job_id(&id)?;
    let explained = match jobs::ask(&gateway, &rpc::EXPLAIN_JOB, job, &job).await {
        Ok(explained) => explained,
        Err(error) => Explanation::of_past(&jobs::past(&gateway, job, error).await?),
    };
    Ok(Json(explained))
}

/// Where the caller wants to go on; `None` at the beginning.
fn resumed_at(params: &Params, headers: &HeaderMap) -> Result<Option<u64>> {
    let asked = params.parse::<u64>("last_event_id", "the id of an event of this stream")?;
    let Some(header) = headers
        .get("last-event-id")
        .filter(|header| !header.is_empty())
    else {
        return Ok(asked);
    };
    let id = header
        .to_str()
        .ok()
        .and_then(|id| id.trim().parse::<u64>().ok());
    id.map(Some).ok_or_else(|| {
        Error::invalid(
            "Last-Event-ID",
            "`Last-Event-ID` must be the id of an event of this stream: a whole number",
        )
    })
}

/// End a task; ending it twice changes nothing
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks",
    params(("id" = String, Path, description = "Id of the task")),
    responses(
        (status = 204, description = "It has ended; no token follows"),
        (status = 400, description = "This can be no task's id", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
    ))]
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<StatusCode> {
    let order = CancelJob {
        job: job_id(&id)?,
        reason: CancelReason::Client,
    };
    match jobs::ask(&gateway, &rpc::CANCEL_JOB, order.job, &order).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        // It has ended, only longer ago.
        Err(error) if error.0.code == ErrorCode::Gone => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error),
    }
}
