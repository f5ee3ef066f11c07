//! An agent in this process.

use std::time::Duration;

use orchion_contract::InstanceId;
use orchion_node_agent::{Config, NodeAgent};
use orchion_service::{HumanDuration, Stop, Supervisor, Tasks};
use tempfile::TempDir;

use crate::cluster::{PATIENCE, spawn};

/// A running agent, stopped by its handle.
pub(crate) struct Agent {
    pub(crate) instance: InstanceId,
    stop: Stop,
    run: tokio::task::JoinHandle<Result<(), orchion_service::Failure>>,
    _data: TempDir,
}

impl Agent {
    /// An agent in a fresh data directory that starts no engine by itself.
    pub(crate) fn start(nats: orchion_bus::Config, settings: NodeAgent) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = Config {
            nats,
            node_agent: NodeAgent {
                data_dir: Some(data.path().to_owned()),
                starter: false,
                heartbeat_interval: HumanDuration::from_millis(200),
                busy_heartbeat_interval: HumanDuration::from_millis(100),
                capability_interval: HumanDuration::from_millis(300),
                ..settings
            },
            ..Config::default()
        };
        let supervisor = Supervisor::new("node-agent", Duration::from_secs(8));
        let instance = InstanceId::new(supervisor.tasks().instance()).unwrap();
        let stop = supervisor.stop();
        let run = spawn(async move {
            supervisor
                .run(async |tasks: &Tasks| orchion_node_agent::start(config, tasks).await)
                .await
        });
        Self {
            instance,
            stop,
            run,
            _data: data,
        }
    }

    /// Asks it to stop.
    pub(crate) fn stop(&self) {
        self.stop.request();
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<(), String> {
        let ended = tokio::time::timeout(PATIENCE, self.run).await;
        ended.unwrap().unwrap().map_err(|failure| failure.report())
    }
}
