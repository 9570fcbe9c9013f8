//! Choosing the scales of the integer formats.

use half::f16;

use super::int::{level_range, quantize};
use super::{PackError, Source, check_eq, lens, scale_index};
use crate::layout::{GROUP, PANEL, WeightFormat};

/// How [`choose_scales`] weighs clipping against resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScaleMethod<'a> {
    /// The largest magnitude becomes the largest level: nothing clips. For int4 the scale's sign is chosen so that it
    /// becomes −8.
    AbsMax,
    /// The least squared error over a grid of candidates, each refined once by the least-squares scale for its
    /// integers. Never worse than [`AbsMax`](Self::AbsMax).
    LeastSquares {
        /// Weight of each column's squared error, for example the mean square of the activations there (not negative,
        /// `cols` long); `None` weighs all alike.
        importance: Option<&'a [f32]>,
    },
}

/// Chooses the scales of a row-major `(rows, cols)` matrix for an integer format, already rounded to f16.
///
/// A row (or group) of zeros has scale 0. No scale but 0 is smaller than f16's smallest, 2⁻²⁴, which is then the
/// resolution.
///
/// # Errors
/// [`PackError`] for a wrong length, an element or importance that is not finite, a scale that f16 cannot hold, or a
/// format without scales or with minima ([`choose_scales_and_minima`](super::choose_scales_and_minima)).
pub fn choose_scales(
    format: WeightFormat,
    rows: usize,
    cols: usize,
    matrix: &[f32],
    method: ScaleMethod<'_>,
    scales: &mut [f16],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    let unit_len = match format {
        WeightFormat::I8Row => cols,
        WeightFormat::I8Group32 | WeightFormat::I4Group32 => GROUP,
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::U4Group32 => {
            return Err(PackError::NoScales(format));
        }
    };
    check_eq(
        "weight scales",
        lens(format, rows, cols)?.scales,
        scales.len(),
    )?;
    check_importance(method, cols)?;
    for row in 0..source.panels() * PANEL {
        for first in (0..cols).step_by(unit_len) {
            let unit = Unit {
                format,
                source: &source,
                row,
                first,
                last: cols.min(first + unit_len),
            };
            let chosen = match method {
                ScaleMethod::AbsMax => unit.absmax()?,
                ScaleMethod::LeastSquares { importance } => unit.least_squares(importance)?,
            };
            if let Some(scale) = scales.get_mut(scale_index(format, row, first, cols)) {
                *scale = chosen;
            }
        }
    }
    Ok(())
}

/// The elements that share a scale.
struct Unit<'a> {
    format: WeightFormat,
    source: &'a Source<'a>,
    row: usize,
    first: usize,
    last: usize,
}

impl Unit<'_> {
    fn elements(&self) -> impl Iterator<Item = (usize, f32)> {
        (self.first..self.last).map(|col| (col, self.source.at(self.row, col)))
    }

    /// Column and value of the largest magnitude.
    fn peak(&self) -> (usize, f32) {
        self.elements().fold((self.first, 0.0), |peak, (col, x)| {
            if x.abs() > peak.1.abs() {
                (col, x)
            } else {
                peak
            }
        })
    }

    fn absmax(&self) -> Result<f16, PackError> {
        let (col, peak) = self.peak();
        let lowest = f32::from(level_range(self.format).0);
        let scale = match self.format {
            WeightFormat::I4Group32 => peak / lowest,
            _ => peak.abs() / -lowest,
        };
        let mut rounded = f16::from_f32(scale);
        if rounded.is_infinite() {
            return Err(PackError::Overflow { row: self.row, col });
        }
        // Among the subnormals, rounding down may lose much of the scale and clip: take the next one up. (0/0 is
        // false.)
        if (peak / rounded.to_f32()).abs() > 0.5 - lowest {
            rounded = f16::from_bits(rounded.to_bits() + 1);
        }
        Ok(rounded)
    }

    fn least_squares(&self, importance: Option<&[f32]>) -> Result<f16, PackError> {
        let mut best = self.absmax()?;
        let (_, peak) = self.peak();
        let mut error = self.error(best, importance);
        // int4 clips a good part of a group for its benefit, int8 almost nothing; int4 may use either sign.
        let (lowest, highest) = level_range(self.format);
        let (signs, from): (&[f32], i32) = match self.format {
            WeightFormat::I4Group32 => (&[f32::from(lowest), f32::from(highest)], 36),
            _ => (&[f32::from(highest)], 48),
        };
        for level in signs {
            for step in from..=72 {
                let candidate = f16::from_f32(peak / level * (step as f32 / 64.0));
                for scale in [candidate, self.refined(candidate, importance)] {
                    let new = if scale.is_finite() {
                        self.error(scale, importance)
                    } else {
                        f64::INFINITY
                    };
                    if new < error {
                        (best, error) = (scale, new);
                    }
                }
            }
        }
        Ok(best)
    }

    /// The scale that minimizes the squared error for the integers that `scale` leads to: Σhwq / Σhq².
    fn refined(&self, scale: f16, importance: Option<&[f32]>) -> f16 {
        let (mut above, mut below) = (0.0, 0.0);
        for (col, x) in self.elements() {
            let q = f64::from(self.level(x, scale));
            above += weight(importance, col) * f64::from(x) * q;
            below += weight(importance, col) * q * q;
        }
        if below > 0.0 {
            f16::from_f64(above / below)
        } else {
            scale
        }
    }

    fn error(&self, scale: f16, importance: Option<&[f32]>) -> f64 {
        let step = f64::from(scale);
        self.elements()
            .map(|(col, x)| {
                let difference = f64::from(x) - step * f64::from(self.level(x, scale));
                weight(importance, col) * difference * difference
            })
            .sum()
    }

    fn level(&self, x: f32, scale: f16) -> i8 {
        let (lowest, highest) = level_range(self.format);
        quantize(x, scale, lowest, highest)
    }
}

/// That an importance, if there is one, is one number a column, finite and not negative.
pub(super) fn check_importance(method: ScaleMethod<'_>, cols: usize) -> Result<(), PackError> {
    let ScaleMethod::LeastSquares {
        importance: Some(importance),
    } = method
    else {
        return Ok(());
    };
    check_eq("importance of the columns", cols, importance.len())?;
    let unsound = |h: &f32| !(h.is_finite() && *h >= 0.0);
    match importance.iter().position(unsound) {
        Some(col) => Err(PackError::NotFinite { row: 0, col }),
        None => Ok(()),
    }
}

pub(super) fn weight(importance: Option<&[f32]>, col: usize) -> f64 {
    importance
        .and_then(|h| h.get(col))
        .map_or(1.0, |h| f64::from(*h))
}
