//! What an attempt does with the beginning of an answer that it finds.

use orchion_contract::id::ModelName;
use orchion_contract::job::{JobSpec, Outcome, Usage, Workload};
use orchion_contract::node::{Continuation, EngineKind, EngineRef, Replica};
use orchion_contract::transcript::{Continued, Final, Strategy, Times};
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_transcript::Prefix;
use serde::Deserialize;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing was said yet: ask the engine for the whole answer.
    Begin,
    /// Ask the engine to go on.
    GoOn {
        /// Behind what.
        behind: Behind,
        /// Most tokens of the rest.
        max_tokens: Option<u32>,
        /// Seed of the sampler for the rest.
        seed: Option<u64>,
        /// What the final says about it.
        continued: Continued,
    },
    /// Ask nobody: this is the end.
    End(Box<Final>),
    /// Somebody has ended the job already.
    HasEnded,
}

/// What the engine goes on behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// The token ids of the beginning: exactly where it stopped.
    Ids,
    /// The text of the beginning.
    Text,
}

/// Decides what `attempt` does on `replica` with `prefix`, which the engine
/// `prefix_by` wrote.
#[must_use]
pub fn plan(
    attempt: u32,
    spec: &JobSpec,
    prefix: &Prefix,
    prefix_by: Option<&EngineRef>,
    replica: &Replica,
) -> Plan {
    if prefix.end.is_some() {
        return Plan::HasEnded;
    }
    if prefix.is_empty() {
        return Plan::Begin;
    }
    let used = u32::try_from(prefix.tokens).unwrap_or(u32::MAX);
    let verified = match same_weights(spec, prefix_by, &replica.engine) {
        Ok(verified) => verified,
        Err(reason) => return cannot(attempt, prefix, replica, reason),
    };
    let continued = Continued {
        strategy: Strategy::Continue,
        from_index: prefix.next_index(),
        verified,
        swallowed_tokens: 0,
    };
    if spec.max_tokens.is_some_and(|most| used >= most) {
        return Plan::End(Box::new(at_the_limit(attempt, prefix, replica, continued)));
    }
    let behind = match behind(spec, prefix, replica, verified) {
        Ok(behind) => behind,
        Err(reason) => return cannot(attempt, prefix, replica, reason),
    };
    Plan::GoOn {
        behind,
        max_tokens: spec.max_tokens.map(|most| most - used),
        seed: spec.seed.map(|seed| match behind {
            // The engine takes its random numbers up where they stopped.
            Behind::Ids => seed,
            Behind::Text => seed_of_rest(seed, prefix.tokens),
        }),
        continued,
    }
}

/// Whether the weights are known to be equal; an error when they are not, or
/// when nobody can tell.
fn same_weights(
    spec: &JobSpec,
    theirs: Option<&EngineRef>,
    ours: &EngineRef,
) -> Result<bool, String> {
    let model = &spec.model;
    let Some(theirs) = theirs else {
        return Err("nobody knows which engine wrote its beginning".to_owned());
    };
    match (&theirs.digest, &ours.digest) {
        (Some(theirs), Some(ours)) if theirs == ours => Ok(true),
        (None, None) if theirs.kind == ours.kind => Ok(false),
        (None, None) => Err(format!(
            "its beginning was written by an engine of kind {}, this one is of kind {}",
            theirs.kind, ours.kind
        )),
        (Some(_), Some(_)) => Err(format!("the weights of {model} differ between the nodes")),
        (Some(_), None) | (None, Some(_)) => Err(unknown_digest(model)),
    }
}

fn unknown_digest(model: &ModelName) -> String {
    format!("the digest of {model} is known on one node only; set `digest` for its engine")
}

/// How the replica can go on, or why it cannot.
fn behind(
    spec: &JobSpec,
    prefix: &Prefix,
    replica: &Replica,
    verified: bool,
) -> Result<Behind, String> {
    if prefix.has_structure {
        return Err("its beginning holds a tool call, data or several choices".to_owned());
    }
    let kind = replica.engine.kind;
    if let Some(constraint) = constraint(spec, kind) {
        return Err(format!("{kind} cannot take up an answer with {constraint}"));
    }
    if spec.workload == Workload::Completion && !prefix.reasoning.is_empty() {
        return Err("its beginning holds reasoning that a completion cannot hold".to_owned());
    }
    let has_ids = prefix.ids.as_ref().is_some_and(|ids| !ids.is_empty());
    match replica.continuation {
        Continuation::Ids if has_ids && verified => Ok(Behind::Ids),
        Continuation::Ids | Continuation::Text if kind == EngineKind::Starter => Err(
            "the starter engine goes on behind token ids only, and its beginning has none"
                .to_owned(),
        ),
        Continuation::Ids | Continuation::Text => Ok(Behind::Text),
        Continuation::None | Continuation::Unknown => Err(format!(
            "the engine ({kind}) cannot go on behind a beginning"
        )),
    }
}

/// The parts of a request that decide whether its answer can be taken up.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Constraints {
    n: Option<u32>,
    grammar: Option<serde::de::IgnoredAny>,
    response_format: Option<Format>,
    mirostat: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Format {
    r#type: Option<String>,
}

/// A demand whose state is lost with the engine.
fn constraint(spec: &JobSpec, kind: EngineKind) -> Option<&'static str> {
    let asked: Constraints = serde_json::from_str(spec.body.get()).unwrap_or_default();
    if asked.n.is_some_and(|n| n > 1) {
        return Some("several choices");
    }
    if asked.grammar.is_some() {
        return Some("a grammar");
    }
    if asked.mirostat.is_some_and(|mode| mode > 0) {
        return Some("mirostat");
    }
    let format = asked.response_format.and_then(|format| format.r#type);
    // llama-server feeds the beginning to its grammar; others start at the root.
    let is_forced = format.is_some_and(|format| format != "text");
    (is_forced && kind != EngineKind::LlamaCpp).then_some("a forced format")
}

/// A seed that does not repeat the random numbers of the beginning; it fits
/// into 31 bits, which every engine takes.
fn seed_of_rest(seed: u64, tokens: u64) -> u64 {
    let mut x = seed ^ tokens.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & 0x7fff_ffff
}

fn at_the_limit(attempt: u32, prefix: &Prefix, replica: &Replica, continued: Continued) -> Final {
    Final {
        outcome: Outcome::Completed,
        finish_reason: Some("length".to_owned()),
        continued: Some(continued),
        ..without_engine(attempt, prefix, replica)
    }
}

fn cannot(attempt: u32, prefix: &Prefix, replica: &Replica, reason: String) -> Plan {
    let message = format!(
        "the answer was cut after {} tokens and cannot be continued: {reason}; ask again for a new answer",
        prefix.tokens
    );
    let mut error = ErrorBody::new(ErrorCode::WorkerReset, message);
    error.engine = Some(replica.engine.kind.to_string());
    Plan::End(Box::new(Final {
        outcome: Outcome::Failed,
        error: Some(error),
        ..without_engine(attempt, prefix, replica)
    }))
}

/// A final that no engine was asked for.
fn without_engine(attempt: u32, prefix: &Prefix, replica: &Replica) -> Final {
    Final {
        attempt,
        outcome: Outcome::Failed,
        finish_reason: None,
        usage: Usage {
            completion_tokens: prefix.tokens,
            ..Usage::default()
        },
        error: None,
        engine: Some(replica.engine.clone()),
        node: None,
        continued: None,
        times: Times::default(),
    }
}

#[cfg(test)]
mod tests;
