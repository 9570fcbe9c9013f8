//! Packing as integers with given scales.

use half::f16;

use super::{PackError, Source, check_eq, lens, scale_index};
use crate::layout::{GROUP, PANEL, WeightFormat, cols_padded};

/// The integer that stands for `x` at this scale: x / scale rounded to nearest, ties to even, clamped to
/// `lowest..=highest`; 0 where the scale is 0.
pub fn quantize(x: f32, scale: f16, lowest: i8, highest: i8) -> i8 {
    let scale = scale.to_f32();
    if scale == 0.0 {
        return 0;
    }
    libm::rintf(x / scale).clamp(f32::from(lowest), f32::from(highest)) as i8
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
    check_integer(
        WeightFormat::I8Row,
        &source,
        scales,
        weights.len(),
        corrections.len(),
    )?;
    pack_i8(WeightFormat::I8Row, &source, scales, weights);
    for (row, correction) in corrections.iter_mut().enumerate() {
        let at = Integers {
            format: WeightFormat::I8Row,
            source: &source,
            scales,
        };
        *correction = -64
            * (0..cols)
                .map(|col| i32::from(at.get(row, col)))
                .sum::<i32>();
    }
    Ok(())
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
    corrections: &mut [f32],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    check_integer(
        WeightFormat::I8Group32,
        &source,
        scales,
        weights.len(),
        corrections.len(),
    )?;
    pack_i8(WeightFormat::I8Group32, &source, scales, weights);
    for (row, correction) in corrections.iter_mut().enumerate() {
        let at = Integers {
            format: WeightFormat::I8Group32,
            source: &source,
            scales,
        };
        let sum: f64 = (0..cols)
            .map(|col| f64::from(at.scale(row, col)) * f64::from(at.get(row, col)))
            .sum();
        *correction = (-64.0 * sum) as f32;
    }
    Ok(())
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
    check_integer(WeightFormat::I4Group32, &source, scales, weights.len(), 0)?;
    let at = Integers {
        format: WeightFormat::I4Group32,
        source: &source,
        scales,
    };
    // 64 bytes hold 8 columns of a panel: four in the low nibbles, the next four in the high ones.
    let steps = cols_padded(WeightFormat::I4Group32, cols) / 8;
    for (step, bytes) in weights.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        for (i, byte) in bytes.iter_mut().enumerate() {
            let (row, col) = (step / steps * PANEL + i / 4, step % steps * 8 + i % 4);
            let (low, high) = (at.get(row, col) + 8, at.get(row, col + 4) + 8);
            *byte = low as u8 | (high as u8) << 4;
        }
    }
    Ok(())
}

fn pack_i8(format: WeightFormat, source: &Source<'_>, scales: &[f16], weights: &mut [i8]) {
    let at = Integers {
        format,
        source,
        scales,
    };
    let steps = cols_padded(format, source.cols) / 4;
    for (step, bytes) in weights.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = at.get(step / steps * PANEL + i / 4, step % steps * 4 + i % 4);
        }
    }
}

/// The quantized matrix, computed when asked.
struct Integers<'a> {
    format: WeightFormat,
    source: &'a Source<'a>,
    scales: &'a [f16],
}

impl Integers<'_> {
    fn scale(&self, row: usize, col: usize) -> f16 {
        self.scales
            .get(scale_index(self.format, row, col, self.source.cols))
            .copied()
            .unwrap_or(f16::ZERO)
    }

    fn get(&self, row: usize, col: usize) -> i8 {
        let (lowest, highest) = levels(self.format);
        quantize(
            self.source.at(row, col),
            self.scale(row, col),
            lowest,
            highest,
        )
    }
}

/// The integers that a format uses.
pub(super) const fn levels(format: WeightFormat) -> (i8, i8) {
    match format {
        WeightFormat::I4Group32 => (-8, 7),
        _ => (-127, 127),
    }
}

fn check_integer(
    format: WeightFormat,
    source: &Source<'_>,
    scales: &[f16],
    weights: usize,
    corrections: usize,
) -> Result<(), PackError> {
    let need = lens(format, source)?;
    check_eq("weight scales", need.scales, scales.len())?;
    check_eq("packed weights", need.data, weights)?;
    check_eq("weight corrections", need.corrections, corrections)?;
    let units = if matches!(format, WeightFormat::I8Row) {
        1
    } else {
        source.cols.div_ceil(GROUP)
    };
    match scales.iter().position(|scale| !scale.is_finite()) {
        Some(at) => Err(PackError::NotFinite {
            row: at / (units * PANEL) * PANEL + at % PANEL,
            col: at / PANEL % units * GROUP,
        }),
        None => Ok(()),
    }
}
