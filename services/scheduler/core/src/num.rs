//! From whole numbers to estimates and back.

/// An estimate from a count.
#[expect(
    clippy::cast_precision_loss,
    reason = "estimates need no more than 53 bits"
)]
pub(crate) fn f64_of(count: u64) -> f64 {
    count as f64
}

/// A count from an estimate; nothing is below zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast stops at both ends"
)]
pub(crate) fn ms_of(estimate: f64) -> u64 {
    estimate.round() as u64
}
