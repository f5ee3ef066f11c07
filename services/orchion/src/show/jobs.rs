//! Jobs on the terminal.

use anstyle::Style;
use orchion_contract::job::{JobState, JobSummary, Timeline};
use orchion_contract::transcript::Strategy;

use super::table::{Cell, Table, pairs};
use super::units::{ago, span};
use crate::terminal::{BAD, CARE, DIM, GOOD, STRONG};

/// All jobs, one per line.
pub(crate) fn table(jobs: &[JobSummary], now_ms: u64, colour: bool) -> String {
    let mut table = Table::new(&[
        "job", "state", "model", "node", "created", "took", "tokens", "remark",
    ]);
    for job in jobs {
        let tokens = job.end.as_ref().map(|end| end.usage.completion_tokens);
        table.row(vec![
            Cell::styled(job.id.to_string(), STRONG),
            Cell::styled(job.state.as_str(), style(job.state)),
            job.model.as_str().into(),
            job.node.as_ref().map_or("", |node| node.as_str()).into(),
            ago(job.created_ms, now_ms).into(),
            took(job).into(),
            tokens
                .map_or_else(String::new, |tokens| tokens.to_string())
                .into(),
            remark(job).into(),
        ]);
    }
    table.render(colour)
}

/// Everything about one job.
pub(crate) fn detail(job: &JobSummary, now_ms: u64, colour: bool) -> String {
    let end = job.end.as_ref();
    let usage = end.map(|end| {
        format!(
            "{} in, {} out",
            end.usage.prompt_tokens, end.usage.completion_tokens
        )
    });
    let finish = end.and_then(|end| end.finish_reason.clone());
    pairs(
        &[
            ("job", job.id.to_string()),
            ("state", job.state.to_string()),
            ("model", job.model.to_string()),
            (
                "node",
                job.node
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("attempt", job.attempt.to_string()),
            ("created", ago(job.created_ms, now_ms)),
            ("took", took(job)),
            ("timeline", timeline(&job.timeline)),
            ("tokens", usage.unwrap_or_default()),
            ("finished by", finish.unwrap_or_default()),
            ("remark", remark(job)),
            ("correlation", job.correlation_id.clone()),
        ],
        colour,
    )
}

/// What happened when, from the admission on.
fn timeline(times: &Timeline) -> String {
    let Some(began) = times.queued_ms else {
        return String::new();
    };
    let steps = [
        ("assigned", times.assigned_ms),
        ("started", times.started_ms),
        ("first token", times.first_token_ms),
        ("ended", times.ended_ms),
    ];
    let shown = steps.into_iter().filter_map(|(step, at)| {
        let after = span(at?.saturating_sub(began));
        Some(format!("{step} +{after}"))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// From admission to end.
fn took(job: &JobSummary) -> String {
    let end = job.end.as_ref();
    end.map(|end| span(end.at_ms.saturating_sub(job.created_ms)))
        .unwrap_or_default()
}

fn remark(job: &JobSummary) -> String {
    if let Some(reason) = job.progress.as_ref().and_then(|told| told.reason.clone()) {
        return reason;
    }
    if let Some(position) = job.queue_position {
        return match position {
            0 => "next in the queue".to_owned(),
            ahead => format!("{ahead} before it"),
        };
    }
    let Some(end) = &job.end else {
        return String::new();
    };
    match (&end.error, &end.continued) {
        (Some(error), _) => error.to_string(),
        (None, Some(continued)) => {
            let how = match continued.strategy {
                Strategy::Continue | Strategy::Replay | Strategy::Unknown => "went on",
                Strategy::Restart => "started over",
            };
            format!(
                "{how} at piece {} in attempt {}",
                continued.from_index, job.attempt
            )
        }
        (None, None) => String::new(),
    }
}

fn style(state: JobState) -> Style {
    match state {
        JobState::Completed => GOOD,
        JobState::Failed | JobState::Unknown => BAD,
        JobState::Canceled => DIM,
        JobState::Pending | JobState::Assigned | JobState::Running => CARE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(id: u8, state: &str, more: Value) -> JobSummary {
        let mut job = json!({
            "id": format!("0192f000-0000-7000-8000-0000000000{id:02}"), "reader": "g1",
            "door": "task", "workload": "chat", "model": "qwen3-8b",
            "priority": "interactive", "state": state, "attempt": 1, "created_ms": 10_000,
            "deadline_at_ms": 610_000, "correlation_id": "c-1",
        });
        job.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_table_of_jobs() {
        let jobs = [
            job(3, "pending", json!({"queue_position": 2, "attempt": 0})),
            job(
                2,
                "completed",
                json!({"node": "pi", "attempt": 2, "timeline": {
                    "queued_ms": 10_000, "assigned_ms": 10_002, "started_ms": 10_003,
                    "ended_ms": 14_200,
                }, "end": {
                    "outcome": "completed", "at_ms": 14_200, "finish_reason": "stop",
                    "usage": {"prompt_tokens": 9, "completion_tokens": 120},
                    "continued": {"strategy": "continue", "from_index": 44, "verified": true},
                }}),
            ),
            job(
                1,
                "failed",
                json!({"end": {
                    "outcome": "failed", "at_ms": 20_000,
                    "error": {"code": "DECODE_TIMEOUT", "message": "the engine was silent for 60 s"},
                }}),
            ),
        ];
        insta::assert_snapshot!(table(&jobs, 70_000, false), @r"
        JOB                                    STATE       MODEL      NODE   CREATED   TOOK   TOKENS   REMARK
        0192f000-0000-7000-8000-000000000003   pending     qwen3-8b   -      1m ago    -      -        2 before it
        0192f000-0000-7000-8000-000000000002   completed   qwen3-8b   pi     1m ago    4.2s   120      went on at piece 44 in attempt 2
        0192f000-0000-7000-8000-000000000001   failed      qwen3-8b   -      1m ago    10s    0        DECODE_TIMEOUT: the engine was silent for 60 s
        ");
        insta::assert_snapshot!(detail(&jobs[1], 70_000, false), @r"
        job          0192f000-0000-7000-8000-000000000002
        state        completed
        model        qwen3-8b
        node         pi
        attempt      2
        created      1m ago
        took         4.2s
        timeline     assigned +2ms, started +3ms, ended +4.2s
        tokens       9 in, 120 out
        finished by  stop
        remark       went on at piece 44 in attempt 2
        correlation  c-1
        ");
    }
}
