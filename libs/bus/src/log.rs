//! Ships log records over the bus: never blocks a writer, counts what it drops.

use crate::connect::Bus;
use orchion_contract::InstanceId;
use orchion_contract::log::{Level, ServiceName};
use orchion_contract::subjects::LOG;
use orchion_service::Stop;
use orchion_service::telemetry::{Feed, LogLine};

/// Publishes the records of a feed until `stop`.
pub(crate) async fn publish_logs(bus: Bus, feed: Feed, stop: Stop) -> anyhow::Result<()> {
    while let Some(line) = stop.unless_stopped(feed.recv()).await {
        publish(&bus, line).await;
        let dropped = feed.take_dropped();
        if dropped > 0 {
            // Another target than this module's, or it would not be shipped itself.
            tracing::warn!(
                target: "orchion_bus::feed",
                dropped,
                "{dropped} log records were dropped: they came faster than NATS took them"
            );
        }
    }
    Ok(())
}

/// Publishes what is left of a feed.
pub(crate) async fn publish_rest(bus: &Bus, feed: &Feed) {
    while let Some(line) = feed.try_recv() {
        publish(bus, line).await;
    }
}

async fn publish(bus: &Bus, line: LogLine) {
    let names = (
        ServiceName::new(&line.service),
        InstanceId::new(&line.instance),
        line.level.parse::<Level>(),
    );
    let (Ok(service), Ok(instance), Ok(level)) = names else {
        return;
    };
    let subject = LOG.to(&(service, instance, level));
    if let Err(error) = bus.publish_bytes(subject, line.json.into()).await {
        tracing::debug!(%error, "a log record was not shipped");
    }
}
