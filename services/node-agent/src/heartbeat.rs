//! Says that this node lives, what it works on, and how loaded it is.

use std::time::Duration;

use orchion_bus::Bus;
use orchion_contract::NodeId;
use orchion_contract::node::Heartbeat;
use orchion_contract::subjects::HEARTBEAT;
use orchion_service::Stop;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::executor::Executor;
use crate::host::Meter;

/// How often to beat.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Without attempts.
    pub idle: Duration,
    /// With.
    pub busy: Duration,
}

/// Beats until `stop`, also while the last answers are finished.
///
/// # Errors
/// When the connection is closed for good.
pub async fn beat(
    bus: Bus,
    node: NodeId,
    executor: Executor,
    pace: Pace,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut meter = Meter::new();
    let mut ticks = interval(pace.busy.min(pace.idle));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sequence = 0;
    let mut last: Option<Instant> = None;
    // When the next one is due, as the last one said: whoever hears nothing until
    // then suspects the node, though it only has less to do now.
    let mut announced = pace.idle;
    while stop.unless_stopped(ticks.tick()).await.is_some() {
        let running = executor.in_hand();
        // A tick may come a little early.
        let slack = Duration::from_millis(5);
        let is_due = last.is_none_or(|last| last.elapsed() + slack >= announced);
        if running.is_empty() && !is_due {
            continue;
        }
        last = Some(Instant::now());
        let next = match running.is_empty() {
            true => pace.idle,
            false => pace.busy.min(pace.idle),
        };
        announced = next;
        let reading = meter.read(std::time::Instant::now());
        let heartbeat = Heartbeat {
            node: node.clone(),
            instance: bus.identity().instance.clone(),
            sequence,
            interval_ms: u64::try_from(next.as_millis()).unwrap_or(u64::MAX),
            running,
            replicas: executor.load(reading),
            memory_available_bytes: reading.memory_available_bytes,
            cpu_percent: reading.cpu_percent,
        };
        sequence += 1;
        bus.publish(&HEARTBEAT, &node, &heartbeat).await?;
    }
    Ok(())
}
