//! Choosing the scales and minima of the 4-bit format that has both.

use half::f16;

use super::int::{level_range, quantize_above};
use super::scales::{ScaleMethod, check_importance, weight};
use super::{PackError, Source, check_eq, lens, scale_index};
use crate::layout::{GROUP, PANEL, WeightFormat};

const FORMAT: WeightFormat = WeightFormat::U4Group32;

/// Chooses the scales and minima of a row-major `(rows, cols)` matrix for [`WeightFormat::U4Group32`], already
/// rounded to f16.
///
/// By [`ScaleMethod::AbsMax`] a group's smallest element becomes the level 0 and its largest 15; by
/// [`ScaleMethod::LeastSquares`] both ends move inwards where that is better, and the best candidates are refined by
/// the linear regression of the elements on their levels. The smallest scale but 0 is f16's, 2⁻²⁴.
///
/// # Errors
/// [`PackError`] for a wrong length, an element or importance that is not finite, or a scale or minimum that f16
/// cannot hold.
pub fn choose_scales_and_minima(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    method: ScaleMethod<'_>,
    scales: &mut [f16],
    minima: &mut [f16],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    let lens = lens(FORMAT, rows, cols)?;
    check_eq("weight scales", lens.scales, scales.len())?;
    check_eq("weight minima", lens.minima, minima.len())?;
    check_importance(method, cols)?;
    for row in 0..source.panels() * PANEL {
        for first in (0..cols).step_by(GROUP) {
            let group = Group {
                source: &source,
                row,
                first,
                last: cols.min(first + GROUP),
            };
            let chosen = match method {
                ScaleMethod::AbsMax => group.range()?,
                ScaleMethod::LeastSquares { importance } => group.least_squares(importance)?,
            };
            let at = scale_index(FORMAT, row, first, cols);
            if let (Some(scale), Some(minimum)) = (scales.get_mut(at), minima.get_mut(at)) {
                (*scale, *minimum) = (chosen.scale, chosen.minimum);
            }
        }
    }
    Ok(())
}

/// What turns levels into weights.
#[derive(Clone, Copy)]
struct Line {
    scale: f16,
    minimum: f16,
}

/// The elements that share a scale and a minimum.
struct Group<'a> {
    source: &'a Source<'a>,
    row: usize,
    first: usize,
    last: usize,
}

impl Group<'_> {
    fn elements(&self) -> impl Iterator<Item = (usize, f32)> {
        (self.first..self.last).map(|col| (col, self.source.at(self.row, col)))
    }

    /// Columns and values of the smallest and the largest element.
    fn extremes(&self) -> [(usize, f32); 2] {
        let start = (self.first, self.source.at(self.row, self.first));
        self.elements().fold([start; 2], |[low, high], at| {
            [
                if at.1 < low.1 { at } else { low },
                if at.1 > high.1 { at } else { high },
            ]
        })
    }

    /// The line through both extremes, so that nothing clips.
    fn range(&self) -> Result<Line, PackError> {
        let [(low_col, low), (high_col, high)] = self.extremes();
        let highest = f32::from(level_range(FORMAT).1);
        let minimum = f16::from_f32(low);
        // From the minimum as it was rounded; the difference of the undivided ends might overflow.
        let scale = (high / highest - minimum.to_f32() / highest).max(0.0);
        let mut rounded = f16::from_f32(scale);
        let overflow = |col| PackError::Overflow { row: self.row, col };
        if minimum.is_infinite() {
            return Err(overflow(low_col));
        }
        if rounded.is_infinite() {
            return Err(overflow(high_col));
        }
        // Among the subnormals, rounding down may lose much of the scale and clip: take the next one up.
        if scale > rounded.to_f32() * (1.0 + 0.5 / highest) {
            rounded = f16::from_bits(rounded.to_bits() + 1);
        }
        Ok(Line {
            scale: rounded,
            minimum,
        })
    }

    fn least_squares(&self, importance: Option<&[f32]>) -> Result<Line, PackError> {
        let mut best = self.range()?;
        let mut error = self.error(best, importance);
        let [(_, low), (_, high)] = self.extremes();
        // Each end may move inwards by up to a quarter of the range, in steps of a thirty-second.
        for below in 0..=8 {
            for above in 0..=8 {
                let part = |steps: i32| (high - low) * (steps as f32 / 32.0);
                let (low, high) = (low + part(below), high - part(above));
                let candidate = Line {
                    scale: f16::from_f32((high - low) / f32::from(level_range(FORMAT).1)),
                    minimum: f16::from_f32(low),
                };
                for line in [candidate, self.refined(candidate, importance)] {
                    if !(line.scale.is_finite() && line.minimum.is_finite()) {
                        continue;
                    }
                    let new = self.error(line, importance);
                    if new < error {
                        (best, error) = (line, new);
                    }
                }
            }
        }
        Ok(best)
    }

    /// The line of least squares through the points (level, element) that `line` leads to.
    fn refined(&self, line: Line, importance: Option<&[f32]>) -> Line {
        let (mut n, mut q, mut x, mut qq, mut qx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (col, element) in self.elements() {
            let h = weight(importance, col);
            let (level, element) = (f64::from(level(element, line)), f64::from(element));
            n += h;
            q += h * level;
            x += h * element;
            qq += h * level * level;
            qx += h * level * element;
        }
        let determinant = n * qq - q * q;
        if determinant <= 0.0 {
            return line;
        }
        Line {
            scale: f16::from_f64((n * qx - q * x) / determinant),
            minimum: f16::from_f64((x * qq - q * qx) / determinant),
        }
    }

    fn error(&self, line: Line, importance: Option<&[f32]>) -> f64 {
        let square = |(col, element): (usize, f32)| {
            let weight_of = f64::from(line.scale) * f64::from(level(element, line));
            let difference = f64::from(element) - weight_of - f64::from(line.minimum);
            weight(importance, col) * difference * difference
        };
        self.elements().map(square).sum()
    }
}

fn level(x: f32, line: Line) -> i8 {
    let (lowest, highest) = level_range(FORMAT);
    quantize_above(x, line.minimum, line.scale, lowest, highest)
}
