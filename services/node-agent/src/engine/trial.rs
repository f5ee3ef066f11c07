//! Finds out by trying whether an engine can go on behind a beginning.
//!
//! An engine that takes a begun answer may continue it, repeat it, ignore it,
//! or take it for a finished turn. Only the first is of use, so it is asked for
//! a short answer and then for the rest of the same answer: the two must agree.

use std::time::Duration;

use orchion_contract::job::{JobSpec, Priority, Timeouts, Workload};
use orchion_contract::node::{Continuation, EngineKind};
use orchion_contract::transcript::{Entry, Frame, Piece};
use orchion_node_agent_core::Way;
use orchion_transcript::Prefix;
use serde_json::value::RawValue;

use super::{Ask, EngineAdapter, Error, Probed, Rest, Said};

/// Tokens of the whole answer.
const TOKENS: u32 = 8;
/// How long a trial may take: the engine may be loading its model.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `adapter` can do; `None` when it cannot be told.
pub(super) async fn continuation(adapter: &dyn EngineAdapter, probed: &Probed) -> Continuation {
    // The others know it of themselves; and who serves many models would have
    // to load one for this.
    let (EngineKind::OpenAi, [model]) = (adapter.kind(), probed.models.as_slice()) else {
        return probed.continuation;
    };
    let tried = tokio::time::timeout(PATIENCE, attempt(adapter, &model.name)).await;
    match tried {
        Ok(Ok(true)) => Continuation::Text,
        Ok(Ok(false)) | Ok(Err(_)) | Err(_) => Continuation::None,
    }
}

async fn attempt(adapter: &dyn EngineAdapter, model: &str) -> Result<bool, Error> {
    let body = r#"{"messages":[{"role":"user","content":"Say the alphabet, letter by letter."}],"temperature":0}"#;
    let spec = JobSpec {
        workload: Workload::Chat,
        model: model.into(),
        body: RawValue::from_string(body.to_owned())
            .map_err(|error| Error::Strange(error.to_string()))?,
        max_tokens: Some(TOKENS),
        body_ref: None,
        seed: Some(1),
        priority: Priority::Interactive,
        seed_drawn: false,
        deadline_ms: 0,
        whole: false,
        timeouts: Timeouts::default(),
        expected_tokens: None,
        placement: None,
    };
    let whole = said(adapter, Ask::whole(&spec)).await?;
    let shown = whole.len() / 2;
    if shown == 0 {
        return Ok(false);
    }
    let prefix = prefix_of(&whole[..shown])?;
    let rest = Rest {
        prefix: &prefix,
        behind: Way::Text,
        max_tokens: Some(TOKENS - prefix.tokens.min(7) as u32),
        seed: Some(1),
    };
    let rest = said(adapter, Ask::rest(&spec, rest)).await?;
    Ok(goes_on(&text(&whole), &prefix.text, &text(&rest)))
}

async fn said(adapter: &dyn EngineAdapter, ask: Ask<'_>) -> Result<Vec<Piece>, Error> {
    let mut answer = adapter.open(ask).await?;
    let mut pieces = Vec::new();
    while answer.next(&mut pieces).await? == Said::Something {}
    Ok(pieces)
}

fn prefix_of(pieces: &[Piece]) -> Result<Prefix, Error> {
    let frame = Frame {
        attempt: 1,
        index: 0,
        pieces: pieces.to_vec(),
    };
    let mut prefix = Prefix::new();
    let applied = prefix.apply(1, Entry::Frame(frame));
    applied.map_err(|error| Error::Strange(error.to_string()))?;
    Ok(prefix)
}

fn text(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .filter_map(|piece| piece.text.as_deref())
        .collect()
}

/// Whether beginning and rest together are the whole, as far as both go.
fn goes_on(whole: &str, beginning: &str, rest: &str) -> bool {
    let joined = format!("{beginning}{rest}");
    let is_longer = joined.len() > beginning.len() && !beginning.is_empty();
    is_longer && (joined.starts_with(whole) || whole.starts_with(&joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_goes_on_counts() {
        let (whole, beginning) = ("a, b, c, d", "a, b");
        assert!(goes_on(whole, beginning, ", c, d"));
        assert!(goes_on(whole, beginning, ", c"));
        assert!(goes_on(whole, beginning, ", c, d, e"));
        for (rest, what) in [
            ("a, b, c", "repeated"),
            ("a, b, c, d", "ignored"),
            ("Sure: a", "a new turn"),
            ("", "nothing"),
        ] {
            assert!(!goes_on(whole, beginning, rest), "{what}");
        }
    }
}
