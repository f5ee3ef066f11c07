//! The arithmetic of a step on plain slices.
//!
//! Sums run in a fixed order and the elementary functions are `libm`'s, so the same
//! model file gives the same numbers on every machine, for 16- and 32-bit weights.

const LANES: usize = 16;

/// The scalar product, summed in sixteen lanes so that the compiler can use vectors.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0_f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a
        .remainder()
        .iter()
        .zip(b.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (a, b) in a.zip(b) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Adds `weight` times `x` to `sum`.
pub(super) fn add_scaled(sum: &mut [f32], weight: f32, x: &[f32]) {
    sum.iter_mut()
        .zip(x)
        .for_each(|(sum, x)| *sum += weight * x);
}

/// Adds `x` to each row of `rows`.
pub(super) fn add_to_rows(rows: &mut [f32], x: &[f32]) {
    rows.chunks_exact_mut(x.len())
        .for_each(|row| add_scaled(row, 1.0, x));
}

/// Scales each row of `rows` to a root mean square of one, then by `weight`.
pub(super) fn normalise(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mean = dot(row, row) / weight.len() as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        row.iter_mut()
            .zip(weight)
            .for_each(|(x, weight)| *x = *x * scale * weight);
    }
}

/// Multiplies `x` gated by SiLU into `up`.
pub(super) fn gate(up: &mut [f32], gate: &[f32]) {
    up.iter_mut()
        .zip(gate)
        .for_each(|(up, x)| *up *= x / (1.0 + libm::expf(-x)));
}

/// Turns scores into weights that sum to one.
pub(super) fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::expf(*score - largest);
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_counts_every_number_once() {
        for len in [0, 1, 15, 16, 17, 40] {
            let numbers: Vec<f32> = (1..=len).map(|n| n as f32).collect();
            let ones = vec![1.0; len];
            assert_eq!(dot(&numbers, &ones), (len * (len + 1) / 2) as f32, "{len}");
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_order() {
        let mut scores = [1.0, 3.0, 2.0, -900.0];
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(scores[1] > scores[2] && scores[2] > scores[0] && scores[3] == 0.0);
    }

    #[test]
    fn normalise_works_row_by_row() {
        let mut rows = [3.0, 4.0, 30.0, 40.0];
        normalise(&mut rows, &[1.0, 2.0], 0.0);
        assert!((rows[0] - rows[2]).abs() < 1e-6 && (rows[1] - rows[3]).abs() < 1e-6);
        assert!((rows[1] / rows[0] - 8.0 / 3.0).abs() < 1e-5);
    }
}
