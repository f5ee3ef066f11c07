//! How long an engine may take before it is given up.

use orchion_contract::job::Timeouts;
use std::time::Duration;

/// The limits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    /// Until the engine says something for the first time: it may load a model.
    pub first_token: Duration,
    /// Between two times that it says something.
    pub idle: Duration,
    /// From the order to the end; none when only the job's deadline counts.
    pub wall: Option<Duration>,
}

impl Watchdog {
    /// The same with what the owner of one engine says in place of it.
    #[must_use]
    pub fn or(
        self,
        first_token: Option<Duration>,
        idle: Option<Duration>,
        wall: Option<Duration>,
    ) -> Self {
        Self {
            first_token: first_token.unwrap_or(self.first_token),
            idle: idle.unwrap_or(self.idle),
            wall: wall.or(self.wall),
        }
    }

    /// What holds for a job: its caller may ask for less, never for more.
    #[must_use]
    pub fn for_job(self, asked: &Timeouts) -> Self {
        let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
        let least =
            |own: Duration, asked: Option<Duration>| asked.map_or(own, |asked| own.min(asked));
        Self {
            first_token: self.first_token,
            idle: least(self.idle, ms(asked.idle_ms)),
            wall: match (self.wall, ms(asked.wall_ms)) {
                (Some(own), asked) => Some(least(own, asked)),
                (None, asked) => asked,
            },
        }
    }

    /// How long it may be silent now.
    #[must_use]
    pub fn silence(&self, has_spoken: bool) -> Duration {
        match has_spoken {
            true => self.idle,
            false => self.first_token,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn node() -> Watchdog {
        Watchdog {
            first_token: 300 * S,
            idle: 60 * S,
            wall: None,
        }
    }

    fn asked(wall_ms: Option<u64>, idle_ms: Option<u64>) -> Timeouts {
        Timeouts { wall_ms, idle_ms }
    }

    #[test]
    fn an_engine_may_take_what_its_node_allows() {
        assert_eq!(node().for_job(&Timeouts::default()), node());
        assert_eq!(node().silence(false), 300 * S);
        assert_eq!(node().silence(true), 60 * S);
    }

    #[test]
    fn the_owner_of_an_engine_may_give_more_or_less() {
        let own = node().or(None, Some(90 * S), Some(5 * S));
        assert_eq!(
            (own.first_token, own.idle, own.wall),
            (300 * S, 90 * S, Some(5 * S))
        );
    }

    #[test]
    fn a_caller_may_ask_for_less_and_not_for_more() {
        let less = node().for_job(&asked(Some(2_000), Some(1_000)));
        assert_eq!((less.idle, less.wall), (S, Some(2 * S)));
        let own = node().or(None, None, Some(5 * S));
        let more = own.for_job(&asked(Some(900_000), Some(900_000)));
        assert_eq!((more.idle, more.wall), (60 * S, Some(5 * S)));
    }
}
