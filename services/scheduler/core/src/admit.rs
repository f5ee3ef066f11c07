//! Whether a job may enter.

use crate::Now;
use crate::plan::offers;
use crate::state::ClusterState;
use orchion_contract::job::{JobSpec, MAX_BODY_BYTES, MAX_DEADLINE_MS, Submit, Workload};
use orchion_contract::node::NodeState;
use orchion_contract::stores::MAX_BLOB_BYTES;
use orchion_contract::{ErrorBody, ErrorCode};
use std::time::Duration;

/// Limits of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Waiting jobs per model.
    pub queue_capacity: usize,
    /// How long a model whose nodes are all gone still takes jobs in.
    pub gone_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_capacity: 1024,
            gone_after: Duration::from_secs(30),
        }
    }
}

/// Checks a new job, in the order of the checks that callers rely on.
///
/// # Errors
/// The first check that fails, with what to do about it.
pub fn check(
    submit: &Submit,
    state: &ClusterState,
    limits: Limits,
    now: Now,
) -> Result<(), ErrorBody> {
    let spec = &submit.spec;
    size(spec)?;
    if spec.workload == Workload::Unknown {
        let message = "this workload is not offered: use chat or completion";
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about("workload"));
    }
    if spec.max_tokens == Some(0) {
        let message = "max_tokens must be at least 1";
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about("max_tokens"));
    }
    if spec.deadline_ms == 0 || spec.deadline_ms > MAX_DEADLINE_MS {
        let message = format!("deadline_ms must lie between 1 and {MAX_DEADLINE_MS}");
        return Err(ErrorBody::new(ErrorCode::DeadlineUnmet, message).about("deadline_ms"));
    }
    served(submit, state, limits, now)?;
    room(submit, state, limits)
}

/// The body is small enough for the way it comes.
fn size(spec: &JobSpec) -> Result<(), ErrorBody> {
    let message = if spec.body.get().len() > MAX_BODY_BYTES {
        format!(
            "the request is larger than {MAX_BODY_BYTES} bytes: put it into the object store and send its reference"
        )
    } else if spec.body_bytes() > MAX_BLOB_BYTES {
        format!("the request is larger than {MAX_BLOB_BYTES} bytes: shorten the prompt")
    } else {
        return Ok(());
    };
    Err(ErrorBody::new(ErrorCode::PayloadTooLarge, message))
}

/// Somebody serves the model, or did a moment ago.
fn served(
    submit: &Submit,
    state: &ClusterState,
    limits: Limits,
    now: Now,
) -> Result<(), ErrorBody> {
    let model = &submit.spec.model;
    let (mut known, mut offered) = (false, false);
    for key in state.replicas_of(model) {
        let Some((node, view)) = state.replica(key) else {
            continue;
        };
        known = true;
        if !offers(view, submit.spec.workload) {
            continue;
        }
        offered = true;
        let is_gone = node.state == NodeState::Lost;
        if !is_gone || now.saturating_sub(node.seen_at) < limits.gone_after {
            return Ok(());
        }
    }
    if known && !offered {
        let message = format!(
            "no engine that has model '{model}' does such work: ask it by messages, not by a prompt"
        );
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about("workload"));
    }
    if known {
        let message = format!(
            "every node that serves model '{model}' is gone: start one, or choose another model"
        );
        return Err(ErrorBody::new(ErrorCode::PoolUnavailable, message).about("model"));
    }
    let names: Vec<&str> = state
        .models()
        .map(orchion_contract::ModelName::as_str)
        .collect();
    let hint = match names.as_slice() {
        [] => "no node serves any model yet: start a node-agent".to_owned(),
        names => format!(
            "served are: {}",
            names
                .iter()
                .take(20)
                .copied()
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    Err(ErrorBody::new(
        ErrorCode::NotFound,
        format!("model '{model}' is not known; {hint}"),
    )
    .about("model"))
}

/// The queue has room.
fn room(submit: &Submit, state: &ClusterState, limits: Limits) -> Result<(), ErrorBody> {
    if state.queue_length(&submit.spec.model) < limits.queue_capacity {
        return Ok(());
    }
    let message = format!(
        "the queue of model '{}' is full: try again later",
        submit.spec.model
    );
    Err(ErrorBody {
        policy_label: Some("reject".to_owned()),
        retry_after_ms: Some(1000),
        ..ErrorBody::new(ErrorCode::AdmissionReject, message)
    })
}
