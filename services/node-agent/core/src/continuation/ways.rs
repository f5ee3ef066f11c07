//! Which engine can take up which answer, and how.

use super::ladder::Way;
use super::request::Request;
use orchion_contract::job::{JobSpec, Workload};
use orchion_contract::node::{Continuation, EngineKind, EngineRef, Replica};
use orchion_transcript::Prefix;

/// A longer beginning is not generated again to keep the promise of a seed
/// where the engine can go on behind it: generating costs many times more than
/// reading.
const REPLAYED_FOR_A_SEED: u64 = 256;

/// What is known about the weights that wrote the beginning and those that are
/// to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// Their digests are equal.
    Equal,
    /// Nobody knows a digest, and the engines are of one kind.
    Alike,
    /// Nobody can tell.
    Unknown,
    /// Their digests differ.
    Different,
}

impl Weights {
    pub(super) fn of(theirs: Option<&EngineRef>, ours: &EngineRef) -> Self {
        let Some(theirs) = theirs else {
            return Self::Unknown;
        };
        match (&theirs.digest, &ours.digest) {
            (Some(theirs), Some(ours)) if theirs == ours => Self::Equal,
            (Some(_), Some(_)) => Self::Different,
            (None, None) if theirs.kind == ours.kind => Self::Alike,
            (None, None) | (Some(_), None) | (None, Some(_)) => Self::Unknown,
        }
    }
}

/// The ways that may work before a restart, best first.
pub(super) fn ways(
    spec: &JobSpec,
    request: &Request,
    prefix: &Prefix,
    prefix_by: Option<&EngineRef>,
    replica: &Replica,
    weights: Weights,
) -> Vec<Way> {
    // Other weights say other things, and results that are no text cannot be
    // compared.
    if weights == Weights::Different || prefix.has_data() {
        return Vec::new();
    }
    let has_promise = spec.seed.is_some() && !spec.seed_drawn && !request.is_greedy;
    let is_repeatable = prefix_by == Some(&replica.engine) && prefix.tokens <= REPLAYED_FOR_A_SEED;
    match behind(spec, request, prefix, replica, weights) {
        None => vec![Way::Replay],
        Some(Way::Text) if has_promise && is_repeatable => vec![Way::Replay, Way::Text],
        Some(way) => vec![way, Way::Replay],
    }
}

/// How the engine can go on behind the beginning, if it can.
fn behind(
    spec: &JobSpec,
    request: &Request,
    prefix: &Prefix,
    replica: &Replica,
    weights: Weights,
) -> Option<Way> {
    let is_known = matches!(weights, Weights::Equal | Weights::Alike);
    // A begun call, several answers and the state of mirostat are in no text.
    let is_text = !prefix.has_tool_call()
        && !prefix.has_choices()
        && !request.has_choices
        && !request.has_mirostat;
    let thinks = !prefix.reasoning.is_empty();
    if !is_known || !is_text || (thinks && spec.workload == Workload::Completion) {
        return None;
    }
    match replica.continuation {
        Continuation::Text | Continuation::Ids => {}
        Continuation::None | Continuation::Unknown => return None,
    }
    let has_ids = prefix.ids.as_ref().is_some_and(|ids| !ids.is_empty());
    match replica.engine.kind {
        // It reads ids one by one as it wrote them, so that nothing differs.
        EngineKind::Starter => (has_ids && weights == Weights::Equal).then_some(Way::Ids),
        // It feeds the beginning to its grammar.
        EngineKind::LlamaCpp => Some(Way::Text),
        EngineKind::Ollama
        | EngineKind::Vllm
        | EngineKind::Exo
        | EngineKind::OpenAi
        | EngineKind::Unknown => {
            // Their grammars start at the root again, and a thought is not taken up.
            let is_plain = !request.has_grammar && !request.has_format && !prefix.text.is_empty();
            is_plain.then_some(Way::Text)
        }
    }
}
