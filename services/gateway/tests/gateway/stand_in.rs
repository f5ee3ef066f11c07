//! Somebody who plays scheduler and registry by the contract.

use std::collections::BTreeMap;
use std::sync::Mutex;

use orchion_contract::job::{
    Admission, CancelJob, FollowJob, JobList, JobState, JobSummary, ListJobs, Submit,
};
use orchion_contract::node::{Node, NodePage};
use orchion_contract::{ErrorBody, ErrorCode, JobId, rpc};
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use crate::cluster::Cluster;

/// What the stand-in knows of jobs, and what it was told.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) jobs: BTreeMap<JobId, (Submit, JobState)>,
}

/// Where the stand-in notes what it was told.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) submitted: UnboundedSender<Submit>,
    pub(crate) canceled: UnboundedSender<CancelJob>,
    pub(crate) followed: UnboundedSender<FollowJob>,
}

impl Cluster {
    /// From now on there is a scheduler.
    pub(crate) async fn play_scheduler(&mut self) {
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::SUBMIT, move |submit: Submit| {
            let admission = admit(&books, &submit)?;
            let _ = told.submitted.send(submit);
            Ok(admission)
        })
        .await;
        let books = self.books.clone();
        self.answer(rpc::GET_JOB, move |job| summary(&books, job))
            .await;
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::CANCEL_JOB, move |cancel: CancelJob| {
            let summary = summary(&books, cancel.job)?;
            let _ = told.canceled.send(cancel);
            Ok(summary)
        })
        .await;
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::FOLLOW_JOB, move |follow: FollowJob| {
            let summary = summary(&books, follow.job)?;
            let _ = told.followed.send(follow);
            Ok(summary)
        })
        .await;
        let books = self.books.clone();
        self.answer(rpc::LIST_JOBS, move |filter: ListJobs| {
            let ids: Vec<JobId> = books.lock().unwrap().jobs.keys().rev().copied().collect();
            let jobs = ids.into_iter().map(|id| summary(&books, id).unwrap());
            let is_wanted = |job: &JobSummary| filter.state.is_none_or(|state| state == job.state);
            let jobs = jobs.filter(is_wanted).collect();
            Ok(JobList { jobs })
        })
        .await;
    }

    /// From now on there is a registry, which knows one node.
    pub(crate) async fn play_registry(&mut self) {
        self.answer(rpc::LIST_NODES, |_| {
            Ok(NodePage::of([node("alpha")].iter()))
        })
        .await;
        self.answer(rpc::GET_NODE, |id| match id.as_str() {
            "alpha" => Ok(node("alpha")),
            other => Err(ErrorBody::new(
                ErrorCode::NotFound,
                format!("no node {other}"),
            )),
        })
        .await;
    }
}

fn admit(books: &Mutex<Books>, submit: &Submit) -> Result<Admission, ErrorBody> {
    match submit.spec.model.as_str() {
        "tiny" | "queued" | "stuck" => {}
        "busy" => {
            let mut error = ErrorBody::new(ErrorCode::AdmissionReject, "the queue is full");
            error.retry_after_ms = Some(1500);
            return Err(error);
        }
        refused if refused.starts_with("refuse:") => {
            let code = serde_json::from_value(json!(refused["refuse:".len()..]));
            return Err(ErrorBody::new(code.unwrap(), "no"));
        }
        other => {
            let message = format!("no node serves the model '{other}'; did you mean tiny?");
            return Err(ErrorBody::new(ErrorCode::NotFound, message).about("model"));
        }
    }
    let mut books = books.lock().unwrap();
    let known = books.jobs.get(&submit.job);
    if known.is_some_and(|(known, _)| known.spec.digest() != submit.spec.digest()) {
        return Err(ErrorBody::new(
            ErrorCode::Conflict,
            "this id exists with another body",
        ));
    }
    let existed = known.is_some();
    let reader = known
        .map_or(&submit.reader, |(known, _)| &known.reader)
        .clone();
    if !existed {
        books
            .jobs
            .insert(submit.job, (submit.clone(), JobState::Assigned));
    }
    let is_stuck = submit.spec.model.as_str() == "stuck";
    let is_queued = is_stuck || submit.spec.model.as_str() == "queued";
    Ok(Admission {
        job: submit.job,
        reader,
        state: match books.jobs.get(&submit.job) {
            Some((_, state)) if state.is_ended() => *state,
            Some(_) | None if is_queued => JobState::Pending,
            Some(_) | None => JobState::Assigned,
        },
        queue_position: if is_queued { 2 } else { 0 },
        predicted_start_ms: (!is_stuck).then_some(if is_queued { 900 } else { 0 }),
        reason: is_stuck.then(|| "no node serves its model now".to_owned()),
        backoff_ms: if is_queued { 300 } else { 0 },
        existed,
    })
}

pub(crate) fn summary(books: &Mutex<Books>, job: JobId) -> Result<JobSummary, ErrorBody> {
    let books = books.lock().unwrap();
    let found = books.jobs.get(&job);
    let (submit, state) =
        found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, format!("no job {job}")))?;
    Ok(JobSummary {
        id: job,
        reader: submit.reader.clone(),
        door: submit.door,
        workload: submit.spec.workload,
        model: submit.spec.model.clone(),
        priority: submit.spec.priority,
        state: *state,
        queue_position: None,
        attempt: 1,
        node: None,
        created_ms: 1,
        assigned_ms: None,
        deadline_at_ms: 2,
        correlation_id: submit.correlation_id.clone(),
        end: None,
        timeline: Default::default(),
        progress: None,
    })
}

/// A node with one replica of `tiny` and one that is not ready.
fn node(id: &str) -> Node {
    let replica = |id: &str, model: &str, ready: bool| {
        json!({
            "id": id, "model": model, "engine": {"kind": "starter"}, "slots": 2,
            "continuation": "ids", "ready": ready, "workloads": ["chat"],
        })
    };
    serde_json::from_value(json!({
        "id": id, "instance": "i", "hostname": "host", "version": "0.1.0", "capabilities": {},
        "replicas": [replica("a", "tiny", true), replica("b", "org/tiny-2", true), replica("c", "asleep", false)],
        "state": "online", "first_seen_ms": 1_700_000_000_000_u64, "last_seen_ms": 1_700_000_001_000_u64,
        "last_seen_unix": 1_700_000_001_u64, "heartbeat_ms": 5000,
    }))
    .unwrap()
}
