//! Ties the connection to its process: logs out, readiness told, drained last.

use crate::QUIET_TARGETS;
use crate::connect::Bus;
use crate::log::{publish_logs, publish_rest};
use orchion_service::{Flag, Tasks};
use std::time::Duration;

/// The flag that every service has.
pub const NATS_URL_FLAG: Flag = Flag {
    name: "nats-url",
    key: "nats.url",
    value: "URL",
    help: "Where NATS is: nats://HOST:PORT, several separated by commas",
    env: Some("ORCHION_NATS_URL"),
    aliases: &[],
};

/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(250);

impl Bus {
    /// Ships the process's log records over this connection, keeps the
    /// condition `nats` of its health, and drains the connection when
    /// everything else has ended.
    pub fn attach(&self, tasks: &Tasks) {
        let feed = tasks.log_feed(QUIET_TARGETS);
        let (bus, rest) = (self.clone(), feed.clone());
        tasks.after_all("drain NATS", async move {
            publish_rest(&bus, &rest).await;
            bus.drain().await;
            Ok(())
        });
        let bus = self.clone();
        tasks.spawn_support("log", move |stop| publish_logs(bus, feed, stop));
        let (bus, condition) = (self.clone(), tasks.health().condition("nats"));
        condition.set(self.is_connected());
        tasks.spawn_support("nats", move |stop| async move {
            let mut look = tokio::time::interval(LOOK);
            while stop.unless_stopped(look.tick()).await.is_some() {
                condition.set(bus.is_connected());
            }
            Ok(())
        });
    }
}
