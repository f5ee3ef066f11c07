//! Watches one engine: whether it lives, and what it serves.

use std::sync::Arc;
use std::time::Duration;

use orchion_service::Stop;
use tokio::time::{Instant, timeout};

use super::Probed;
use super::roster::{Engine, Roster};
use super::trial;

/// How often a living engine is asked whether it lives.
const LOOK: Duration = Duration::from_secs(1);
/// How often a dead one is; back in rotation within twice this.
const LOOK_FOR_DEAD: Duration = Duration::from_millis(200);
/// How long an answer to that may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an engine that was never seen may be missed in silence: it may be
/// starting.
const STARTING: Duration = Duration::from_secs(5);

/// Keeps the roster true about `engine` until `stop`.
pub async fn keep(engine: Arc<Engine>, roster: Roster, full_look: Duration, stop: Stop) {
    let watched = watch(&engine, &roster, full_look);
    stop.unless_stopped(watched).await;
}

async fn watch(engine: &Arc<Engine>, roster: &Roster, full_look: Duration) {
    let mut known: Option<Probed> = None;
    let mut was_missed = false;
    let began = Instant::now();
    loop {
        match probe(engine, known.as_ref()).await {
            Some(probed) => {
                if known.as_ref() != Some(&probed) || was_missed {
                    tell_up(engine, &probed);
                }
                roster.serves(engine, engine.replicas(&probed));
                known = Some(probed);
                was_missed = false;
                while_alive(engine, full_look).await;
            }
            None => {
                let is_late = known.is_some() || began.elapsed() >= STARTING;
                if is_late && !was_missed {
                    tell_down(engine, known.is_some());
                    was_missed = true;
                }
                roster.is_down(engine);
                tokio::time::sleep(LOOK_FOR_DEAD).await;
            }
        }
    }
}

/// A full look; what was tried out before is kept as long as the rest is equal.
async fn probe(engine: &Engine, known: Option<&Probed>) -> Option<Probed> {
    let mut probed = match timeout(PATIENCE, engine.adapter.probe()).await {
        Ok(Ok(probed)) => probed,
        Ok(Err(error)) => {
            tracing::debug!(engine.name = engine.name, "engine is not there: {error}");
            return None;
        }
        Err(_) => return None,
    };
    if engine.settings.continuation.is_none() {
        let same =
            |known: &&Probed| (&known.version, &known.models) == (&probed.version, &probed.models);
        probed.continuation = match known.filter(same) {
            Some(known) => known.continuation,
            None => trial::continuation(engine.adapter.as_ref(), &probed).await,
        };
    }
    Some(probed)
}

/// Returns when it is time for a full look, or when the engine is in doubt.
async fn while_alive(engine: &Engine, full_look: Duration) {
    let until = Instant::now() + full_look;
    loop {
        let doubted = timeout(LOOK, engine.doubt.notified()).await.is_ok();
        if doubted || Instant::now() >= until {
            return;
        }
        let looked = timeout(PATIENCE, engine.adapter.look()).await;
        if !matches!(looked, Ok(Ok(()))) {
            return;
        }
    }
}

fn tell_up(engine: &Engine, probed: &Probed) {
    let models: Vec<&str> = probed.models.iter().map(|m| m.name.as_str()).collect();
    tracing::info!(
        engine.name = engine.name,
        engine.kind = %engine.adapter.kind(),
        engine.url = engine.adapter.client().target().url(),
        engine.version = probed.version,
        engine.continuation = ?engine.settings.continuation.unwrap_or(probed.continuation),
        "engine {} serves {}",
        engine.name,
        if models.is_empty() { "nothing".to_owned() } else { models.join(", ") },
    );
}

fn tell_down(engine: &Engine, was_there: bool) {
    let (name, url) = (&engine.name, engine.adapter.client().target().url());
    if was_there {
        tracing::warn!(
            engine.name = name,
            engine.url = url,
            "engine {name} does not answer any more: looking for it"
        );
    } else {
        tracing::warn!(
            engine.name = name,
            engine.url = url,
            "engine {name} does not answer at {url}: still looking; is it running there?"
        );
    }
}
