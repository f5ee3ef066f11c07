//! A straight line through what was measured, and how well it fits.

/// From this fit on a line may be carried on.
pub(crate) const GOOD_FIT: f64 = 0.95;

/// `at_zero + slope × x`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) at_zero: f64,
    pub(crate) slope: f64,
    /// Share of the differences that the line explains: 1 is all of them.
    pub(crate) fit: f64,
}

impl Line {
    /// The line with the least squares of distances.
    pub(crate) fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread = |f: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>();
        let xx = spread(&|point| (point.0 - x).powi(2));
        let xy = spread(&|point| (point.0 - x) * (point.1 - y));
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        let line = Self {
            at_zero: y - slope * x,
            slope,
            fit: 1.0,
        };
        let left = spread(&|point| (point.1 - line.at(point.0)).powi(2));
        let all = spread(&|point| (point.1 - y).powi(2));
        let fit = if all > 0.0 { 1.0 - left / all } else { 1.0 };
        Self { fit, ..line }
    }

    /// What the line says far beyond what was measured, if that means anything.
    pub(crate) fn carried_to(self, x: f64) -> Option<f64> {
        (self.slope > 0.0 && self.fit >= GOOD_FIT).then(|| self.at(x))
    }

    fn at(self, x: f64) -> f64 {
        self.at_zero + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_its_fit_told() {
        let line = Line::through(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]);
        assert!((line.at(10.0) - 23.0).abs() < 1e-9 && line.fit > 0.999_999);
        let bent = Line::through(&[(1.0, 1.0), (2.0, 4.0), (3.0, 9.0), (4.0, 16.0)]);
        assert!(bent.fit < 0.98);
        let falling = Line::through(&[(1.0, 5.0), (2.0, 3.0), (3.0, 1.0)]);
        assert!(falling.carried_to(10.0).is_none() && line.carried_to(10.0).is_some());
    }
}
