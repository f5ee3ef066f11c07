//! Why a job is where it is, on the terminal.

use orchion_contract::placement::{Decision, DecisionOutcome, Explanation, Place, Verdict};

use super::table::{Cell, Table, pairs};
use super::units::{bytes, span};
use crate::terminal::{GOOD, STRONG};

/// The short answer, then each decision with its candidates.
pub(crate) fn explanation(found: &Explanation, colour: bool) -> String {
    let head = pairs(
        &[
            ("job", found.job.to_string()),
            ("state", found.state.to_string()),
            ("why", found.summary.clone()),
            ("pool", found.pool.to_string()),
            (
                "before it",
                found
                    .queue_position
                    .map(|ahead| ahead.to_string())
                    .unwrap_or_default(),
            ),
            (
                "starts in",
                found.predicted_start_ms.map(span).unwrap_or_default(),
            ),
        ],
        colour,
    );
    let decisions = found.decisions.iter().map(|made| decision(made, colour));
    let parts: Vec<String> = std::iter::once(head).chain(decisions).collect();
    parts.join("\n\n")
}

fn decision(made: &Decision, colour: bool) -> String {
    let mut text = headline(made);
    if made.pinned {
        text.push_str(", pinned by the caller");
    }
    if made.fallback_used {
        text.push_str(", not where the caller prefers");
    }
    if !made.tie_breakers_applied.is_empty() {
        text.push_str(&format!(
            "\n{}: {}",
            made.strategy,
            made.tie_breakers_applied.join(", ")
        ));
    }
    if made.candidates.is_empty() {
        return text;
    }
    let mut table = Table::new(&["replica", "used", "memory free", "verdict"]);
    for seen in &made.candidates {
        table.row(row(seen, made.selected.as_ref() == Some(&seen.place)));
    }
    format!("{text}\n{}", table.render(colour))
}

fn headline(made: &Decision) -> String {
    let attempt = made.attempt;
    match (made.outcome, &made.selected) {
        (DecisionOutcome::Assigned, Some(to)) => format!("attempt {attempt} went to {}", name(to)),
        (DecisionOutcome::Assigned, None) => format!("attempt {attempt} was placed"),
        (DecisionOutcome::Granted, Some(to)) => {
            format!(
                "attempt {attempt} went to {}, where its gateway was granted a slot before",
                name(to)
            )
        }
        (DecisionOutcome::Granted, None) => {
            format!("attempt {attempt} went to a slot that its gateway was granted before")
        }
        (DecisionOutcome::NoCapacity, _) => {
            format!(
                "now: none of {} replicas takes it",
                made.candidates_considered
            )
        }
        (DecisionOutcome::Preempted, _) => {
            format!("attempt {attempt} gave its slot to an interactive job")
        }
        (DecisionOutcome::Released, _) => format!("attempt {attempt} was taken back"),
        (DecisionOutcome::Unknown, _) => format!("attempt {attempt}: a newer version knows"),
    }
}

fn row(seen: &Verdict, chosen: bool) -> Vec<Cell> {
    let place = name(&seen.place);
    let mut reason = seen.reason.clone();
    if seen.slow {
        reason.push_str(" (slow)");
    }
    vec![
        if chosen {
            Cell::styled(place, STRONG)
        } else {
            place.into()
        },
        format!("{}/{}", seen.slots_used, seen.slots).into(),
        seen.memory_free_bytes.map(bytes).unwrap_or_default().into(),
        if chosen {
            Cell::styled(reason, GOOD)
        } else {
            reason.into()
        },
    ]
}

fn name(place: &Place) -> String {
    format!("{}/{}", place.node, place.replica)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_waiting_job_with_a_past() {
        let found: Explanation = serde_json::from_value(json!({
            "job": "0192f000-0000-7000-8000-000000000003", "state": "pending", "pool": "qwen3-8b",
            "priority": "batch", "queue_position": 2, "predicted_start_ms": 4200,
            "summary": "it waits: of 2 replicas 2 cannot take it because every slot is in use",
            "decisions": [
                {"at_ms": 1, "attempt": 1, "outcome": "assigned", "strategy": "least-loaded",
                 "selected": {"node": "pi", "replica": "r"}, "candidates_considered": 2,
                 "tie_breakers_applied": ["memory_free", "name"], "pinned": true,
                 "candidates": [
                    {"place": {"node": "attic", "replica": "r"}, "engine": "starter", "removed_by": "offline",
                     "reason": "the node is not there", "slots_used": 0, "slots": 2, "slow": true},
                    {"place": {"node": "pi", "replica": "r"}, "engine": "llamacpp", "reason": "it was chosen",
                     "slots_used": 1, "slots": 4, "memory_free_bytes": 8589934592_u64},
                 ]},
                {"at_ms": 2, "attempt": 1, "outcome": "preempted", "strategy": "", "candidates_considered": 0},
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(explanation(&found, false), @r"
        job        0192f000-0000-7000-8000-000000000003
        state      pending
        why        it waits: of 2 replicas 2 cannot take it because every slot is in use
        pool       qwen3-8b
        before it  2
        starts in  4.2s

        attempt 1 went to pi/r, pinned by the caller
        least-loaded: memory_free, name
        REPLICA   USED   MEMORY FREE   VERDICT
        attic/r   0/2    -             the node is not there (slow)
        pi/r      1/4    8 GiB         it was chosen

        attempt 1 gave its slot to an interactive job
        ");
    }
}
