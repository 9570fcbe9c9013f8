//! Packing as integers: floats rounded with given scales, or integers as they are.

use half::f16;

use super::{PackError, Source, check_eq, check_shape, lens, scale_index};
use crate::layout::{GROUP, PANEL, WeightFormat, WeightLens, cols_padded};

/// The integer that stands for `x` at this scale: x / scale rounded to nearest, ties to even, clamped to
/// `lowest..=highest`; 0 where the scale is 0.
pub fn quantize(x: f32, scale: f16, lowest: i8, highest: i8) -> i8 {
    quantize_above(x, f16::ZERO, scale, lowest, highest)
}

/// The integer that stands for `x` at this scale above this minimum: (x − minimum) / scale, rounded and clamped as
/// [`quantize`] does.
pub fn quantize_above(x: f32, minimum: f16, scale: f16, lowest: i8, highest: i8) -> i8 {
    let scale = scale.to_f32();
    if scale == 0.0 {
        return 0;
    }
    libm::rintf((x - minimum.to_f32()) / scale).clamp(f32::from(lowest), f32::from(highest)) as i8
}

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::I8Row`], with the scale of each row in `scales`.
///
/// # Errors
/// [`PackError`] for a wrong length, or an element or scale that is not finite.
pub fn pack_i8_row(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    scales: &[f16],
    weights: &mut [i8],
    corrections: &mut [i32],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    Integers::rounded(WeightFormat::I8Row, &source, scales, &[])?.write_i8_row(weights, corrections)
}

/// As [`pack_i8_row`] for a row-major matrix of integers in −128..=127, which keep their values. The scales are not
/// needed: copy them.
///
/// # Errors
/// [`PackError`] for a wrong length.
pub fn pack_i8_row_levels(
    rows: usize,
    cols: usize,
    levels: &[i8],
    weights: &mut [i8],
    corrections: &mut [i32],
) -> Result<(), PackError> {
    Integers::given(WeightFormat::I8Row, rows, cols, levels)?.write_i8_row(weights, corrections)
}

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::I8Group32`], with the scales in the place that
/// [`scale_index`] states.
///
/// # Errors
/// [`PackError`] for a wrong length, or an element or scale that is not finite.
pub fn pack_i8_group32(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    scales: &[f16],
    weights: &mut [i8],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    Integers::rounded(WeightFormat::I8Group32, &source, scales, &[])?.write_bytes(weights)
}

/// As [`pack_i8_group32`] for a row-major matrix of integers in −128..=127, which keep their values: what GGUF's Q8_0
/// holds, exactly. The scales are not needed: copy them.
///
/// # Errors
/// [`PackError`] for a wrong length.
pub fn pack_i8_group32_levels(
    rows: usize,
    cols: usize,
    levels: &[i8],
    weights: &mut [i8],
) -> Result<(), PackError> {
    Integers::given(WeightFormat::I8Group32, rows, cols, levels)?.write_bytes(weights)
}

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::I4Group32`], with the scales in the place that
/// [`scale_index`] states. A scale may be negative, which gives the larger side of a group the level −8.
///
/// # Errors
/// [`PackError`] for a wrong length, or an element or scale that is not finite.
pub fn pack_i4_group32(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    scales: &[f16],
    weights: &mut [u8],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    Integers::rounded(WeightFormat::I4Group32, &source, scales, &[])?.write_nibbles(weights)
}

/// As [`pack_i4_group32`] for a row-major matrix of integers in −8..=7, which keep their values: what GGUF's Q4_0
/// holds, exactly. The scales are not needed: copy them.
///
/// # Errors
/// [`PackError`] for a wrong length or another integer.
pub fn pack_i4_group32_levels(
    rows: usize,
    cols: usize,
    levels: &[i8],
    weights: &mut [u8],
) -> Result<(), PackError> {
    Integers::given(WeightFormat::I4Group32, rows, cols, levels)?.write_nibbles(weights)
}

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::U4Group32`], with the scales and the minima in the
/// place that [`scale_index`] states.
///
/// # Errors
/// [`PackError`] for a wrong length, or an element, scale or minimum that is not finite.
pub fn pack_u4_group32(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    scales: &[f16],
    minima: &[f16],
    weights: &mut [u8],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    Integers::rounded(WeightFormat::U4Group32, &source, scales, minima)?.write_nibbles(weights)
}

/// As [`pack_u4_group32`] for a row-major matrix of integers in 0..=15, which keep their values: what GGUF's Q4_1
/// holds, exactly. Scales and minima are not needed: copy them.
///
/// # Errors
/// [`PackError`] for a wrong length or another integer.
pub fn pack_u4_group32_levels(
    rows: usize,
    cols: usize,
    levels: &[i8],
    weights: &mut [u8],
) -> Result<(), PackError> {
    Integers::given(WeightFormat::U4Group32, rows, cols, levels)?.write_nibbles(weights)
}

/// Where the integers come from.
enum Origin<'a> {
    /// Floats, rounded when asked; the minima are empty for a format without.
    Rounded {
        source: &'a Source<'a>,
        minima: &'a [f16],
    },
    /// A row-major matrix.
    Given(&'a [i8]),
}

/// The matrix as integers. Outside its shape they are 0.
struct Integers<'a> {
    format: WeightFormat,
    rows: usize,
    cols: usize,
    lens: WeightLens,
    scales: &'a [f16],
    origin: Origin<'a>,
}

impl<'a> Integers<'a> {
    fn rounded(
        format: WeightFormat,
        source: &'a Source<'a>,
        scales: &'a [f16],
        minima: &'a [f16],
    ) -> Result<Self, PackError> {
        let (rows, cols) = (source.rows, source.cols);
        let integers = Integers {
            format,
            rows,
            cols,
            lens: lens(format, rows, cols)?,
            scales,
            origin: Origin::Rounded { source, minima },
        };
        integers.check_halves("weight scales", integers.lens.scales, scales)?;
        integers.check_halves("weight minima", integers.lens.minima, minima)?;
        Ok(integers)
    }

    fn given(
        format: WeightFormat,
        rows: usize,
        cols: usize,
        levels: &'a [i8],
    ) -> Result<Self, PackError> {
        check_shape(rows, cols, levels.len())?;
        let (lowest, highest) = match format {
            // The kernels' products are exact for −128 too, only rounding never makes it.
            WeightFormat::I8Row | WeightFormat::I8Group32 => (i8::MIN, i8::MAX),
            _ => level_range(format),
        };
        let beyond = |level: &i8| !(lowest..=highest).contains(level);
        if let Some(at) = levels.iter().position(beyond) {
            return Err(PackError::Level {
                row: at / cols,
                col: at % cols,
                lowest,
                highest,
            });
        }
        Ok(Integers {
            format,
            rows,
            cols,
            lens: lens(format, rows, cols)?,
            scales: &[],
            origin: Origin::Given(levels),
        })
    }

    /// That there are as many as need be, and all of them finite.
    fn check_halves(
        &self,
        what: &'static str,
        need: usize,
        halves: &[f16],
    ) -> Result<(), PackError> {
        check_eq(what, need, halves.len())?;
        let units = if matches!(self.format, WeightFormat::I8Row) {
            1
        } else {
            self.cols.div_ceil(GROUP)
        };
        match halves.iter().position(|half| !half.is_finite()) {
            Some(at) => Err(PackError::NotFinite {
                row: at / (units * PANEL) * PANEL + at % PANEL,
                col: at / PANEL % units * GROUP,
            }),
            None => Ok(()),
        }
    }

    fn scale(&self, row: usize, col: usize) -> f16 {
        let at = scale_index(self.format, row, col, self.cols);
        self.scales.get(at).copied().unwrap_or(f16::ZERO)
    }

    fn get(&self, row: usize, col: usize) -> i8 {
        if row >= self.rows || col >= self.cols {
            return 0;
        }
        match &self.origin {
            Origin::Given(levels) => levels.get(row * self.cols + col).copied().unwrap_or(0),
            Origin::Rounded { source, minima } => {
                let at = scale_index(self.format, row, col, self.cols);
                let minimum = minima.get(at).copied().unwrap_or(f16::ZERO);
                let (lowest, highest) = level_range(self.format);
                let x = source.at(row, col);
                quantize_above(x, minimum, self.scale(row, col), lowest, highest)
            }
        }
    }

    fn write_i8_row(&self, weights: &mut [i8], corrections: &mut [i32]) -> Result<(), PackError> {
        check_eq(
            "weight corrections",
            self.lens.corrections,
            corrections.len(),
        )?;
        self.write_bytes(weights)?;
        for (row, correction) in corrections.iter_mut().enumerate() {
            let levels = (0..self.cols).map(|col| i32::from(self.get(row, col)));
            *correction = -64 * levels.sum::<i32>();
        }
        Ok(())
    }

    fn write_bytes(&self, weights: &mut [i8]) -> Result<(), PackError> {
        check_eq("packed weights", self.lens.data, weights.len())?;
        let steps = cols_padded(self.format, self.cols) / 4;
        for (step, bytes) in weights.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = self.get(step / steps * PANEL + i / 4, step % steps * 4 + i % 4);
            }
        }
        Ok(())
    }

    fn write_nibbles(&self, weights: &mut [u8]) -> Result<(), PackError> {
        check_eq("packed weights", self.lens.data, weights.len())?;
        let lowest = level_range(self.format).0;
        // 64 bytes hold 8 columns of a panel: four in the low nibbles, the next four in the high ones.
        let steps = cols_padded(self.format, self.cols) / 8;
        for (step, bytes) in weights.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for (i, byte) in bytes.iter_mut().enumerate() {
                let (row, col) = (step / steps * PANEL + i / 4, step % steps * 8 + i % 4);
                let (low, high) = (self.get(row, col), self.get(row, col + 4));
                *byte = (low - lowest) as u8 | ((high - lowest) as u8) << 4;
            }
        }
        Ok(())
    }
}

/// The integers that rounding to a format uses.
pub(super) const fn level_range(format: WeightFormat) -> (i8, i8) {
    match format {
        WeightFormat::I4Group32 => (-8, 7),
        WeightFormat::U4Group32 => (0, 15),
        _ => (-127, 127),
    }
}
