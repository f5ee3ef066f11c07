//! Tells the scheduler which attempts have ended, until it says that it knows.

use std::time::Duration;

use orchion_bus::Bus;
use orchion_contract::NodeId;
use orchion_contract::job::{AttemptEnd, EndedBatch};
use orchion_contract::rpc::ENDED;
use orchion_service::Stop;
use tokio::time::{Instant, sleep_until};

use crate::executor::Executor;

/// How long one try waits, and how far two tries are apart.
const TRY: Duration = Duration::from_millis(300);
/// Ends in one message: it stays far below what a message may hold.
const MOST: usize = 256;
/// How long the last ends are repeated when the agent stops.
const LAST_WORDS: Duration = Duration::from_millis(900);

/// Tells ends until `stop`, and then those that are left. One message is under
/// way at a time; ends that come meanwhile join the next.
///
/// # Errors
/// Never; the type fits a task.
pub async fn tell(bus: Bus, node: NodeId, executor: Executor, stop: Stop) -> anyhow::Result<()> {
    while let Some(ends) = stop.unless_stopped(executor.untold(MOST)).await {
        let batch = batch(&bus, &node, &executor, ends);
        tell_once(&bus, &executor, &batch).await;
    }
    let until = Instant::now() + LAST_WORDS;
    while Instant::now() < until {
        let ends = executor.untold_now(MOST);
        if ends.is_empty() {
            break;
        }
        let batch = batch(&bus, &node, &executor, ends);
        tell_once(&bus, &executor, &batch).await;
    }
    Ok(())
}

fn batch(bus: &Bus, node: &NodeId, executor: &Executor, ends: Vec<AttemptEnd>) -> EndedBatch {
    EndedBatch {
        node: node.clone(),
        instance: bus.identity().instance.clone(),
        granted: executor.granted(&ends),
        ends,
    }
}

async fn tell_once(bus: &Bus, executor: &Executor, batch: &EndedBatch) {
    let next = Instant::now() + TRY;
    match bus.ask(&ENDED, &(), batch, TRY).await {
        Ok(_) => executor.told(&batch.ends),
        Err(error) => {
            tracing::debug!(
                ends = batch.ends.len(),
                "the scheduler has not taken note of {} ends yet: {error}",
                batch.ends.len()
            );
            sleep_until(next).await;
        }
    }
}
