//! Packing without quantization.

use half::f16;

use super::{PackError, Source, check_eq, lens};
use crate::layout::{PANEL, WeightFormat};

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::F32`].
///
/// # Errors
/// [`PackError`] for a wrong length or an element that is not finite.
pub fn pack_f32(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    weights: &mut [f32],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    check_eq(
        "packed weights",
        lens(WeightFormat::F32, rows, cols)?.data,
        weights.len(),
    )?;
    for (at, column) in weights.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (r, weight) in column.iter_mut().enumerate() {
            *weight = source.at(at / cols * PANEL + r, at % cols);
        }
    }
    Ok(())
}

/// Packs a row-major `(rows, cols)` matrix as [`WeightFormat::F16`], rounded to nearest even.
///
/// # Errors
/// [`PackError`] for a wrong length, an element that is not finite, or one that f16 cannot hold.
pub fn pack_f16(
    rows: usize,
    cols: usize,
    matrix: &[f32],
    weights: &mut [f16],
) -> Result<(), PackError> {
    let source = Source::new(rows, cols, matrix)?;
    check_eq(
        "packed weights",
        lens(WeightFormat::F16, rows, cols)?.data,
        weights.len(),
    )?;
    for (at, column) in weights.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (r, weight) in column.iter_mut().enumerate() {
            let (row, col) = (at / cols * PANEL + r, at % cols);
            *weight = f16::from_f32(source.at(row, col));
            if weight.is_infinite() {
                return Err(PackError::Overflow { row, col });
            }
        }
    }
    Ok(())
}
