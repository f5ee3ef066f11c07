//! The server's connection events, heard over a connection of its own account.

use orchion_bus::{Connections, System};
use orchion_service::{Stop, Tasks};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How many events may wait; a rack's death is a burst.
const WAITING: usize = 65_536;
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What comes from the system account.
pub(crate) enum News {
    /// A connection came or went.
    Change(orchion_bus::ConnectionChange),
    /// Every connection there was.
    Listed {
        /// When the question was sent.
        asked: Instant,
        /// The connections.
        connections: Connections,
    },
}

/// The reading end; without credentials of the system account nothing ever comes.
pub(crate) struct Watching {
    news: mpsc::Receiver<News>,
    questions: Option<mpsc::Sender<()>>,
    since: watch::Receiver<Option<Instant>>,
}

impl Watching {
    /// The next news. Dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Asks for [`News::Listed`]; one question at a time is under way.
    pub(crate) fn ask(&self) {
        if let Some(questions) = &self.questions {
            // Full means that one is waiting already.
            let _ = questions.try_send(());
        }
    }

    /// Since when events have been heard without a break.
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.since.borrow()
    }
}

/// Connects with the system user of the configuration, if it names one.
pub(crate) async fn start(config: &orchion_bus::Config, tasks: &Tasks) -> anyhow::Result<Watching> {
    let (tell, news) = mpsc::channel(WAITING);
    let (known, since) = watch::channel(None);
    let system = System::connect(config).await?;
    let Some(system) = system else {
        tracing::warn!(
            "no nats.system_user is configured: a node that dies is noticed by its silence only, after registry.heartbeat_timeout; \
             with nats/loopback.conf the user is called liveness"
        );
        return Ok(Watching {
            news,
            questions: None,
            since,
        });
    };
    let (ask, questions) = mpsc::channel(1);
    let account = Account {
        system,
        tell,
        known,
        questions,
    };
    tasks.spawn("connections", move |stop| account.run(stop));
    Ok(Watching {
        news,
        questions: Some(ask),
        since,
    })
}

struct Account {
    system: System,
    tell: mpsc::Sender<News>,
    known: watch::Sender<Option<Instant>>,
    questions: mpsc::Receiver<()>,
}

impl Account {
    async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                change = self.system.next() => {
                    let Some(change) = change else {
                        anyhow::bail!("the system connection to NATS was closed for good");
                    };
                    self.note();
                    self.say(News::Change(change)).await;
                }
                Some(()) = self.questions.recv() => self.list().await,
                _ = look.tick() => self.note(),
            }
        }
    }

    fn note(&self) {
        let since = self.system.connected_since();
        self.known
            .send_if_modified(|known| std::mem::replace(known, since) != since);
    }

    async fn list(&self) {
        let asked = Instant::now();
        match self.system.connections().await {
            Ok(connections) => self.say(News::Listed { asked, connections }).await,
            Err(error) => {
                tracing::debug!(%error, "the server did not list its connections; asking again later");
            }
        }
    }

    async fn say(&self, news: News) {
        // The reader is gone only when the process stops.
        let _ = self.tell.send(news).await;
    }
}
