//! One process of a cluster.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::{Program, Running};

/// A process and how to start it again.
pub struct Part {
    running: Option<Running>,
    launch: Box<dyn Fn() -> Program + Send>,
}

impl Part {
    /// Starts what `launch` describes, now and at every [`Part::revive`].
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(launch: impl Fn() -> Program + Send + 'static) -> Self {
        Self {
            running: Some(launch().start()),
            launch: Box::new(launch),
        }
    }

    /// Ends it with SIGKILL; its children live on.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Asks it to end with SIGTERM and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not run, or does not end within `deadline`.
    pub async fn stop(&mut self, deadline: Duration) -> ExitStatus {
        let mut running = self.running.take().expect("a running part");
        running.terminate();
        running.wait(deadline).await
    }

    /// Starts it again, when it was killed or stopped.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn revive(&mut self) {
        if self.running.is_none() {
            self.running = Some((self.launch)().start());
        }
    }

    /// The process; none while it is dead.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// What it has written to stdout since it was started last.
    pub fn output(&self) -> String {
        self.running().map(Running::stdout).unwrap_or_default()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}
