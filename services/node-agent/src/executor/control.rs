//! How an attempt is stopped, and how others learn its end.

use orchion_contract::job::{AttemptEnd, CancelReason};
use tokio::sync::watch;

/// Held for an attempt as long as it runs.
pub(super) struct Control {
    stop: watch::Sender<Option<CancelReason>>,
    end: watch::Receiver<Option<AttemptEnd>>,
}

impl Control {
    pub(super) fn new() -> (Self, Told) {
        let (told, end) = watch::channel(None);
        let control = Self {
            stop: watch::Sender::new(None),
            end,
        };
        (control, Told(told))
    }

    /// Asks the attempt to stop; the first reason counts.
    pub(super) fn stop(&self, reason: CancelReason) {
        self.stop.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(reason);
            is_first
        });
    }

    pub(super) fn stopped(&self) -> Stopped {
        Stopped(self.stop.subscribe())
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(self.end.clone())
    }
}

/// The attempt's own view: whether it shall stop.
pub(super) struct Stopped(watch::Receiver<Option<CancelReason>>);

impl Stopped {
    /// The reason, once there is one. Never returns otherwise.
    pub(super) async fn reason(&mut self) -> CancelReason {
        let reason = match self.0.wait_for(Option::is_some).await {
            Ok(reason) => *reason,
            Err(_) => None,
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }
}

/// Where the end of the attempt is told.
pub(super) struct Told(watch::Sender<Option<AttemptEnd>>);

impl Told {
    pub(super) fn tell(self, end: AttemptEnd) {
        self.0.send_replace(Some(end));
    }
}

/// Waits for the end of an attempt.
pub(super) struct Handle(watch::Receiver<Option<AttemptEnd>>);

impl Handle {
    /// The end. Never returns for an attempt that was dropped in a shutdown.
    pub(super) async fn ended(mut self) -> AttemptEnd {
        let end = match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        };
        match end {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }
}
