//! What stands behind a flag, read so that an error says what is right.

use std::str::FromStr;
use std::time::Duration;

use orchion_contract::JobId;
use orchion_contract::job::JobState;
use orchion_service::HumanDuration;

/// A job as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobName {
    /// By its whole id.
    Whole(JobId),
    /// By the beginning of its id.
    Beginning(String),
}

impl FromStr for JobName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let could_begin = |character: char| character.is_ascii_hexdigit() || character == '-';
        if text.is_empty() || text.len() >= 36 || !text.chars().all(could_begin) {
            return Err("must be the id of a job, or the beginning of one".to_owned());
        }
        Ok(Self::Beginning(text.to_ascii_lowercase()))
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    read(text, "must be a number up to 65535")
}

pub(super) fn agents(text: &str) -> Result<u32, String> {
    const WANTED: &str = "must be a number from 1 to 64";
    read(text, WANTED).and_then(|count| match count {
        1..=64 => Ok(count),
        _ => Err(WANTED.to_owned()),
    })
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    read(text, "must be a whole number, not a negative one")
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    read(text, "must be a whole number, not a negative one")
}

pub(super) fn number(text: &str) -> Result<f64, String> {
    read(text, "must be a number")
}

fn read<T: FromStr>(text: &str, wanted: &str) -> Result<T, String> {
    text.parse().map_err(|_| wanted.to_owned())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>()
        .map(HumanDuration::get)
        .map_err(|error| error.to_string())
}

pub(super) fn state(text: &str) -> Result<JobState, String> {
    const STATES: [JobState; 6] = [
        JobState::Pending,
        JobState::Assigned,
        JobState::Running,
        JobState::Completed,
        JobState::Failed,
        JobState::Canceled,
    ];
    STATES
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| {
            let names = STATES.map(JobState::as_str);
            format!("use one of {}", names.join(", "))
        })
}
