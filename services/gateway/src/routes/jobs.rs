//! `/api/jobs`: every job, whichever door it came through.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use orchion_contract::job::{JobState, JobSummary, ListJobs};
use orchion_contract::log::{Level, LogQuery, LogRecord};
use orchion_contract::subject::Rpc;
use orchion_contract::{ErrorBody, ErrorCode, JobId, ModelName, rpc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::logs::query_logs;
use super::nodes::{self, node_id};
use super::tasks::{self, Accepted, TaskRequest};
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::query::Params;
use crate::state::Gateway;

/// Most jobs in one answer.
const MOST: u32 = 1000;
/// How old a job is that the scheduler must know, and how often it is asked before.
const YOUNG: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);
/// How long history may think about one job.
const HISTORY: Duration = Duration::from_secs(1);

/// A job under all its names, and its answer when it has one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobView {
    /// The same as `id`.
    pub(crate) task_id: JobId,
    /// The same as `id`.
    pub(crate) job_id: JobId,
    /// The job.
    #[serde(flatten)]
    pub(crate) summary: JobSummary,
    /// The text of the answer, once the job ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    /// Its answer is not kept any more; this is what history knows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) expired: bool,
}

impl From<JobSummary> for JobView {
    fn from(summary: JobSummary) -> Self {
        Self {
            task_id: summary.id,
            job_id: summary.id,
            summary,
            output: None,
            expired: false,
        }
    }
}

/// Jobs that are open or ended a short while ago, newest first
#[utoipa::path(get, path = "/api/jobs", tag = "jobs",
    params(
        ("state" = Option<JobState>, Query, description = "Only jobs in this state"),
        ("node" = Option<String>, Query, description = "Only jobs of this node"),
        ("model" = Option<String>, Query, description = "Only jobs of this model"),
        ("limit" = Option<u32>, Query, description = "At most this many; 100 when absent, 1000 at most"),
    ),
    responses(
        (status = 200, description = "The jobs", body = Vec<JobView>),
        (status = 400, description = "A parameter is not as it must be", body = ErrorBody),
        (status = 404, description = "No such node", body = ErrorBody),
    ))]
pub(crate) async fn list(
    State(gateway): State<Arc<Gateway>>,
    params: Params,
) -> Result<Json<Vec<JobView>>> {
    let limit = params.parse::<u32>("limit", "a whole number from 1 to 1000")?;
    if limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
        return Err(Error::invalid(
            "limit",
            "`limit` must be a whole number from 1 to 1000",
        ));
    }
    let node = params.text("node").map(|node| node_id(node, "node"));
    let filter = ListJobs {
        state: params.text("state").map(job_state).transpose()?,
        node: node.transpose()?,
        model: params.text("model").map(ModelName::from),
        limit,
    };
    Ok(Json(views(&gateway, &filter).await?))
}

/// A job in short: a model and a prompt
#[utoipa::path(post, path = "/api/jobs", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "Names the job, in place of `task_id`")),
    request_body(content = serde_json::Value, description = "`model`, `prompt`, and settings under `params`"),
    responses(
        (status = 202, description = "Stored; it will be answered", body = Accepted),
        (status = 400, description = "A field is not as it must be", body = ErrorBody),
        (status = 404, description = "No node serves this model", body = ErrorBody),
        (status = 409, description = "The id exists with another body", body = ErrorBody),
        (status = 413, description = "The body is too large", body = ErrorBody),
        (status = 429, description = "The queue is full", body = ErrorBody),
        (status = 503, description = "Nobody can take it now", body = ErrorBody),
    ))]
pub(crate) async fn create(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let task = Fields::read(&gateway, &parts.headers, body, short).await?;
    tasks::submit(&gateway, task, &parts.extensions).await
}

/// A task from its short form: a prompt is one message, settings stand under `params`.
fn short(mut fields: Fields) -> Result<tasks::Task> {
    let params = fields.take("params");
    if let Some(params) = params {
        let serde_json::Value::Object(params) = params else {
            return Err(crate::fields::wrong("params", "an object", &params));
        };
        for (name, value) in params {
            if fields.get(&name).is_none() && !value.is_null() {
                fields.insert(&name, value);
            }
        }
    }
    if let Some(prompt) = fields.text("prompt")? {
        fields.insert("messages", json!([{"role": "user", "content": prompt}]));
    }
    TaskRequest::parse(fields)
}

/// Where a job stands, and its answer once it ended
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 400, description = "This can be no job's id", body = ErrorBody),
        (status = 404, description = "No such job", body = ErrorBody),
    ))]
pub(crate) async fn get(gateway: State<Arc<Gateway>>, id: Path<String>) -> Result<Json<JobView>> {
    tasks::get(gateway, id).await
}

/// End a job; ending it twice changes nothing
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 204, description = "It has ended; no token follows"),
        (status = 400, description = "This can be no job's id", body = ErrorBody),
        (status = 404, description = "No such job", body = ErrorBody),
    ))]
pub(crate) async fn cancel(gateway: State<Arc<Gateway>>, id: Path<String>) -> Result<StatusCode> {
    tasks::cancel(gateway, id).await
}

/// What was logged about a job, oldest first
#[utoipa::path(get, path = "/api/jobs/{id}/logs", tag = "jobs",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("level" = Option<Level>, Query, description = "This level and above"),
        ("limit" = Option<u32>, Query, description = "At most this many, the newest ones"),
    ),
    responses(
        (status = 200, description = "The records", body = Vec<LogRecord>),
        (status = 400, description = "This can be no job's id", body = ErrorBody),
    ))]
pub(crate) async fn logs(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Vec<LogRecord>>> {
    let query = LogQuery {
        job: Some(job_id(&id)?),
        level: params.parse("level", "debug, info, warn or error")?,
        limit: params.parse("limit", "a whole number")?,
        ..LogQuery::default()
    };
    Ok(Json(query_logs(&gateway, &query).await?.records))
}

/// The jobs that a filter lets through.
///
/// # Errors
/// When the scheduler is away, or there is no node of that name.
pub(crate) async fn views(gateway: &Gateway, filter: &ListJobs) -> Result<Vec<JobView>> {
    let patience = gateway.config.patience.get();
    let asked = gateway
        .bus
        .ask_patiently(&rpc::LIST_JOBS, &(), filter, patience);
    let list = asked
        .await
        .map_err(|error| Error::from_bus(error, "scheduler"))?;
    if let Some(node) = filter.node.as_ref().filter(|_| list.jobs.is_empty()) {
        nodes::known(gateway, node).await?;
    }
    Ok(list.jobs.into_iter().map(JobView::from).collect())
}

/// What is known of a job.
pub(crate) enum Known {
    /// Its record, and its answer as far as there is one.
    Record(Box<JobSummary>),
    /// What history kept of it.
    Past(Box<JobSummary>),
}

/// One job, also a past one.
///
/// # Errors
/// When there was never one of this id, or the scheduler is away.
pub(crate) async fn known(gateway: &Gateway, job: JobId) -> Result<Known> {
    match summary(gateway, job).await {
        Ok(summary) => Ok(Known::Record(Box::new(summary))),
        Err(error) => Ok(Known::Past(Box::new(past(gateway, job, error).await?))),
    }
}

/// What history kept of a job that the scheduler does not know.
///
/// # Errors
/// What the scheduler said, when it is away or history does not know the job either.
pub(crate) async fn past(gateway: &Gateway, job: JobId, error: Error) -> Result<JobSummary> {
    if !matches!(error.0.code, ErrorCode::NotFound | ErrorCode::Gone) {
        return Err(error);
    }
    let past = gateway.bus.ask(&rpc::PAST_JOB, &(), &job, HISTORY).await;
    past.map_err(|missing| {
        tracing::debug!(%missing, job.id = %job, "history says nothing of job {job}");
        error
    })
}

/// One open job, or one that ended a short while ago.
///
/// # Errors
/// When there is none of this id, or the scheduler is away.
pub(crate) async fn summary(gateway: &Gateway, job: JobId) -> Result<JobSummary> {
    ask(gateway, &rpc::GET_JOB, job, &job).await
}

/// Asks the scheduler about a job. It may not have heard yet of one that was made a
/// moment ago: agents tell of chats that were sent to granted slots a little later.
///
/// # Errors
/// When there is none of this id, or the scheduler is away.
pub(crate) async fn ask<Q: Serialize, R: DeserializeOwned>(
    gateway: &Gateway,
    rpc: &Rpc<(), Q, R>,
    job: JobId,
    question: &Q,
) -> Result<R> {
    let patience = gateway.config.patience.get();
    loop {
        let asked = gateway.bus.ask_patiently(rpc, &(), question, patience);
        match asked.await {
            Err(orchion_bus::Error::Remote(error))
                if error.code == ErrorCode::NotFound && is_young(job) =>
            {
                // Its agent tells of it soon, and nobody tells us of that: ask again.
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer.map_err(|error| Error::from_bus(error, "scheduler")),
        }
    }
}

fn is_young(job: JobId) -> bool {
    let made = job.made_ms().map(Duration::from_millis);
    let age = made.and_then(|made| UNIX_EPOCH.elapsed().ok()?.checked_sub(made));
    age.is_some_and(|age| age < YOUNG)
}

/// Reads a job's id.
///
/// # Errors
/// When it is no UUID.
pub(crate) fn job_id(text: &str) -> Result<JobId> {
    text.parse()
        .map_err(|error: orchion_contract::id::Invalid| Error::invalid("id", error.to_string()))
}

fn job_state(text: &str) -> Result<JobState> {
    match serde_json::from_value(text.into()) {
        Ok(JobState::Unknown) | Err(_) => Err(Error::invalid(
            "state",
            "`state` must be one of pending, assigned, running, completed, failed, canceled",
        )),
        Ok(state) => Ok(state),
    }
}
