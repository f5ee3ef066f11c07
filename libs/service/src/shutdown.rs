//! Asking to stop: the token that everything watches, and the signals that set it.

use tokio_util::sync::CancellationToken;

/// Says when to stop; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that watches this to stop. Asking twice is asking once.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Whether somebody asked.
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it is done or somebody asks to stop, whichever is first;
    /// `None` when it was given up.
    pub async fn unless_stopped<F: Future>(&self, work: F) -> Option<F::Output> {
        self.0.run_until_cancelled(work).await
    }

    /// A stop that follows this one and can also be asked for alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// The signals that end a process.
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens for SIGINT and SIGTERM (Ctrl-C where there are no signals).
    ///
    /// # Errors
    /// The system refuses a handler.
    #[cfg(unix)]
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Listens for Ctrl-C.
    ///
    /// # Errors
    /// None on this platform.
    #[cfg(not(unix))]
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal and gives the exit code of a process that ends
    /// by it: 130 for an interrupt, 143 for a request to terminate.
    pub async fn next(&mut self) -> u8 {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
            130
        }
    }

    /// The first signal asks `stop`; the second ends this wait, with the exit
    /// code of a process that ends at once.
    pub async fn stop_then_end(mut self, stop: Stop) -> u8 {
        self.next().await;
        tracing::info!("stopping; a second signal ends at once");
        stop.request();
        self.next().await
    }
}
