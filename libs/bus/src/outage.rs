//! A server that is away: how often it is tried, and how seldom that is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tries that follow each other quickly, some 30 s of them: answers wait for a
/// server that restarts.
const QUICK_TRIES: usize = 330;
const LONGEST_PAUSE_MS: u64 = 2000;

/// From the first warning to the second.
const FIRST_SILENCE: Duration = Duration::from_secs(10);
/// How much longer each silence is than the one before.
const GROWTH: u32 = 6;

/// Before the try with this number, counted since the last connection.
pub(crate) fn pause(attempt: usize) -> Duration {
    let attempts = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let quick = attempts(attempt).saturating_mul(20).min(80);
    let slow = attempts(attempt.saturating_sub(QUICK_TRIES)).saturating_mul(20);
    let pause = quick.saturating_add(slow).min(LONGEST_PAUSE_MS);
    // Not everybody at once: a quarter of the pause, by process.
    let jitter = u64::from(std::process::id()) % (pause / 4).max(20);
    Duration::from_millis(pause + jitter)
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody answers.
    Away,
    /// The server does not take user and password.
    Refused,
}

/// One connection's view of its server.
#[derive(Debug)]
pub(crate) struct Outage {
    url: String,
    now: Mutex<Option<Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    cause: Cause,
    since: Instant,
    next: Duration,
}

impl Outage {
    /// A server at `url` that is not away.
    pub(crate) fn of(url: String) -> Self {
        Self {
            url,
            now: Mutex::new(None),
        }
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The connection was lost, and that has been told.
    pub(crate) fn begins(&self, at: Instant) {
        self.set(Some(Told {
            cause: Cause::Away,
            since: at,
            next: FIRST_SILENCE,
        }));
    }

    /// There is a connection.
    pub(crate) fn ends(&self) {
        self.set(None);
    }

    /// A try failed: what is to be told now, if anything. The first failure is
    /// told at once, and so is a refusal; then after 10 s, 1 min, 6 min and so on.
    pub(crate) fn fails(&self, cause: Cause, at: Instant) -> Option<String> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let url = &self.url;
        let away = match *now {
            Some(told) if told.cause == cause || cause == Cause::Away => {
                let away = at.saturating_duration_since(told.since);
                if away < told.next {
                    return None;
                }
                *now = Some(Told {
                    next: told.next * GROWTH,
                    ..told
                });
                Some((told.cause, away))
            }
            Some(_) | None => {
                *now = Some(Told {
                    cause,
                    since: at,
                    next: FIRST_SILENCE,
                });
                None
            }
        };
        Some(
            match away.map_or((cause, None), |(cause, away)| (cause, Some(away))) {
                (Cause::Away, None) => {
                    format!(
                        "NATS at {url} does not answer: trying again; is nats-server running there?"
                    )
                }
                (Cause::Away, Some(away)) => format!(
                    "NATS at {url} has not answered for {} s: still trying; is nats-server running there?",
                    away.as_secs()
                ),
                (Cause::Refused, _) => format!(
                    "NATS at {url} refuses user and password: correct nats.user and nats.password, \
                 or copy the line of `orchion up --lan` again"
                ),
            },
        )
    }

    fn set(&self, told: Option<Told>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_restarts_is_tried_quickly_and_one_that_is_gone_seldom() {
        assert!(pause(1) < Duration::from_millis(40));
        let half_a_minute: Duration = (1..=QUICK_TRIES).map(pause).sum();
        assert!(half_a_minute > Duration::from_secs(25), "{half_a_minute:?}");
        assert!((1..=QUICK_TRIES).all(|attempt| pause(attempt) <= Duration::from_millis(100)));
        let longest = pause(usize::MAX);
        assert!(longest >= Duration::from_secs(2) && longest <= Duration::from_millis(2500));
    }

    #[test]
    fn a_long_outage_is_told_ever_more_seldom() {
        let outage = Outage::of("nats://a:4222".to_owned());
        let start = Instant::now();
        let told: Vec<u64> = (0..10_000)
            .filter(|second| {
                let at = start + Duration::from_secs(*second);
                outage.fails(Cause::Away, at).is_some()
            })
            .collect();
        assert_eq!(told, [0, 10, 60, 360, 2160]);
        outage.ends();
        assert!(outage.fails(Cause::Away, start).is_some());
    }

    #[test]
    fn a_lost_connection_is_not_told_a_second_time_at_once() {
        let outage = Outage::of("nats://a:4222".to_owned());
        let start = Instant::now();
        outage.begins(start);
        assert_eq!(outage.fails(Cause::Away, start), None);
        let later = outage.fails(Cause::Away, start + FIRST_SILENCE).unwrap();
        assert!(later.contains("for 10 s"), "{later}");
    }

    #[test]
    fn a_refusal_is_told_at_once_and_names_what_to_do() {
        let outage = Outage::of("nats://a:4222".to_owned());
        let start = Instant::now();
        outage.begins(start);
        let refused = outage.fails(Cause::Refused, start).unwrap();
        assert!(refused.contains("refuses user and password"), "{refused}");
        assert_eq!(outage.fails(Cause::Refused, start), None);
        assert_eq!(outage.fails(Cause::Away, start), None);
    }
}
