//! Keeps an engine running that the agent starts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orchion_node_agent_core::Backoff;
use orchion_service::Stop;

use super::keeper;
use super::launch::{Launch, Started};
use super::roster::{Engine, Roster};

/// Lines of an engine that are told when it fails.
const LAST_WORDS: usize = 8;
/// How long an engine may take to end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Starts the engine, watches it, and starts it again when it ends, until
/// `stop`, which ends it. From `last_call` on it is not started again.
pub async fn supervise(
    engine: Arc<Engine>,
    launch: Launch,
    roster: Roster,
    full_look: Duration,
    last_call: Stop,
    stop: Stop,
) {
    let mut backoff = Backoff::default();
    while !last_call.is_stopping() {
        let began = Instant::now();
        match stop.unless_stopped(launch.start()).await {
            None => return,
            Some(Ok(started)) => {
                engine.adapter.client().move_to(started.target.clone());
                let ended = run(&engine, started, &roster, full_look, &stop).await;
                roster.is_down(&engine);
                match ended {
                    Some(ended) if !last_call.is_stopping() => ended.tell(&engine.name),
                    Some(_) | None => return,
                }
            }
            Some(Err(error)) => tracing::error!(
                engine.name = engine.name,
                "engine {} cannot be started: {error:#}",
                engine.name
            ),
        }
        // An engine that ends again and again is started ever more seldom.
        let wait = backoff.ended_after(began.elapsed());
        last_call.unless_stopped(tokio::time::sleep(wait)).await;
    }
}

/// How an engine ended by itself.
struct Ended {
    status: String,
    last_words: String,
}

impl Ended {
    fn tell(self, name: &str) {
        tracing::warn!(
            engine.name = name,
            engine.output = self.last_words,
            "engine {name} has ended ({}): starting it again",
            self.status
        );
    }
}

/// Runs until the engine ends, or until `stop`.
async fn run(
    engine: &Arc<Engine>,
    mut started: Started,
    roster: &Roster,
    full_look: Duration,
    stop: &Stop,
) -> Option<Ended> {
    let mut last_words = VecDeque::new();
    let watched = keeper::keep(engine.clone(), roster.clone(), full_look, stop.child());
    let mut watched = std::pin::pin!(watched);
    let mut is_talking = true;
    let status = loop {
        tokio::select! {
            line = started.output.next(), if is_talking => match line {
                Some(line) => {
                    tracing::debug!(engine.name = engine.name, "{line}");
                    last_words.push_back(line);
                    if last_words.len() > LAST_WORDS {
                        last_words.pop_front();
                    }
                }
                None => is_talking = false,
            },
            status = started.child.wait() => break status,
            () = &mut watched => {
                drop(started.hold.take());
                let ended = tokio::time::timeout(FAREWELL, started.child.wait()).await;
                if ended.is_err() {
                    // Dropping it kills it.
                    tracing::debug!(engine.name = engine.name, "engine {} is killed", engine.name);
                }
                return None;
            }
        }
    };
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    let words: Vec<String> = last_words.into();
    Some(Ended {
        status,
        last_words: words.join("\n"),
    })
}
