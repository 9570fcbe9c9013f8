//! How far a result may be from the naive computation in f64.

use crate::case::Outcome;

/// Sums the differences of sampled elements.
#[derive(Debug, Default)]
pub struct Verdict {
    difference: f64,
    reference: f64,
    /// Where the largest difference was, and how large.
    worst: (String, f64),
}

impl Verdict {
    /// Compares one sampled row; `place` names it.
    pub fn row(&mut self, place: &str, got: &[f32], reference: &[f64]) {
        for (index, (&got, &reference)) in got.iter().zip(reference).enumerate() {
            let difference = (f64::from(got) - reference).abs();
            if difference > self.worst.1 || difference.is_nan() {
                self.worst = (
                    format!("{place}, element {index}: {got} for {reference}"),
                    difference,
                );
            }
            self.difference += difference * difference;
            self.reference += reference * reference;
        }
    }

    /// Judges the norm of all differences relative to the norm of the reference.
    ///
    /// # Errors
    /// A sentence with the worst place, when the relative error is above `tolerance`, not a number, or nothing was
    /// compared.
    pub fn judge(&self, tolerance: f64) -> Outcome {
        let error = (self.difference / self.reference).sqrt();
        if error <= tolerance {
            return Ok(());
        }
        let (place, _) = &self.worst;
        Err(format!(
            "wrong result: relative error {error:.2e}, allowed {tolerance:.1e}; worst at {place}"
        )
        .into())
    }
}

/// At most `count` of the indices 0..`len`, spread evenly, the first and the last among them.
pub fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| i * (len - 1) / (count - 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_row_a_nan_and_no_row_at_all_are_refused() {
        let reference = [1.0, -2.0];
        let mut good = Verdict::default();
        good.row("row 0", &[1.0, -2.0001], &reference);
        assert!(good.judge(1e-3).is_ok());
        assert!(good.judge(1e-6).is_err());
        good.row("row 1", &[f32::NAN, -2.0], &reference);
        let message = good.judge(1e-3).map_err(|error| error.to_string());
        assert!(message.is_err_and(|text| text.contains("row 1, element 0")));
        assert!(Verdict::default().judge(1.0).is_err());
    }

    #[test]
    fn samples_hold_the_first_and_the_last() {
        assert_eq!(spread(512, 3).collect::<Vec<_>>(), [0, 255, 511]);
        assert_eq!(spread(1, 8).collect::<Vec<_>>(), [0]);
        assert_eq!(spread(3, 8).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
