//! Whether anybody can do the work, at the places that the caller names.

use super::Ask;
use crate::filter::{Candidate, means, offers};
use orchion_contract::node::NodeState;
use orchion_contract::placement::{MAX_PLACES, PlacementMode, PlacementSpec};
use orchion_contract::{ErrorBody, ErrorCode, ModelName};

/// Models that a refusal names.
const NAMED: usize = 20;

pub(super) fn placement(ask: &Ask<'_>) -> Result<(), ErrorBody> {
    let spec = &ask.submit.spec;
    let Some(wishes) = spec.placement.as_deref() else {
        return Ok(());
    };
    let refused = |message: &str, field: &str| {
        let field = format!("placement.{field}");
        Err(ErrorBody::new(ErrorCode::InvalidParams, message).about(field))
    };
    if wishes.prefer_pools.len() > MAX_PLACES || wishes.avoid_pools.len() > MAX_PLACES {
        let message = format!("at most {MAX_PLACES} places can be named in one list");
        return refused(&message, "prefer_pools");
    }
    match wishes.mode {
        PlacementMode::Auto => Ok(()),
        PlacementMode::Unknown => refused("mode must be auto, pin or prefer", "mode"),
        PlacementMode::Prefer if wishes.prefer_pools.is_empty() => {
            refused("mode prefer needs prefer_pools", "prefer_pools")
        }
        PlacementMode::Prefer if !wishes.allow_fallback && !any_preferred(ask, wishes) => {
            let message =
                "none of prefer_pools serves the model: name one that does, or allow a fallback";
            refused(message, "prefer_pools")
        }
        PlacementMode::Prefer => Ok(()),
        PlacementMode::Pin if !ask.state.settings().pool(&spec.model).pinning => refused(
            "pinning is switched off for this model: use mode prefer",
            "mode",
        ),
        PlacementMode::Pin => pinned(ask, wishes),
    }
}

fn any_preferred(ask: &Ask<'_>, wishes: &PlacementSpec) -> bool {
    let mut places = wishes.prefer_pools.iter();
    places.any(|place| pool(ask).any(|candidate| means(place, &candidate)))
}

fn pinned(ask: &Ask<'_>, wishes: &PlacementSpec) -> Result<(), ErrorBody> {
    let about = "placement.pin_pool_id";
    let Some(place) = &wishes.pin_pool_id else {
        let message = "mode pin needs pin_pool_id";
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about(about));
    };
    let here = |candidate: &Candidate<'_>| means(place, candidate);
    let mut pinned = pool(ask).filter(here).peekable();
    if pinned.peek().is_none() {
        let message = format!(
            "no pool, node, host or replica '{place}' serves model '{}': name one that does (`orchion nodes` lists them), or leave placement out",
            ask.submit.spec.model
        );
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about(about));
    }
    if pinned.any(|candidate| is_ready_soon(ask, &candidate)) {
        return Ok(());
    }
    let message =
        format!("'{place}' takes no work now: try again later, or let the job go elsewhere");
    let mut refusal = ErrorBody::new(ErrorCode::PoolUnready, message).about(about);
    refusal.pool_id = Some(place.clone());
    Err(refusal)
}

/// Somebody serves the model, or did a moment ago.
pub(super) fn feasibility(ask: &Ask<'_>) -> Result<(), ErrorBody> {
    let spec = &ask.submit.spec;
    let model = &spec.model;
    let (mut known, mut offered, mut there) = (false, false, false);
    for candidate in pool(ask) {
        known = true;
        if !offers(candidate.view, spec.workload) {
            continue;
        }
        offered = true;
        there |= candidate.node.state != NodeState::Lost;
        if is_ready_soon(ask, &candidate) {
            return Ok(());
        }
    }
    if !known {
        return Err(not_known(ask, model));
    }
    if !offered {
        let message = format!(
            "no engine that has model '{model}' does such work: ask it by messages, not by a prompt"
        );
        return Err(ErrorBody::new(ErrorCode::InvalidParams, message).about("workload"));
    }
    let (code, message) = if there {
        let message = format!("no replica of model '{model}' is ready: try again later");
        (ErrorCode::PoolUnready, message)
    } else {
        let message = format!(
            "every node that serves model '{model}' is gone: start one, or choose another model"
        );
        (ErrorCode::PoolUnavailable, message)
    };
    Err(ErrorBody::new(code, message).about("model"))
}

fn pool<'a>(ask: &Ask<'a>) -> impl Iterator<Item = Candidate<'a>> {
    let state = ask.state;
    state
        .replicas_of(&ask.submit.spec.model)
        .filter_map(|key| Candidate::of(state, key))
}

/// It takes work, or did a moment ago.
fn is_ready_soon(ask: &Ask<'_>, candidate: &Candidate<'_>) -> bool {
    let patience = ask.state.settings().gone_after;
    let soon = |since| ask.now.saturating_sub(since) < patience;
    match candidate.node.state {
        NodeState::Lost => soon(candidate.node.seen_at),
        NodeState::Online | NodeState::Suspect | NodeState::Unknown => {
            candidate.view.replica.ready || soon(candidate.view.ready_at)
        }
    }
}

fn not_known(ask: &Ask<'_>, model: &ModelName) -> ErrorBody {
    let names: Vec<&str> = ask
        .state
        .models()
        .map(ModelName::as_str)
        .take(NAMED)
        .collect();
    let hint = match names.as_slice() {
        [] => "no node serves any model yet: start a node-agent".to_owned(),
        names => format!("served are: {}", names.join(", ")),
    };
    let message = format!("model '{model}' is not known; {hint}");
    ErrorBody::new(ErrorCode::NotFound, message).about("model")
}
