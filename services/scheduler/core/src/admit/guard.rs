//! Limits of a request by itself: its size, its length, its time.

use super::Ask;
use crate::experience::Demand;
use crate::filter::offers;
use orchion_contract::job::{MAX_BODY_BYTES, MAX_DEADLINE_MS, Priority, Workload};
use orchion_contract::stores::MAX_BLOB_BYTES;
use orchion_contract::{ErrorBody, ErrorCode};

/// The body is small enough for the way it comes.
pub(super) fn size(ask: &Ask<'_>) -> Result<(), ErrorBody> {
    let spec = &ask.submit.spec;
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

pub(super) fn rails(ask: &Ask<'_>) -> Result<(), ErrorBody> {
    let spec = &ask.submit.spec;
    let refused = |message: String, field: &str| {
        Err(ErrorBody::new(ErrorCode::InvalidParams, message).about(field))
    };
    if spec.workload == Workload::Unknown {
        let message = "this workload is not offered: use chat or completion".to_owned();
        return refused(message, "workload");
    }
    if spec.max_tokens == Some(0) {
        return refused("max_tokens must be at least 1".to_owned(), "max_tokens");
    }
    let experience = ask.state.experience();
    let needed = experience.fewest_tokens(&spec.model, &Demand::of(spec));
    match longest_context(ask) {
        Some(ctx) if needed > u64::from(ctx) => {
            let message = format!(
                "prompt and answer need at least {needed} tokens, and model '{}' has a context of {ctx}: shorten the prompt or lower max_tokens",
                spec.model
            );
            refused(
                message,
                if spec.max_tokens.is_some() {
                    "max_tokens"
                } else {
                    "messages"
                },
            )
        }
        Some(_) | None => Ok(()),
    }
}

/// The longest context of any replica that does such work; `None` when one of
/// them does not say, or nobody is there.
fn longest_context(ask: &Ask<'_>) -> Option<u32> {
    let spec = &ask.submit.spec;
    let keys = ask.state.replicas_of(&spec.model);
    let views = keys.filter_map(|key| ask.state.replica(key).map(|(_, view)| view));
    let mut longest = None;
    for view in views.filter(|view| offers(view, spec.workload)) {
        longest = longest.max(Some(view.replica.ctx?));
    }
    longest
}

pub(super) fn deadline(ask: &Ask<'_>) -> Result<(), ErrorBody> {
    let spec = &ask.submit.spec;
    if spec.deadline_ms == 0 || spec.deadline_ms > MAX_DEADLINE_MS {
        let message = format!("deadline_ms must lie between 1 and {MAX_DEADLINE_MS}");
        return Err(ErrorBody::new(ErrorCode::DeadlineUnmet, message).about("deadline_ms"));
    }
    // Only experience may refuse, never an assumption.
    let forecast = ask.forecast.filter(|forecast| forecast.learnt);
    let Some(forecast) = forecast.filter(|_| !ask.has_slot()) else {
        return Ok(());
    };
    let ahead = match spec.priority {
        Priority::Interactive => ask.state.interactive_waiting(&spec.model),
        Priority::Batch => forecast.starts.len(),
    };
    let start = forecast.start_at(ahead);
    if start <= spec.deadline_ms {
        return Ok(());
    }
    let message = format!(
        "the queue of model '{}' is {} long, and the deadline is in {}: allow more time, or ask later",
        spec.model,
        seconds(start),
        seconds(spec.deadline_ms)
    );
    Err(ErrorBody::new(ErrorCode::DeadlineUnmet, message).about("deadline_ms"))
}

/// Long enough to be told in whole seconds, in tenths, or in milliseconds.
fn seconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} s", ms.div_ceil(1000)),
    }
}
