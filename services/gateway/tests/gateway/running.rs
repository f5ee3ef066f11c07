//! A gateway as tests run it.

use std::time::Duration;

use orchion_gateway::Config;
use orchion_service::{Stop, Supervisor};
use orchion_testkit::HttpClient;
use tokio::task::JoinSet;

use crate::cluster::soon;

/// A gateway in this process.
pub(crate) struct Running {
    pub(crate) http: HttpClient,
    pub(crate) url: String,
    stop: Stop,
    ended: tokio::sync::oneshot::Receiver<bool>,
}

/// Starts a gateway without waiting for it.
pub(crate) fn launch(tasks: &mut JoinSet<()>, config: Config) -> Running {
    let url = format!("http://127.0.0.1:{}", config.gateway.http_port);
    let supervisor = Supervisor::new("gateway", Duration::from_secs(8));
    let stop = supervisor.stop();
    let (ended_in, ended) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        let run = supervisor.run(async |tasks: &orchion_service::Tasks| {
            orchion_gateway::start(config, tasks).await
        });
        let _ = ended_in.send(run.await.is_ok());
    });
    Running {
        http: HttpClient::new(&url),
        url,
        stop,
        ended,
    }
}

impl Running {
    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.http.target().addr()
    }

    /// Asks the gateway to stop, as a signal does.
    pub(crate) fn stop(&self) {
        self.stop.request();
    }

    /// Waits until it has ended; true when it ended well.
    pub(crate) async fn ended(&mut self) -> bool {
        soon("the gateway to end", async { (&mut self.ended).await.ok() }).await
    }
}
