//! A thread with a runtime of its own, stopped and joined on drop.
//!
//! Proxies and mock engines run beside the test, not inside its runtime: a test
//! that blocks, pauses its clock or ends must not change how they behave.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// Work that runs until it ends or this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs the future that `work` makes on a new single-threaded runtime.
    /// Dropping the handle drops the future and every task it spawned.
    pub(crate) fn start<F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("build a runtime")
                    .block_on(async {
                        tokio::select! {
                            () = work() => {}
                            _ = stopped => {}
                        }
                    });
            })
            .expect("start a thread");
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed there.
            let _ = thread.join();
        }
    }
}
