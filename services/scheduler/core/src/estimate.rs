//! How long a waiting job will wait, as far as experience tells.

use orchion_contract::ModelName;
use std::collections::BTreeMap;

/// Assumed length of a job of which nothing is known, in milliseconds.
const DEFAULT_JOB_MS: f64 = 5_000.0;
/// Weight of the newest observation.
const WEIGHT: f64 = 0.2;

/// Learnt lengths of jobs.
#[derive(Debug, Clone, Default)]
pub struct Durations(BTreeMap<ModelName, f64>);

impl Durations {
    /// A job took this long from its order to its end, in milliseconds.
    pub fn observe(&mut self, model: &ModelName, ms: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a mean of milliseconds needs no 53 bits"
        )]
        let ms = ms as f64;
        match self.0.get_mut(model) {
            Some(mean) => *mean += WEIGHT * (ms - *mean),
            None => {
                self.0.insert(model.clone(), ms);
            }
        }
    }

    /// Milliseconds until a job with so many before it starts on so many slots.
    #[must_use]
    pub fn until_start(&self, model: &ModelName, position: u32, slots: u32) -> u64 {
        let each = self.0.get(model).copied().unwrap_or(DEFAULT_JOB_MS);
        let wait = (f64::from(position) + 1.0) * each / f64::from(slots.max(1));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of milliseconds"
        )]
        let wait = wait as u64;
        wait
    }
}
