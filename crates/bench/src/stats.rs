//! Medians and quartiles.
//!
//! Quartiles and not standard deviations: a round that another program disturbed is one outlier, and should count as
//! one.

use serde::Serialize;

/// The middle half of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// First quartile.
    pub q1: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
}

impl Summary {
    /// `None` if there are no samples. They must be numbers: a NaN would sort last.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q| quantile(&sorted, q);
        Some(Self { count: sorted.len(), q1: quantile(0.25)?, median: quantile(0.5)?, q3: quantile(0.75)? })
    }

    /// Whether the middle halves have a value in common; a shared end counts.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.q1 <= other.q3 && other.q1 <= self.q3
    }
}

/// The least value that so many percent of all do not exceed; `None` if there are none. Reorders them.
pub fn percentile(values: &mut [u32], percent: u8) -> Option<u32> {
    let place = (values.len() * usize::from(percent)).div_ceil(100).checked_sub(1)?;
    Some(*values.select_nth_unstable(place).1)
}

/// Linear interpolation between closest ranks (type 7 of Hyndman and Fan, the default of R and NumPy).
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    Some(below + (above - below) * rank.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let rows: [(&[u32], u8, Option<u32>); 5] = [
            (&[], 50, None),
            (&[7], 99, Some(7)),
            (&[3, 1, 2], 50, Some(2)),
            (&[2, 1], 50, Some(1)),
            (&[3, 1, 2], 99, Some(3)),
        ];
        for (values, percent, expected) in rows {
            assert_eq!(percentile(&mut values.to_vec(), percent), expected, "{percent} % of {values:?}");
        }
    }

    #[test]
    fn quartiles_as_numpy_computes_them() {
        let table: &[(&str, &[f64], [f64; 3])] = &[
            ("one", &[5.0], [5.0, 5.0, 5.0]),
            ("two", &[1.0, 2.0], [1.25, 1.5, 1.75]),
            ("four, unsorted", &[4.0, 1.0, 3.0, 2.0], [1.75, 2.5, 3.25]),
            ("nine", &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [3.0, 5.0, 7.0]),
            ("an outlier moves nothing", &[1.0, 2.0, 3.0, 4.0, 1e9], [2.0, 3.0, 4.0]),
        ];
        for (name, samples, expected) in table {
            let summary = Summary::of(samples).expect(name);
            assert_eq!([summary.q1, summary.median, summary.q3], *expected, "{name}");
            assert_eq!(summary.count, samples.len(), "{name}");
        }
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn overlap_is_symmetric_and_includes_the_ends() {
        let summary = |q1, q3| Summary { count: 9, q1, median: f64::midpoint(q1, q3), q3 };
        let table = [
            ("apart", summary(1.0, 2.0), summary(2.1, 3.0), false),
            ("touching", summary(1.0, 2.0), summary(2.0, 3.0), true),
            ("inside", summary(1.0, 4.0), summary(2.0, 3.0), true),
        ];
        for (name, a, b, expected) in table {
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expected, expected), "{name}");
        }
    }
}
