//! Waiting for a state, with a deadline.

use std::fmt::Debug;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What one look at a state says: the awaited value, or what is there instead.
pub trait Outcome {
    /// What is awaited.
    type Value;

    /// Returns the awaited value, or a description of the state that is not it.
    ///
    /// # Errors
    ///
    /// The description, when the awaited state is not reached.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, S: Debug> Outcome for Result<T, S> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:#?}"))
    }
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

/// Waits until `probe` sees the awaited state, and returns what it made of it.
///
/// The probe answers with `Some(value)`, `Ok(value)` or `true` when the state is
/// there, and with `None`, `Err(what is there instead)` or `false` when not. It
/// needs the real clock: do not use it with a paused one.
///
/// # Panics
///
/// When the state is not reached within `deadline`, with `what` was awaited and
/// the last state seen.
#[track_caller]
pub fn eventually<O, F>(
    what: &str,
    deadline: Duration,
    mut probe: F,
) -> impl Future<Output = O::Value>
where
    O: Outcome,
    F: AsyncFnMut() -> O,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut last = "no answer from the probe".to_owned();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Ok(seen) = tokio::time::timeout(left, probe()).await {
                match seen.outcome() {
                    Ok(value) => return value,
                    Err(seen) => last = seen,
                }
            }
            assert!(
                Instant::now() < end,
                "{caller}: waited {deadline:?} for {what}; last seen: {last}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_awaited_value() {
        let mut looks = 0;
        let value = eventually("the third look", Duration::from_secs(5), async || {
            looks += 1;
            (looks == 3).then_some("there")
        })
        .await;
        assert_eq!(value, "there");
    }

    #[tokio::test]
    #[should_panic(expected = "for a job that ended; last seen: \"running\"")]
    async fn says_what_was_awaited_and_what_was_seen() {
        let short = Duration::from_millis(20);
        eventually("a job that ended", short, async || Err::<(), _>("running")).await;
    }

    #[tokio::test]
    #[should_panic(expected = "for an answer; last seen: no answer from the probe")]
    async fn a_probe_that_hangs_is_cut_at_the_deadline() {
        let short = Duration::from_millis(20);
        eventually("an answer", short, async || {
            std::future::pending::<bool>().await
        })
        .await;
    }
}
